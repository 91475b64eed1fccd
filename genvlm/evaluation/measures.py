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
from genvlm.evaluation.rules import (
    Credit,
    answer_credit,
    choice_credit,
    grid2x2_credit,
    options_credit,
    yes_no_counts,
)

RuleName = Literal["choice", "grid2x2", "options", "yes-no"]
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


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How items are judged. `credit` is what a reader of one item wants to know."""

    metrics: Mapping[str, Metric]
    parts: Callable[[Judged], Parts]
    credit: Callable[[Evidence, Target, str], dict[str, Credit]]
    """By metric, for one item; empty where an item alone earns nothing."""


def build_rule(name: RuleName, orders: Sequence[str] = ()) -> Rule:
    """The rule of a card; `orders` are the presentations in which options are shown.

    Targets: choice, index of the right text; grid2x2, null (image k belongs to text k); options,
    the right option; yes-no, "yes" or "no".
    """
    match name:
        case "choice":
            return _credit_rule(("accuracy",), _choice)
        case "grid2x2":
            return _credit_rule(("text", "image", "group"), _grid2x2)
        case "options":
            return _options_rule(orders)
        case "yes-no":
            return Rule(metrics=_YES_NO, parts=_yes_no_parts, credit=_yes_no)
    raise EvaluationError(f"no decision rule {name!r}")


def mean(column: int) -> Metric:
    """Mean of a part over the items, whose number is the last part."""
    return Metric(of_sums=lambda sums: _ratio(sums[..., column], sums[..., -1]))


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


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """NaN where the denominator is 0."""
    denominator = np.asarray(denominator, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def _credit_rule(
    names: Sequence[str], credit: Callable[[Evidence, Target, str], dict[str, Credit]]
) -> Rule:
    """Metrics that are means of credit."""

    def parts(judged: Judged) -> Parts:
        found = [credit(*item) for item in zip(*judged, strict=True)]
        strict, half = (
            np.array([[*(getattr(c[n], kind) for n in names), 1.0] for c in found], np.float64)
            for kind in ("strict", "half")
        )
        tied = np.array([[c[n].tied for n in names] for c in found], np.bool_)
        shape = (len(found), len(names))
        return Parts(_shaped(strict, shape, 1), _shaped(half, shape, 1), tied.reshape(shape))

    metrics = {name: mean(column) for column, name in enumerate(names)}
    return Rule(metrics=metrics, parts=parts, credit=credit)


def _shaped(values: np.ndarray, shape: tuple[int, int], more: int) -> np.ndarray:
    """Also of no item at all."""
    return values.reshape(shape[0], shape[1] + more)


def _choice(evidence: Evidence, target: Target, item_id: str) -> dict[str, Credit]:
    values = scores(evidence, item_id)
    if values.ndim != 2 or len(values) != 1 or not isinstance(target, int):
        raise EvaluationError(
            f"item {item_id!r}: a choice needs 1 image and the index of its correct text, got "
            f"{len(values)} images and target {target!r}"
        )
    return {"accuracy": choice_credit(values[0], target, item_id)}


def _grid2x2(evidence: Evidence, target: Target, item_id: str) -> dict[str, Credit]:
    return grid2x2_credit(scores(evidence, item_id), item_id)


def _options_rule(orders: Sequence[str]) -> Rule:
    """Options shown in several orders: accuracy over orders, in each of them, in all, agreement."""

    def credit(evidence: Evidence, target: Target, item_id: str) -> dict[str, Credit]:
        given = answers(evidence, item_id)
        unknown = [order for order in given if order not in orders]
        if unknown or not given:
            raise EvaluationError(
                f"item {item_id!r}: answers for the orders {sorted(given)}, expected some of "
                f"{', '.join(orders)}"
            )
        return options_credit(given, target)

    names = ("accuracy", *orders, "all orders", "agreement")

    def parts(judged: Judged) -> Parts:
        strict: list[list[float]] = []
        half: list[list[float]] = []
        tied = []
        for item in zip(*judged, strict=True):
            found = credit(*item)
            # An order that was not asked counts neither as right nor as an item.
            for rows, kind in ((strict, "strict"), (half, "half")):
                values = [getattr(found[n], kind) if n in found else 0.0 for n in names]
                rows.append([*values, *(float(n in found) for n in names)])
            tied.append([n in found and found[n].tied for n in names])
        num, width = len(tied), len(names)
        return Parts(
            _shaped(np.array(strict, np.float64), (num, width), width),
            _shaped(np.array(half, np.float64), (num, width), width),
            np.array(tied, np.bool_).reshape(num, width),
        )

    def share(column: int) -> Metric:
        return Metric(of_sums=lambda s: _ratio(s[..., column], s[..., len(names) + column]))

    return Rule(
        metrics={name: share(column) for column, name in enumerate(names)},
        parts=parts,
        credit=credit,
    )


def _yes_no(evidence: Evidence, target: Target, item_id: str) -> dict[str, Credit]:
    return {"accuracy": answer_credit(one_answer(evidence, item_id), target, num_options=2)}


def _yes_no_parts(judged: Judged) -> Parts:
    strict, half, tied = [], [], []
    for evidence, target, item_id in zip(*judged, strict=True):
        answer = one_answer(evidence, item_id)
        counts = yes_no_counts(answer, target, item_id)
        strict.append([*counts.strict, 1.0])
        half.append([*counts.half, 1.0])
        tied.append([answer is None] * len(_YES_NO))
    num = len(tied)
    return Parts(
        _shaped(np.array(strict, np.float64), (num, 4), 1),
        _shaped(np.array(half, np.float64), (num, 4), 1),
        np.array(tied, np.bool_).reshape(num, len(_YES_NO)),
    )


def _of_counts(numerator: Callable, denominator: Callable) -> Metric:
    """A ratio of functions of (true yes, false yes, true no, false no)."""

    def of_sums(sums: Sums) -> np.ndarray:
        counts = [sums[..., k] for k in range(4)]
        return _ratio(numerator(*counts), denominator(*counts))

    return Metric(of_sums=of_sums)


_YES_NO = {
    "accuracy": _of_counts(
        lambda tp, fp, tn, fn: tp + tn, lambda tp, fp, tn, fn: tp + fp + tn + fn
    ),
    "precision": _of_counts(lambda tp, fp, tn, fn: tp, lambda tp, fp, tn, fn: tp + fp),
    "recall": _of_counts(lambda tp, fp, tn, fn: tp, lambda tp, fp, tn, fn: tp + fn),
    "specificity": _of_counts(lambda tp, fp, tn, fn: tn, lambda tp, fp, tn, fn: tn + fp),
    "f1": _of_counts(lambda tp, fp, tn, fn: 2 * tp, lambda tp, fp, tn, fn: 2 * tp + fp + fn),
    "yes ratio": _of_counts(
        lambda tp, fp, tn, fn: tp + fp, lambda tp, fp, tn, fn: tp + fp + tn + fn
    ),
    "balanced": Metric(
        of_sums=lambda s: (
            (_ratio(s[..., 0], s[..., 0] + s[..., 3]) + _ratio(s[..., 2], s[..., 2] + s[..., 1]))
            / 2
        )
    ),
}
