"""How far a diffusion model's prediction is off, for any rows (image, text, pair).

Exhaustive scoring and elimination both stand on these rows; where the errors of all rows are known,
elimination can be replayed without a network.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from genvlm.data.images import RGBImage
from genvlm.models.diffusion.model import Conditioning, DiffusionModel
from genvlm.scoring.noise_pairs import NoisePairs

ErrorKind = Literal["squared", "absolute"]
Precision = Literal["float32", "bfloat16"]

# Numbers of the latents of one pass of the network: 256 rows of 8 x 8 x 8; a GPU wants more, which
# are 64 rows of Stable Diffusion's. Texts of one pass of the text encoder.
_NUMBERS_CPU, _NUMBERS_GPU, _TEXTS_PER_BATCH = 2**17, 2**20, 64
# Numbers of noise that are kept (256 MB); more are drawn again for every batch.
_KEPT_NUMBERS = 2**26


class PairedErrors:
    """Errors of one model on some images and texts, at pairs that all of them share.

    An error is the mean over dimensions of the squared or absolute difference between what the
    network is to predict (noise, v or velocity) and what it predicts.

    Args:
        precision: in which the network computes; differences are float32, float64 of a float64
            network.

    Raises:
        ConfigError: a level outside of the model's schedule.
        TokenError: a text longer than the text encoder takes.
    """

    def __init__(
        self,
        model: DiffusionModel,
        images: Sequence[RGBImage],
        texts: Sequence[str],
        pairs: NoisePairs,
        *,
        kind: ErrorKind = "squared",
        precision: Precision = "float32",
    ) -> None:
        model.schedule.check(pairs.levels)
        self._model, self._pairs, self._kind = model, pairs, kind
        self._precision = precision
        numbers = _NUMBERS_CPU if model.device.type == "cpu" else _NUMBERS_GPU
        self._rows_per_batch = max(1, numbers // math.prod(model.latents.shape))
        self.latents = model.latents.encode(images).to(model.dtype)
        """Of every image, on the CPU."""
        self._conditioning = _read(model, texts)
        every = np.arange(len(pairs))
        small = len(pairs) * math.prod(model.latents.shape) <= _KEPT_NUMBERS
        self._kept_noise = self._draw(every) if small else None

    @torch.inference_mode()
    def __call__(
        self,
        images: Int[np.ndarray, " rows"],
        texts: Int[np.ndarray, " rows"],
        pairs: Int[np.ndarray, " rows"],
    ) -> Float64[np.ndarray, " rows"]:
        """The error of each row; rows of one image and pair that stand together share their x_t.

        Raises:
            ModelError: a prediction is not finite.
        """
        found = np.empty(len(images))
        for start in range(0, len(images), self._rows_per_batch):
            part = slice(start, start + self._rows_per_batch)
            found[part] = self._errors(images[part], texts[part], pairs[part]).cpu().numpy()
        return found

    def _errors(
        self,
        images: Int[np.ndarray, " rows"],
        texts: Int[np.ndarray, " rows"],
        pairs: Int[np.ndarray, " rows"],
    ) -> Float[Tensor, " rows"]:
        model, device = self._model, self._model.device
        asked, of_row = np.unique(images * len(self._pairs) + pairs, return_inverse=True)
        image, pair = np.divmod(asked, len(self._pairs))
        levels = torch.from_numpy(self._pairs.levels[pair])
        x = self.latents[torch.from_numpy(image)].to(device)
        noise = self._draw(pair) if self._kept_noise is None else self._kept_noise[pair]
        x_t = model.schedule.add_noise(x, noise, levels)
        target = model.schedule.target(x, noise, levels, model.prediction)
        rows = torch.from_numpy(of_row)
        taken = self._conditioning.take(torch.from_numpy(texts).to(device))
        low = self._precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            predicted = model.predict(x_t[rows.to(device)], levels[rows], taken)
        difference = (target[rows.to(device)] - predicted).flatten(1)
        error = difference.square() if self._kind == "squared" else difference.abs()
        # float64: texts differ in the last digits of sums over many dimensions.
        return error.mean(1, dtype=torch.float64)

    def _draw(self, pairs: Int[np.ndarray, " chosen"]) -> Float[Tensor, "chosen c h w"]:
        return self._pairs.noise(pairs, self._model.latents.shape).to(self._model.device)


def _read(model: DiffusionModel, texts: Sequence[str]) -> Conditioning:
    """Every text, a few at a time, padded to the longest."""
    read = [
        model.read(texts[start : start + _TEXTS_PER_BATCH])
        for start in range(0, len(texts), _TEXTS_PER_BATCH)
    ]
    length = max(part.mask.shape[1] for part in read)
    padded = [
        Conditioning(
            torch.nn.functional.pad(part.states, (0, 0, 0, length - part.mask.shape[1])),
            torch.nn.functional.pad(part.mask, (0, length - part.mask.shape[1])),
        )
        for part in read
    ]
    return Conditioning(*(torch.cat(columns) for columns in zip(*padded, strict=True)))
