"""What each decision rule measures: the parts of every item, and the numbers made of their sums.

Means, ratios and other functions of counts are computed from sums of parts over items, so that
thousands of resamples cost one matrix product. A correlation needs the items themselves.

Shape letters: I items, P parts of the rule, M metrics of the rule, R any leading dimensions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Bool, Float

from genvlm.errors import EvaluationError
from genvlm.evaluation.rules import Credit

Unit = Literal["percent", "number"]

Evidence: TypeAlias = np.ndarray | Mapping[str, str | None]
"""A score matrix (images, texts), or the parsed answer to each question of the item by its id;
None where no answer could be read."""
Target: TypeAlias = Any
"""What is right: plain JSON, in the form that the rule says."""
Sums: TypeAlias = Float[np.ndarray, "*R P"]


class Judged(NamedTuple):
    """One piece of evidence for each item, with its target and the id that errors name."""

    evidence: Sequence[Evidence]
    targets: Sequence[Target]
    ids: Sequence[str]


class Parts(NamedTuple):
    """What items add to the sums that metrics are made of."""

    strict: Float[np.ndarray, "I P"]
    """A tie, or an answer that could not be read, counts as wrong."""
    half: Float[np.ndarray, "I P"]
    """It is decided by chance."""
    tied: Bool[np.ndarray, "I M"]
    """Whether the two differ, by metric."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a rule; exactly one of the two functions is given."""

    of_sums: Callable[[Sums], np.ndarray] | None = None
    """From sums (R, P) to values (R); NaN where it is undefined."""
    of_items: Callable[[Float[np.ndarray, "I P"]], float] | None = None
    """From the parts of all items; NaN where it is undefined."""
    unit: Unit = "percent"
    rising: bool = False
    """Of a number: more is better, so that a control with more than the scorer must be told."""
    of_scale: bool = False
    """Made of score matrices it is in the unit of whoever gave them, and not to be compared."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How items are judged. `credit` is what a reader of one item wants to know."""

    metrics: Mapping[str, Metric]
    parts: Callable[[Judged], Parts]
    credit: Callable[[Evidence, Target, str], dict[str, Credit]]
    """By metric, for one item; empty where an item alone earns nothing."""


def mean(column: int) -> Metric:
    """Mean of a part over the items, whose number is the last part."""
    return Metric(of_sums=lambda sums: ratio(sums[..., column], sums[..., -1]))


def scores(evidence: Evidence, item_id: str) -> np.ndarray:
    """The evidence as a score matrix. Raises EvaluationError: it is an answer."""
    if isinstance(evidence, Mapping):
        raise EvaluationError(f"item {item_id!r}: this rule needs scores, and was given answers")
    return np.asarray(evidence, np.float64)


def answers(evidence: Evidence, item_id: str) -> Mapping[str, str | None]:
    """The evidence as answers. Raises EvaluationError: it is a score matrix."""
    if not isinstance(evidence, Mapping):
        raise EvaluationError(f"item {item_id!r}: this rule needs answers, and was given scores")
    return evidence


def one_answer(evidence: Evidence, item_id: str) -> str | None:
    """The answer of an item with a single question."""
    found = answers(evidence, item_id)
    if len(found) != 1:
        raise EvaluationError(f"item {item_id!r}: expected 1 answer, got {len(found)}")
    return next(iter(found.values()))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where the denominator is 0."""
    denominator = np.asarray(denominator, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def no_credit(evidence: Evidence, target: Target, item_id: str) -> dict[str, Credit]:
    """Of rules under which an item alone earns nothing."""
    return {}
