"""Decision rules: from one item's scores or answers to its credit. Pure functions.

Every rule gives three credits, which differ only where scores tie or an answer cannot be read:
- strict: that is wrong (the official rule of Winoground, SugarCrepe and most others);
- half: it is decided by chance;
- win: it is right.
A score that means nothing (NaN, infinite) is an error, never a wrong answer.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from genvlm.errors import EvaluationError


class Credit(NamedTuple):
    """What one item earns, in [0, 1]; strict <= half <= win."""

    strict: float
    half: float
    win: float
    tied: bool
    """True when a tie, or an answer that could not be read, made the three differ."""


def choice_credit(
    values_row: Float64[np.ndarray, " texts"], correct: int, item_id: str = "?"
) -> Credit:
    """One correct candidate among several: right when it scores highest.

    Half credit is 1/m when the correct candidate shares the top with m - 1 others.
    """
    row = check_finite(values_row, item_id)
    if not 0 <= correct < len(row):
        raise EvaluationError(
            f"item {item_id!r}: the correct text is number {correct}, but there are {len(row)}"
        )
    if row[correct] < row.max():
        return Credit(0.0, 0.0, 0.0, False)
    num_top = int((row == row[correct]).sum())
    return Credit(float(num_top == 1), 1 / num_top, 1.0, num_top > 1)


def grid2x2_credit(values: Float64[np.ndarray, "2 2"], item_id: str = "?") -> dict[str, Credit]:
    """Winoground's three metrics; image k belongs to text k.

    text: each image prefers its own text. image: each text prefers its own image. group: both.
    Each metric is a set of pairwise comparisons, all of which must be won. Half credit is the
    probability of winning them all when every tied comparison is decided by its own fair coin:
    0 after any loss, else 0.5 to the number of ties. So a constant scorer has half credit
    25 / 25 / 6.25, although random scores win a group with probability 1/6: compare a group score
    with the larger of the two.
    Source: Thrush et al. 2022, https://arxiv.org/abs/2204.03162, equations 1 to 3.
    """
    if np.shape(values) != (2, 2):
        raise EvaluationError(
            f"item {item_id!r}: this rule needs 2 images x 2 texts, got shape {np.shape(values)}"
        )
    v = check_finite(values, item_id)
    text = [(v[0, 0], v[0, 1]), (v[1, 1], v[1, 0])]
    image = [(v[0, 0], v[1, 0]), (v[1, 1], v[0, 1])]
    return {
        "text": _win_all(text),
        "image": _win_all(image),
        "group": _win_all(text + image),
    }


def answer_credit(answer: str | None, target: str, num_options: int) -> Credit:
    """One answer out of `num_options`; None is an answer that could not be read."""
    if answer is None:
        return Credit(0.0, 1 / num_options, 1.0, True)
    right = float(answer == target)
    return Credit(right, right, right, False)


def options_credit(
    given: Mapping[str, str | None], target: str, num_options: int = 2
) -> dict[str, Credit]:
    """Options shown in one or more orders; `given` is the option chosen in each order.

    accuracy: mean over the orders. With several orders also: all orders: right in each of them;
    agreement: the same option in each of them, whatever it is.
    """
    by_order = {
        order: answer_credit(answer, target, num_options) for order, answer in given.items()
    }
    credits = list(by_order.values())
    tied = any(c.tied for c in credits)
    strict, half, win = ([getattr(c, kind) for c in credits] for kind in ("strict", "half", "win"))
    found = {
        "accuracy": Credit(
            sum(strict) / len(credits), sum(half) / len(credits), sum(win) / len(credits), tied
        ),
        **by_order,
    }
    if len(given) > 1:
        all_strict, all_half, all_win = (float(np.prod(kind)) for kind in (strict, half, win))
        found["all orders"] = Credit(all_strict, all_half, all_win, tied and all_win > 0)
        known = {answer for answer in given.values() if answer is not None}
        num_unknown = sum(answer is None for answer in given.values())
        may_agree = len(known) < 2
        # Each unreadable answer falls on the option of the others with the chance of a guess.
        chance = (1 / num_options) ** (num_unknown - (not known)) if may_agree else 0.0
        found["agreement"] = Credit(
            float(may_agree and not tied), chance, float(may_agree), tied and may_agree
        )
    return found


class YesNoCounts(NamedTuple):
    """(true yes, false yes, true no, false no) of one answer; yes is the positive class."""

    strict: tuple[float, ...]
    """An answer that could not be read counts as the wrong one."""
    half: tuple[float, ...]
    """It counts half as yes and half as no."""


def yes_no_counts(answer: str | None, target: str, item_id: str = "?") -> YesNoCounts:
    """Where one answer stands in the confusion matrix. Raises EvaluationError: not yes or no."""
    if target not in ("yes", "no") or answer not in ("yes", "no", None):
        raise EvaluationError(
            f"item {item_id!r}: expected yes or no, got the answer {answer!r} and the truth "
            f"{target!r}"
        )
    right, wrong = (0, 3) if target == "yes" else (2, 1)
    counts = [0.0] * 4
    counts[right if answer == target else wrong] = 1.0
    half = list(counts)
    if answer is None:
        half[right] = half[wrong] = 0.5
    return YesNoCounts(tuple(counts), tuple(half))


def check_finite(values: np.ndarray, item_id: str, source: str = "the scorer") -> np.ndarray:
    """The scores as float64. Raises EvaluationError naming the item when one is NaN or infinite."""
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        position = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise EvaluationError(
            f"item {item_id!r}: {source} gave {values[position]} at {position} (image, text); "
            "scores must be finite, mend the scorer"
        )
    return values


def _win_all(comparisons: list[tuple[float, float]]) -> Credit:
    if any(right < wrong for right, wrong in comparisons):
        return Credit(0.0, 0.0, 0.0, False)
    num_ties = sum(bool(right == wrong) for right, wrong in comparisons)
    return Credit(float(num_ties == 0), 0.5**num_ties, 1.0, num_ties > 0)
