"""Agreement of automatic scores with people: correlations, and the scores per image they compare.

A correlation that does not exist (constant scores, one item) is an `Undefined` with its reason.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float64
from scipy.stats import kendalltau, pearsonr, spearmanr

from genvlm.errors import EvaluationError
from genvlm.evaluation.statistics import Undefined

_Key = TypeVar("_Key", bound=Hashable)


class Dependencies(NamedTuple):
    """What must hold for a question to make sense, by item."""

    parents: dict[str, dict[int, tuple[int, ...]]]
    """Item to question to the questions it depends on; a malformed item has no question here."""
    malformed: tuple[str, ...]
    """Items with a row that cannot be read, sorted, for the report."""


def pearson(first: Sequence[float], second: Sequence[float]) -> float | Undefined:
    """Pearson's correlation of paired values."""
    pair = _check_pair(first, second)
    return pair if isinstance(pair, Undefined) else float(pearsonr(*pair).statistic)


def spearman(first: Sequence[float], second: Sequence[float]) -> float | Undefined:
    """Spearman's rank correlation of paired values; ties share their mean rank.

    The released TIFA notebook prints Pearson's correlation under this name.
    """
    pair = _check_pair(first, second)
    return pair if isinstance(pair, Undefined) else float(spearmanr(*pair).statistic)


def kendall(first: Sequence[float], second: Sequence[float]) -> float | Undefined:
    """Kendall's tau-b of paired values, corrected for ties."""
    pair = _check_pair(first, second)
    return pair if isinstance(pair, Undefined) else float(kendalltau(*pair).statistic)


def mean_by_key(values: Iterable[tuple[_Key, float]]) -> dict[_Key, float]:
    """Mean value of each key, in order of first appearance.

    Likert scores by (model, item); correct answers (1 or 0) by image, which is TIFA's score.

    Raises:
        EvaluationError: a value is NaN or infinite.
    """
    collected: dict[_Key, list[float]] = defaultdict(list)
    for key, value in values:
        if not math.isfinite(value):
            raise EvaluationError(f"{key!r} has the value {value}: values must be finite")
        collected[key].append(value)
    return {key: sum(group) / len(group) for key, group in collected.items()}


def read_dependencies(rows: Iterable[tuple[str, int, str]]) -> Dependencies:
    """Dependencies of DSG from rows (item, question, the numbers it depends on such as "1, 3").

    "0" stands for none. Ten rows of the released table are malformed ("5, outward"); as in the
    released code, one such row drops the dependencies of its whole item.
    """
    parents: dict[str, dict[int, tuple[int, ...]]] = {}
    malformed = set()
    for item, question, text in rows:
        parts = [part.strip() for part in text.split(",")]
        if all(part.isdecimal() for part in parts):
            known = parents.setdefault(item, {})
            known[question] = tuple(int(part) for part in parts if int(part) != 0)
        else:
            malformed.add(item)
    for item in malformed:
        parents[item] = {}
    return Dependencies(parents, tuple(sorted(malformed)))


def dsg_score(
    yes: Mapping[int, bool], parents: Mapping[int, Sequence[int]], item: str = "?"
) -> float:
    """Share of an image's questions answered yes, in [0, 1]; a child of a parent that is not is 0.

    Only the parents' own answers count, so a grandchild survives its grandparent's no. `yes` is
    True where the raw answer equals "yes" (official); "1000000", which InstructBLIP gives, is not.
    Pass {} as `parents` to score without dependencies. An image without answers scores 0, as
    tifa160_134 does in the released code.
    Source: Cho et al. 2024, https://arxiv.org/abs/2310.18235.

    Raises:
        EvaluationError: a question depends on one that has no answer.
    """
    if not yes:
        return 0.0
    total = 0
    for question, answer in yes.items():
        needed = parents.get(question, ())
        missing = [parent for parent in needed if parent not in yes]
        if missing:
            raise EvaluationError(
                f"item {item!r}: question {question} depends on question {missing[0]}, which has "
                "no answer"
            )
        total += answer and all(yes[parent] for parent in needed)
    return total / len(yes)


def _check_pair(
    first: Sequence[float], second: Sequence[float]
) -> tuple[Float64[np.ndarray, " items"], Float64[np.ndarray, " items"]] | Undefined:
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise EvaluationError(
            f"a correlation pairs two lists of one length, got shapes {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise EvaluationError("a correlation needs finite values, got NaN or infinity")
    if len(x) < 2:
        return Undefined(f"a correlation needs 2 items, there are {len(x)}")
    for values in (x, y):
        # Differences at the last bits are rounding of equal values, not an order.
        if np.ptp(values) <= 1e-12 * np.abs(values).max():
            return Undefined(f"all {len(values)} values equal {values[0]:g}")
    return x, y
