"""The decision rules: what each makes of an item's scores or answers. Few, and shared.

Rules whose metrics are means of credit stand here; those of whole corpora in `corpus_decisions`.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from genvlm.errors import EvaluationError
from genvlm.evaluation.answers import vqa_accuracy
from genvlm.evaluation.corpus_decisions import CAPTIONS, CHAIR, CORRELATION
from genvlm.evaluation.measures import (
    Evidence,
    Judged,
    Metric,
    Parts,
    Rule,
    Sums,
    Target,
    answers,
    mean,
    one_answer,
    ratio,
    scores,
)
from genvlm.evaluation.plausibility import PLAUSIBILITY
from genvlm.evaluation.rules import (
    Credit,
    answer_credit,
    choice_credit,
    grid2x2_credit,
    options_credit,
    yes_no_counts,
)

RuleName = Literal[
    "choice", "grid2x2", "options", "yes-no", "exact", "open-answers", "correlation", "captions",
    "chair", "plausibility",
]  # fmt: skip


def build_rule(name: RuleName, orders: Sequence[str] = ()) -> Rule:
    """The rule of a card; `orders` are the presentations in which options are shown.

    Targets: choice, index of the right text; grid2x2, null (image k belongs to text k); options,
    the right one of two, or {"answer", "options"}; yes-no, "yes" or "no"; exact, {"answer",
    "options"}; open-answers, the answers of the annotators; correlation, see `item_score`;
    captions, the references; chair, the objects of the picture; plausibility, null (rows of scores
    are pairs of a lawful and a broken clip).
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
        case "exact":
            return _credit_rule(("accuracy",), _exact)
        case "open-answers":
            return _credit_rule(("accuracy",), _open_answer)
        case "correlation":
            return CORRELATION
        case "captions":
            return CAPTIONS
        case "chair":
            return CHAIR
        case "plausibility":
            return PLAUSIBILITY
    raise EvaluationError(f"no decision rule {name!r}")


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


def _exact(evidence: Evidence, target: Target, item_id: str) -> dict[str, Credit]:
    answer = one_answer(evidence, item_id)
    return {"accuracy": answer_credit(answer, target["answer"], len(target["options"]))}


def _open_answer(evidence: Evidence, target: Target, item_id: str) -> dict[str, Credit]:
    answer = one_answer(evidence, item_id)
    earned = 0.0 if answer is None else vqa_accuracy(answer, target)
    return {"accuracy": Credit(earned, earned, earned, False)}


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
        if isinstance(target, str):
            return options_credit(given, target)
        return options_credit(given, target["answer"], len(target["options"]))

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
        return Metric(of_sums=lambda s: ratio(s[..., column], s[..., len(names) + column]))

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
        return ratio(numerator(*counts), denominator(*counts))

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
            (ratio(s[..., 0], s[..., 0] + s[..., 3]) + ratio(s[..., 2], s[..., 2] + s[..., 1])) / 2
        )
    ),
}
