"""Which classes are surely behind the leader, by scores at the same pairs of level and noise."""

import math
from functools import cache

import numpy as np
from jaxtyping import Bool, Float64, Int
from scipy.stats import norm, t

# Weight of the variance that the classes of an image share, in samples: with 4 samples a class' own
# variance says little, and a class that seems to have none would be dropped at once.
_SHARED_SAMPLES = 8
# Differences of neighbours estimate a variance 2/3 as well as deviations from a mean do.
_FREEDOM_OF_A_DIFFERENCE = 2 / 3


def surely_behind(
    scores: Float64[np.ndarray, "classes pairs"],
    levels: Int[np.ndarray, " pairs"],
    num_pairs: int,
    threshold: float,
    offsets: Float64[np.ndarray, " classes"],
) -> Bool[np.ndarray, " classes"]:
    """True for classes that will not win once all pairs are asked.

    A one-sided paired test: the mean difference from the leader over its standard error, beyond the
    quantile of Student's distribution that is as rare as `threshold` normal standard errors.

    Args:
        levels: of these pairs.
        num_pairs: how many there are in all. Only those that are not among these are uncertain.
        offsets: added to the means, such as a prior.
    """
    means = scores.mean(1) + offsets
    leader = means.argmax()
    behind = means[leader] - means
    variances = paired_variances(scores, levels, int(leader))
    num_rivals, num = len(scores) - 1, scores.shape[1]
    freedom = _FREEDOM_OF_A_DIFFERENCE * (num - 1)
    if num_rivals > 1:
        variances = _SHARED_SAMPLES * variances.sum() / num_rivals + (num - 1) * variances
        variances /= _SHARED_SAMPLES + num - 1
        freedom += _SHARED_SAMPLES
    errors = np.sqrt(variances / num * (1 - num / num_pairs))
    quantile = _quantile(threshold, freedom)
    if math.isinf(quantile):
        return np.zeros(len(scores), bool)
    found: Bool[np.ndarray, " classes"] = behind > quantile * errors
    return found


@cache
def _quantile(threshold: float, freedom: float) -> float:
    """Of Student's distribution, as rare as `threshold` of the normal one."""
    return float(t.isf(norm.sf(threshold), freedom))


def paired_variances(
    scores: Float64[np.ndarray, "classes pairs"], levels: Int[np.ndarray, " pairs"], leader: int
) -> Float64[np.ndarray, " classes"]:
    """Variance of one sample's difference from the leader, without what levels differ by.

    Pairs are spread over the levels, so that what changes smoothly with the level does not make the
    mean uncertain. Half the squared difference of two neighbouring levels, on average, is the
    variance of the rest (von Neumann 1941).
    """
    differences = (scores[leader] - scores)[:, np.argsort(levels, kind="stable")]
    variances: Float64[np.ndarray, " classes"] = 0.5 * (np.diff(differences, axis=1) ** 2).mean(1)
    return variances


def threshold_of_confidence(confidence: float, num_comparisons: int) -> float:
    """Standard errors of a one-sided test at this confidence in all comparisons (Bonferroni)."""
    return float(norm.isf((1 - confidence) / max(1, num_comparisons)))
