"""Uncertainty of benchmark results: intervals, tests, corrections. Shares are in [0, 1].

What is undefined (no item, a single cluster) is an `Undefined` with its reason, never NaN or 0.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.stats import norm

from genvlm.errors import EvaluationError

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95


class Undefined(NamedTuple):
    """A number that does not exist here, and why."""

    reason: str


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


class Comparison(NamedTuple):
    """Exact paired test of two scorers on the same items."""

    first_only: int
    """Items that only the first scorer gets right."""
    second_only: int
    p_value: float


def percentile_interval(
    replicates: Float64[np.ndarray, " resamples"], confidence: float = CONFIDENCE
) -> Interval:
    """The central share `confidence` of bootstrap replicates."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Interval(float(low), float(high))


def wilson_interval(
    num_right: float, num_items: int, confidence: float = CONFIDENCE
) -> Interval | Undefined:
    """Wilson score interval of one proportion of independent items."""
    if num_items == 0:
        return Undefined("no answered item")
    z = float(norm.ppf((1 + confidence) / 2))
    share = num_right / num_items
    spread = z * math.sqrt(share * (1 - share) / num_items + (z / (2 * num_items)) ** 2)
    scale = 1 + z**2 / num_items
    centre = share + z**2 / (2 * num_items)
    low = (centre - spread) / scale if num_right > 0 else 0.0
    high = (centre + spread) / scale if num_right < num_items else 1.0
    return Interval(low, high)


def mcnemar_exact(
    first: Mapping[str, bool],
    second: Mapping[str, bool],
    groups: Mapping[str, str] | None = None,
) -> Comparison | Undefined:
    """Exact two-sided test, paired by item id: McNemar's, or of whole groups.

    Args:
        groups: group by item; by default each item is its own, which is McNemar's test. If the
            scorers are equally good, the two may be exchanged in any group, whose items need not be
            independent: p is the share of all such exchanges with a difference as large or larger.

    Raises:
        EvaluationError: the two scorers were not run on the same items.
    """
    if first.keys() != second.keys():
        odd = sorted(first.keys() ^ second.keys())
        raise EvaluationError(
            f"two scorers can be compared on the same items only; {len(odd)} ids are in one log "
            f"alone, such as {odd[0]!r}"
        )
    first_only = sum(first[i] and not second[i] for i in first)
    second_only = sum(second[i] and not first[i] for i in first)
    if first_only + second_only == 0:
        return Undefined("the scorers agree on every item")
    differences: Counter[str] = Counter()
    for item in first:
        differences[item if groups is None else groups[item]] += first[item] - second[item]
    return Comparison(first_only, second_only, _exchange_p_value(list(differences.values())))


def _exchange_p_value(differences: Sequence[int]) -> float:
    """Share of all choices of signs whose sum is as far from 0 as that of the differences."""
    sizes = [abs(difference) for difference in differences if difference]
    # Of each sum of those sizes whose sign is plus: its probability.
    shares = np.zeros(sum(sizes) + 1)
    shares[0] = 1
    for size in sizes:
        shares /= 2
        shares[size:] += shares[:-size].copy()
    sums = 2 * np.arange(len(shares)) - sum(sizes)
    return min(1.0, float(shares[abs(sums) >= abs(sum(differences))].sum()))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment of several p values; names are kept."""
    adjusted: dict[str, float] = {}
    running = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda key: p_values[key])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p_values}


def detectable_difference(
    num_items: int, share: float = 0.5, power: float = 0.8, confidence: float = CONFIDENCE
) -> float | Undefined:
    """Smallest difference of two shares that `num_items` independent items each would show.

    Two-sided normal approximation, both scorers near `share`; paired scorers that err on the same
    items detect less than this.
    """
    if num_items == 0:
        return Undefined("no answered item")
    z = float(norm.ppf((1 + confidence) / 2) + norm.ppf(power))
    return z * math.sqrt(2 * share * (1 - share) / num_items)
