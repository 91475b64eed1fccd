"""Decision rules: from one item's score matrix to its credit. Pure functions, shared by benchmarks.

Every rule gives three credits, which differ only where scores tie:
- strict: a tie is wrong (the official rule of Winoground, SugarCrepe and most others);
- half: a tie is decided by chance;
- win: a tie is right.
A score that means nothing (NaN, infinite) is an error, never a wrong answer.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from genvlm.errors import EvaluationError

Rule = Literal["choice", "grid2x2"]

METRICS: dict[Rule, tuple[str, ...]] = {
    "choice": ("accuracy",),
    "grid2x2": ("text", "image", "group"),
}


class Credit(NamedTuple):
    """What one item earns, in [0, 1]; strict <= half <= win."""

    strict: float
    half: float
    win: float
    tied: bool
    """True when a tie made the three differ."""


def credit_item(
    rule: Rule,
    values: Float64[np.ndarray, "images texts"],
    correct: int | None,
    item_id: str,
) -> dict[str, Credit]:
    """Credit of one item under each metric of its rule; `correct` is the text index of a choice."""
    if rule == "grid2x2":
        return grid2x2_credit(values, item_id)
    if len(values) != 1 or correct is None:
        raise EvaluationError(
            f"item {item_id!r}: a choice needs 1 image and the index of its correct text, got "
            f"{len(values)} images and correct={correct}"
        )
    return {"accuracy": choice_credit(values[0], correct, item_id)}


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
