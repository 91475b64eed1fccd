"""Gaussian data with the denoiser that is optimal for it: every number is known in closed form.

x of class c is N(mean_c, diag deviation_c^2); the text that says nothing stands for the mixture of
all classes. C classes, D dimensions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int, UInt8
from torch import Tensor, nn

from genvlm.errors import TokenError
from genvlm.models.diffusion.model import Denoiser, DiffusionModel
from genvlm.models.diffusion.schedule import NoiseSchedule, Prediction

# Numbers in [-8, 8) as three bytes each.
_RANGE, _STEPS = 8.0, 2**24


def class_text(number: int) -> str:
    """The text of a class."""
    return f"class {number}"


def gaussian_diffusion(
    means: Float64[np.ndarray, "classes dims"],
    deviations: Float64[np.ndarray, "classes dims"],
    schedule: NoiseSchedule,
    prediction: Prediction,
) -> DiffusionModel:
    """The model whose predictions are expectations under this data; equal weights of classes."""
    network = GaussianDenoiser(means, deviations, schedule, prediction)
    return DiffusionModel(
        denoiser=Denoiser(network, _ClassEncoder(len(means))),
        schedule=schedule,
        prediction=prediction,
        latents=NumberPictures(means.shape[1]),
        texts=ClassTexts(),
        condition_dropout=0.1,
        fingerprint=f"gaussian {means.tolist()} {deviations.tolist()} {prediction}",
    )


class GaussianDenoiser(nn.Module):
    """E[x | x_t, class] as noise, v or velocity."""

    def __init__(
        self,
        means: Float64[np.ndarray, "classes dims"],
        deviations: Float64[np.ndarray, "classes dims"],
        schedule: NoiseSchedule,
        prediction: Prediction,
    ) -> None:
        super().__init__()
        self.means = nn.Parameter(torch.from_numpy(means), requires_grad=False)
        self.variances = nn.Parameter(torch.from_numpy(deviations) ** 2, requires_grad=False)
        self.times = nn.Parameter(torch.from_numpy(schedule.times).float(), requires_grad=False)
        self.schedule, self.prediction = schedule, prediction

    def forward(
        self,
        x_t: Float[Tensor, "batch 1 1 dims"],
        times: Float[Tensor, " batch"],
        states: Float[Tensor, "batch 1 classes"],
        mask: Bool[Tensor, "batch 1"],
    ) -> Float[Tensor, "batch 1 1 dims"]:
        """The prediction."""
        levels = (self.times[None] == times[:, None]).int().argmax(1)
        noisy = x_t.double().flatten(1)
        alpha, sigma = self.schedule.coefficients(levels, noisy)
        weights = self._responsibilities(noisy, alpha, sigma, states[:, 0].double())
        gain = alpha[..., None] * self.variances
        gain = gain / (alpha[..., None] ** 2 * self.variances + sigma[..., None] ** 2)
        by_class = self.means + gain * (noisy[:, None] - alpha[..., None] * self.means)
        x = torch.einsum("bc,bcd->bd", weights, by_class)
        if self.prediction == "flow":
            predicted = (noisy - (alpha + sigma) * x) / sigma
        else:
            predicted = (noisy - alpha * x) / sigma
            if self.prediction == "v_prediction":
                predicted = alpha * predicted - sigma * x
        return predicted.view(x_t.shape)

    def _responsibilities(
        self,
        noisy: Float[Tensor, "batch dims"],
        alpha: Float[Tensor, "batch 1"],
        sigma: Float[Tensor, "batch 1"],
        prior: Float[Tensor, "batch classes"],
    ) -> Float[Tensor, "batch classes"]:
        """p(class | x_t) under each row's prior of classes."""
        variances = alpha[..., None] ** 2 * self.variances + sigma[..., None] ** 2
        distances = (noisy[:, None] - alpha[..., None] * self.means) ** 2 / variances
        log_density = -0.5 * (distances + variances.log()).sum(-1)
        return torch.softmax(log_density + prior.log(), -1)


class ClassTexts:
    """ "class 3" is piece 4, and "" piece 0."""

    fingerprint = "class texts"

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[Int[Tensor, "texts 1"], Bool[Tensor, "texts 1"]]:
        """Raises TokenError: a text that names no class."""
        pieces = []
        for text in texts:
            word, _, number = text.partition(" ")
            if text and not (word == "class" and number.isdecimal()):
                raise TokenError(f"{text!r} names no class")
            pieces.append(int(number) + 1 if text else 0)
        return torch.tensor(pieces)[:, None], torch.ones(len(pieces), 1, dtype=torch.bool)


class _ClassEncoder(nn.Module):
    """A piece as weights of all classes."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        table = torch.cat([torch.full((1, num_classes), 1 / num_classes), torch.eye(num_classes)])
        self.table = nn.Parameter(table, requires_grad=False)

    def forward(
        self, pieces: Int[Tensor, "texts 1"], mask: Bool[Tensor, "texts 1"]
    ) -> Float[Tensor, "texts 1 classes"]:
        """Weights."""
        return self.table[pieces]


class NumberPictures:
    """Numbers in [-8, 8) written as pictures of one row: three bytes are one number."""

    fingerprint = "number pictures"

    def __init__(self, num_dims: int) -> None:
        self.shape = (1, 1, num_dims)

    def encode(
        self, images: Sequence[UInt8[np.ndarray, "1 dims 3"]]
    ) -> Float[Tensor, "images 1 1 dims"]:
        """Their numbers."""
        numbers = [numbers_of(image) for image in images]
        return torch.from_numpy(np.stack(numbers)).float().view(-1, *self.shape)

    def decode(
        self, latents: Float[Tensor, "images 1 1 dims"]
    ) -> UInt8[np.ndarray, "images 1 dims 3"]:
        """Their pictures."""
        return np.stack([picture_of(row.flatten().double().numpy()) for row in latents])


def picture_of(numbers: Float64[np.ndarray, " dims"]) -> UInt8[np.ndarray, "1 dims 3"]:
    """A picture that stands for these numbers, up to 1e-6."""
    if not (np.abs(numbers) < _RANGE).all():
        raise ValueError(f"numbers must be within {_RANGE:g} of 0")
    steps = np.minimum(((numbers + _RANGE) / (2 * _RANGE) * _STEPS).astype(np.int64), _STEPS - 1)
    return np.stack([steps >> 16, steps >> 8 & 255, steps & 255], -1).astype(np.uint8)[None]


def numbers_of(image: UInt8[np.ndarray, "1 dims 3"]) -> Float64[np.ndarray, " dims"]:
    """The numbers that a picture stands for."""
    red, green, blue = image[0].astype(np.int64).T
    numbers: Float64[np.ndarray, " dims"] = (red << 16 | green << 8 | blue) + 0.5
    return numbers / _STEPS * 2 * _RANGE - _RANGE
