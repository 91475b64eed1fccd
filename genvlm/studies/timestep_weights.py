"""Timestep weights fitted on one half of labelled pictures and reported on the other.

Uniform weights, those of the bound and the learned ones are judged on the same errors.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64

from genvlm.data.images import RGBImage
from genvlm.scoring.diffusion import DiffusionMethod, DiffusionScorer, level_weights
from genvlm.scoring.timestep_weights import TimestepWeights, fit_timestep_weights
from genvlm.studies.classification import share_right
from genvlm.studies.diffusion_elimination import class_samples
from genvlm.studies.elimination import Task
from genvlm.studies.halves import split_in_halves


class FittedWeights(NamedTuple):
    """Weights, and how often each way to weigh is right on pictures that they have not seen."""

    weights: TimestepWeights
    right: dict[str, dict[str, Any]]
    """By method, as `share_right` has it."""


def fit_and_report(
    scorer: DiffusionScorer,
    keys: Sequence[str],
    images: Sequence[RGBImage],
    task: Task,
    right: Int64[np.ndarray, " pictures"],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FittedWeights:
    """Fit on the first half, report on the second.

    Args:
        scorer: of squared errors, every level alike.
        right: numbers of the right classes.

    Raises:
        ConfigError: too few pictures, or too few samples for the bins.
    """
    first = split_in_halves(keys, fitted="a weight of timesteps")
    errors = -class_samples(scorer, images, task, progress=progress)
    model, levels = scorer.model, scorer.pairs.levels
    weights = fit_timestep_weights(
        errors[first], right[first], levels, len(model.schedule), model=model.fingerprint
    )
    methods: tuple[DiffusionMethod, ...] = ("squared_error", "elbo", "learned")
    shares: dict[str, dict[str, Any]] = {}
    for method in methods:
        learned = weights if method == "learned" else None
        by_pair = level_weights(model, method, learned)[levels]
        losses = (errors[~first] * by_pair).sum(2, dtype=np.float64)
        hits = int((losses.argmin(1) == right[~first]).sum())
        shares[method] = share_right(hits, len(losses))
    return FittedWeights(weights, shares)
