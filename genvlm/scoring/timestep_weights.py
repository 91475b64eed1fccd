"""Weights of noise levels that tell classes apart best, learned on labelled pictures.

The published classifier weighs every level alike, the bound by its signal-to-noise ratios; neither
asks at which levels the text matters. Here the levels are cut into bins, and the weights of bins
are those under which softmax over classes of -sum_b w_b (mean error in bin b) gives the right
classes their largest likelihood. That is convex; w_b >= 0, since a larger error never speaks for a
class. P images, C classes, K pairs, B bins, T levels.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64, Int
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from genvlm.errors import ConfigError
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.nn.whole_files import write_whole

FILE = "timestep_weights.json"
NUM_BINS = 20
# Of the penalty on weights of standardised errors: too small to be felt with a few dozen pictures,
# enough to keep weights finite where every answer is right.
_RIDGE = 1e-3
_SCHEMA = 1
MEND = "run `genvlm classify --fit-timestep-weights` with labelled pictures"


@dataclass(frozen=True, kw_only=True)
class TimestepWeights:
    """Weights of equal bins of levels, from nearly clean to nearly noise."""

    model: str
    """Fingerprint of the model whose errors they were fitted on."""
    weights: tuple[float, ...]
    num_images: int
    """How many pictures they were fitted on, and on how many samples of each."""
    num_samples: int

    @property
    def fingerprint(self) -> str:
        """sha256 of the weights."""
        return fingerprint_of(list(self.weights))

    def by_level(self, num_levels: int) -> Float64[np.ndarray, " levels"]:
        """What a sample is multiplied with; the mean over levels is the sum over bins."""
        weights = np.array(self.weights)
        return len(weights) * weights[bin_of(np.arange(num_levels), num_levels, len(weights))]

    def check_model(self, fingerprint: str) -> None:
        """Raises ConfigError: they were fitted on another model."""
        if self.model != fingerprint:
            raise ConfigError(f"these timestep weights were fitted on another model: {MEND}")


def bin_of(levels: Int[np.ndarray, " n"], num_levels: int, num_bins: int) -> Int[np.ndarray, " n"]:
    """The bin of each level."""
    return levels * num_bins // num_levels


def samples_that_fill(num_bins: int, num_levels: int) -> int:
    """Nested samples that reach every bin at every seed.

    The first 2^k of them are a shifted grid with steps of 1 / 2^k: none steps over a bin that is as
    wide. With a lucky shift fewer do, never fewer than there are bins.
    """
    narrowest = num_levels // num_bins
    return 1 << (-(-num_levels // narrowest) - 1).bit_length()


def fit_timestep_weights(
    errors: Float[np.ndarray, "images classes pairs"],
    right: Int[np.ndarray, " images"],
    levels: Int[np.ndarray, " pairs"],
    num_levels: int,
    *,
    model: str,
    num_bins: int = NUM_BINS,
) -> TimestepWeights:
    """The weights of largest likelihood.

    Args:
        errors: mean squared errors.
        right: number of each image's class.
        model: its fingerprint.
        num_bins: fewer where the schedule has fewer levels.

    Raises:
        ConfigError: no image, or a bin without a sample.
    """
    if not len(errors):
        raise ConfigError("timestep weights are fitted on labelled pictures: give some")
    num_bins = min(num_bins, num_levels)
    bins = bin_of(np.asarray(levels), num_levels, num_bins)
    if empty := num_bins - len(np.unique(bins)):
        raise ConfigError(
            f"{empty} of {num_bins} bins of levels hold none of {len(levels)} samples: take "
            f"{samples_that_fill(num_bins, num_levels)} samples, which are enough at every seed"
        )
    means = np.stack([errors[:, :, bins == b].mean(2, dtype=np.float64) for b in range(num_bins)])
    # What classes of one image share decides nothing.
    means -= means.mean(2, keepdims=True)
    scales = np.maximum(means.std(axis=(1, 2)), np.finfo(np.float64).tiny)
    standardised = (means / scales[:, None, None]).transpose(1, 2, 0)
    found = minimize(
        _loss, np.zeros(num_bins), (standardised, np.asarray(right)),
        jac=True, method="L-BFGS-B", bounds=[(0, None)] * num_bins,
    )  # fmt: skip
    return TimestepWeights(
        model=model,
        weights=tuple((found.x / scales).tolist()),
        num_images=len(errors),
        num_samples=len(levels),
    )


def save_timestep_weights(weights: TimestepWeights, model_folder: Path) -> Path:
    """Write them beside the model, whose manifest and fingerprint do not include them."""
    path = model_folder / FILE
    write_whole(path, json.dumps({"schema": _SCHEMA} | asdict(weights), indent=1) + "\n")
    return path


def load_timestep_weights(model_folder: Path, fingerprint: str) -> TimestepWeights:
    """Read them for a model of this fingerprint.

    Raises:
        ConfigError: there are none, they cannot be read, or they are another model's.
    """
    path = model_folder / FILE
    if not path.is_file():
        raise ConfigError(f"{model_folder} has no learned timestep weights: {MEND}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("schema") != _SCHEMA:
            raise ValueError("another schema")
        weights = TimestepWeights(**content | {"weights": tuple(map(float, content["weights"]))})
        if not weights.weights or not all(0 <= w < np.inf for w in weights.weights):
            raise ValueError("weights must be finite, and 0 or more")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): remove it, then {MEND}") from None
    weights.check_model(fingerprint)
    return weights


def _loss(
    weights: Float64[np.ndarray, " bins"],
    standardised: Float64[np.ndarray, "images classes bins"],
    right: Int[np.ndarray, " images"],
) -> tuple[float, Float64[np.ndarray, " bins"]]:
    """Mean cross-entropy with its penalty, and the gradient."""
    rows, scores = np.arange(len(right)), -standardised @ weights
    residuals = softmax(scores, axis=1)
    residuals[rows, right] -= 1
    loss = -log_softmax(scores, axis=1)[rows, right].mean() + 0.5 * _RIDGE * (weights**2).sum()
    gradient = -np.einsum("ic,icb->b", residuals, standardised) / len(right)
    return float(loss), gradient + _RIDGE * weights
