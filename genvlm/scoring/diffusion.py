"""Scorer of diffusion models: how well a text lets the network tell the noise of a picture.

Li et al. 2023 ("Your Diffusion Model is Secretly a Zero-Shot Classifier", arXiv 2303.16203). Every
text of every picture is asked at the same pairs of noise level and noise; a score is the mean over
pairs of the weighted, negated error of the prediction. Only the weights of the evidence lower bound
give nats: those of log p(latent | text), per picture, from below.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError
from genvlm.models.diffusion.model import DiffusionModel
from genvlm.scoring.noise_pairs import Spread, draw_pairs
from genvlm.scoring.paired_errors import PairedErrors, Precision
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores, Unit
from genvlm.scoring.timestep_weights import TimestepWeights

DiffusionMethod = Literal["squared_error", "absolute_error", "elbo", "learned"]
"""squared_error, absolute_error: the published classifier, every level alike. elbo: the bound, in
nats. learned: squared errors under weights of levels that were fitted on validation."""

SampleScores = Callable[
    [Int[np.ndarray, " rows"], Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]],
    Float64[np.ndarray, " rows"],
]
"""The score of each row (image, text, pair); that of an image and a text is their mean."""

NUM_SAMPLES = 64
# Of grids that are scored together: rows of the network, and texts whose states are kept.
_ROWS_TOGETHER, _TEXTS_TOGETHER = 2**18, 512


class DiffusionScorer:
    """log p(latent | text) from below, or the published classifier's loss; higher is better.

    Args:
        num_samples: pairs of level and noise, and so passes of the network, a picture and text.
        seed: of levels and noises.
        spread: of the levels; "even" is the published grid.
        weights: for the method learned.
        precision: in which the network computes.
        keep_samples: leave the sample scores out where they would fill the memory.

    Raises:
        ConfigError: no sample, weights missing or of another model, an ELBO that does not exist.
    """

    def __init__(
        self,
        model: DiffusionModel,
        method: DiffusionMethod = "squared_error",
        *,
        num_samples: int = NUM_SAMPLES,
        seed: int = 0,
        spread: Spread = "nested",
        weights: TimestepWeights | None = None,
        precision: Precision = "float32",
        keep_samples: bool = True,
    ) -> None:
        if (method == "learned") != (weights is not None):
            raise ConfigError("timestep weights go with the method learned, and it needs them")
        if weights is not None:
            weights.check_model(model.fingerprint)
        if method == "elbo" and spread == "even" and num_samples != len(model.schedule):
            # It leaves levels out, among them the decoder's, whose terms no others make up for.
            raise ConfigError(
                "evenly spaced levels estimate the bound where they are all of them: take nested "
                f"ones, or {len(model.schedule)} samples"
            )
        self.model, self.method = model, method
        self.pairs = draw_pairs(num_samples, len(model.schedule), seed, spread)
        self._precision, self._keep_samples = precision, keep_samples
        self._by_level = level_weights(model, method, weights)
        settings: dict[str, object] = {
            "kind": "diffusion",
            "model": model.fingerprint,
            "method": method,
            "num_samples": num_samples,
            "seed": seed,
            "spread": spread,
            "dtype": precision,
        }
        if weights is not None:
            settings["weights"] = weights.fingerprint
        unit: Unit = "bound_nats" if method == "elbo" else "reweighted_loss"
        name = {"elbo": "diffusion bound on log p(image | text)", "learned": "diffusion loss under "
                "learned weights"}.get(method, f"diffusion {method.replace('_', ' ')}")  # fmt: skip
        self.info = ScorerInfo(name=name, unit=unit, settings=settings)

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Scores and their samples.

        Raises:
            TokenError: a text longer than the text encoder takes.
            ModelError: a prediction is not finite.
        """
        return [scores for part in self._parts(grids) for scores in self._score(part)]

    def sample_scores(self, images: Sequence[RGBImage], texts: Sequence[str]) -> SampleScores:
        """What every exhaustive or partial score of these images and texts is the mean of."""
        kind: Literal["absolute", "squared"] = (
            "absolute" if self.method == "absolute_error" else "squared"
        )
        errors = PairedErrors(
            self.model, images, texts, self.pairs, kind=kind, precision=self._precision
        )
        constants = np.zeros(len(images))
        if self.method == "elbo":
            latents = errors.latents.flatten(1).double().numpy()
            constants = self.model.schedule.constant_nats(latents)
        by_pair = self._by_level[self.pairs.levels]

        def score(
            images: Int[np.ndarray, " rows"],
            texts: Int[np.ndarray, " rows"],
            pairs: Int[np.ndarray, " rows"],
        ) -> Float64[np.ndarray, " rows"]:
            found: Float64[np.ndarray, " rows"] = errors(images, texts, pairs)
            return -(constants[images] + by_pair[pairs] * found)

        return score

    def _score(self, grids: Sequence[Grid]) -> Iterator[Scores]:
        numbers: dict[str, int] = {}
        for grid in grids:
            for text in grid.texts:
                numbers.setdefault(text, len(numbers))
        images = [image for grid in grids for image in grid.images]
        columns, shapes, first = [], [], 0
        for grid in grids:
            texts = np.array([numbers[text] for text in grid.texts])
            shown = first + np.arange(len(grid.images))
            # Texts last: those of one image and pair stand together and share its x_t.
            axes = np.meshgrid(shown, np.arange(len(self.pairs)), texts, indexing="ij")
            columns.append([axis.ravel() for axis in axes])
            shapes.append(axes[0].shape)
            first += len(grid.images)
        image_of, pair_of, text_of = (np.concatenate(c) for c in zip(*columns, strict=True))
        found = self.sample_scores(images, list(numbers))(image_of, text_of, pair_of)
        ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
        for samples, shape in zip(np.split(found, ends), shapes, strict=True):
            by_text = samples.reshape(shape).transpose(0, 2, 1)
            kept = by_text.astype(np.float32) if self._keep_samples else None
            yield Scores(by_text.mean(2), samples=kept)

    def _parts(self, grids: Sequence[Grid]) -> Iterator[list[Grid]]:
        """Grids that are scored together, so that small ones fill the batches of the network."""
        part: list[Grid] = []
        rows, texts = 0, set[str]()
        for grid in grids:
            more = len(grid.images) * len(grid.texts) * len(self.pairs)
            if part and (
                rows + more > _ROWS_TOGETHER or len(texts | set(grid.texts)) > _TEXTS_TOGETHER
            ):
                yield part
                part, rows, texts = [], 0, set()
            part.append(grid)
            rows += more
            texts |= set(grid.texts)
        if part:
            yield part


def level_weights(
    model: DiffusionModel, method: DiffusionMethod, weights: TimestepWeights | None = None
) -> Float64[np.ndarray, " levels"]:
    """What the mean error over dimensions is multiplied with at each level.

    Of the bound: levels are drawn evenly, so that its sum over T levels is T times the mean.
    """
    num_levels = len(model.schedule)
    if method == "elbo":
        num_dims = np.prod(model.latents.shape)
        in_nats: Float64[np.ndarray, " levels"] = (
            num_levels * num_dims * model.schedule.elbo_weights(model.prediction)
        )
        return in_nats
    if weights is not None:
        return weights.by_level(num_levels)
    return np.ones(num_levels)
