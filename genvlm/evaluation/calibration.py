"""How far posteriors can be trusted: calibration error, temperature, risk against coverage.

Every function takes log posteriors in nats, one row an item, each row summing to 1 as
probabilities, and the index of the right class of each item. The predicted class is the most
probable one (the first of equals) and its probability is the confidence. Arithmetic is float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.optimize import brentq
from scipy.special import log_softmax, logsumexp, softmax

from genvlm.errors import EvaluationError
from genvlm.evaluation.statistics import Undefined

# float32 posteriors over some thousand classes sum to 1 within this.
_NORMALIZATION_TOLERANCE = 1e-3
_LOWEST_INVERSE = 1e-6  # of a temperature


class RiskCoverage(NamedTuple):
    """Selective prediction: answer the most confident items only."""

    coverage: Float64[np.ndarray, " items"]
    """Share of items answered, 1/n to 1."""
    risk: Float64[np.ndarray, " items"]
    """Share of wrong answers among them."""


def expected_calibration_error(
    log_posteriors: Float64[np.ndarray, "items classes"],
    right_classes: Int64[np.ndarray, " items"],
    num_bins: int = 15,
) -> float | Undefined:
    """Mean of |accuracy - confidence| over equal-width bins of confidence, weighted by items.

    Bins hold their lower edge and not their upper one, so confidence 1 stands alone, as in
    torchmetrics (`multiclass_calibration_error`, norm l1), which computes in float32.
    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599.
    """
    if num_bins < 1:
        raise EvaluationError(f"calibration needs at least 1 bin, got {num_bins}")
    log_posteriors, right_classes = _check(log_posteriors, right_classes)
    if len(log_posteriors) == 0:
        return Undefined("no answered item")
    confidence, right = _predict(log_posteriors, right_classes)
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.searchsorted(edges, confidence, side="right") - 1
    gaps = np.bincount(bins, weights=right - confidence)
    return float(np.abs(gaps).sum() / len(confidence))


def fit_temperature(
    log_posteriors: Float64[np.ndarray, "items classes"],
    right_classes: Int64[np.ndarray, " items"],
) -> float | Undefined:
    """The temperature at which validation items are most likely; above 1 for overconfidence.

    The mean log-likelihood of log_softmax(log_posteriors / temperature) is concave in
    1 / temperature, so its one maximum is where its slope, the right class's log posterior minus
    the expected one, crosses 0. Undefined where there is none: no wrong class is likelier than the
    right one (0 would be best), or the right class is no likelier than a class drawn at random
    (infinity would be best; above a million counts as that).
    """
    log_posteriors, right_classes = _check(log_posteriors, right_classes)
    if len(log_posteriors) == 0:
        return Undefined("no answered item")
    right = log_posteriors[np.arange(len(log_posteriors)), right_classes]

    def slope(inverse: float) -> float:
        expected = (softmax(inverse * log_posteriors, axis=1) * log_posteriors).sum(axis=1)
        return float((right - expected).mean())

    if (right == log_posteriors.max(axis=1)).all():
        return Undefined("no wrong class is likelier than a right one: no temperature is best")
    if slope(_LOWEST_INVERSE) <= 0:
        return Undefined("right classes are no likelier than others: no temperature helps")
    upper = 1.0
    while slope(upper) > 0:
        upper *= 2
    return 1 / float(brentq(slope, _LOWEST_INVERSE, upper, xtol=1e-12))


def apply_temperature(
    log_posteriors: Float64[np.ndarray, "items classes"], temperature: float
) -> Float64[np.ndarray, "items classes"]:
    """Log posteriors softened (above 1) or sharpened (below 1) by a temperature."""
    if not 0 < temperature < np.inf:
        raise EvaluationError(f"a temperature is finite and above 0, got {temperature}")
    return log_softmax(np.asarray(log_posteriors, np.float64) / temperature, axis=1)


def risk_coverage(
    log_posteriors: Float64[np.ndarray, "items classes"],
    right_classes: Int64[np.ndarray, " items"],
) -> RiskCoverage | Undefined:
    """The curve of risk against coverage, items answered in order of falling confidence.

    Items of equal confidence come in no order: each bears their mean error, so that the curve does
    not depend on the order of the items.
    Source: Geifman and El-Yaniv 2017, https://arxiv.org/abs/1705.08500.
    """
    log_posteriors, right_classes = _check(log_posteriors, right_classes)
    if len(log_posteriors) == 0:
        return Undefined("no answered item")
    confidence, right = _predict(log_posteriors, right_classes)
    _, level, count = np.unique(-confidence, return_inverse=True, return_counts=True)
    mean_error = np.bincount(level, weights=~right) / count
    counted = np.arange(1, len(confidence) + 1)
    errors = np.repeat(mean_error, count)
    return RiskCoverage(counted / len(confidence), np.cumsum(errors) / counted)


def area_under_risk_coverage(curve: RiskCoverage) -> float:
    """Mean risk over the coverages 1/n to 1: lower is better, a random order gives the error rate.

    Source: Geifman, Uziel and El-Yaniv 2019, https://arxiv.org/abs/1805.08206.
    """
    return float(curve.risk.mean())


def _predict(
    log_posteriors: Float64[np.ndarray, "items classes"], right_classes: Int64[np.ndarray, " items"]
) -> tuple[Float64[np.ndarray, " items"], Bool[np.ndarray, " items"]]:
    """Confidence of each item, and whether its prediction is right."""
    confidence = np.minimum(np.exp(log_posteriors.max(axis=1)), 1.0)
    return confidence, log_posteriors.argmax(axis=1) == right_classes


def _check(
    log_posteriors: np.ndarray, right_classes: np.ndarray
) -> tuple[Float64[np.ndarray, "items classes"], Int64[np.ndarray, " items"]]:
    """Both as arrays. Raises EvaluationError unless they are finite, normalised and fit."""
    log_posteriors = np.asarray(log_posteriors, np.float64)
    right_classes = np.asarray(right_classes)
    if log_posteriors.ndim != 2 or right_classes.shape != log_posteriors.shape[:1]:
        raise EvaluationError(
            "calibration needs log posteriors [items, classes] and right classes [items], got "
            f"shapes {log_posteriors.shape} and {right_classes.shape}"
        )
    if not np.isfinite(log_posteriors).all():
        row = int(np.argwhere(~np.isfinite(log_posteriors))[0, 0])
        raise EvaluationError(f"item number {row} has a log posterior that is NaN or infinite")
    if not len(log_posteriors):
        return log_posteriors, right_classes
    excess = np.abs(logsumexp(log_posteriors, axis=1))
    if excess.max() > _NORMALIZATION_TOLERANCE:
        raise EvaluationError(
            f"the posteriors of item number {int(excess.argmax())} do not sum to 1: pass log "
            "posteriors, not scores"
        )
    num_classes = log_posteriors.shape[1]
    whole = np.issubdtype(right_classes.dtype, np.integer)
    if not whole or right_classes.min() < 0 or right_classes.max() >= num_classes:
        raise EvaluationError(f"right classes are indices 0 to {num_classes - 1}")
    return log_posteriors, right_classes
