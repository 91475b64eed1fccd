"""What cells of the tables of a comparison hold."""

from typing import TypeAlias

from genvlm.evaluation.blocks import Align, Cell, Interval, Prose
from genvlm.studies.compare.summary import OverSeeds

Row: TypeAlias = list[Cell]
NOT_ASKED = Prose("Not asked yet.")
OVER_SEEDS = "Mean over seeds; small: the least and the greatest of them."


def seeds_cell(found: OverSeeds | None) -> Cell:
    """A single seed has no range."""
    if found is None or len(found.by_seed) == 1:
        return None if found is None else found.mean
    return Interval(found.mean, found.low, found.high)


def names_first(num_columns: int) -> list[Align]:
    """Two columns of names, then numbers."""
    return ["left", "left", *["right"] * (num_columns - 2)]  # type: ignore[list-item]
