"""Curves of a comparison: over the share of the data, the batch, and how often concepts are named.

All are of the first seed.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from genvlm.config.compare import CompareConfig
from genvlm.evaluation.blocks import Block, Figure, Section, Table
from genvlm.evaluation.plots import Bar, bars_with_intervals, point_curves
from genvlm.evaluation.statistics import Undefined, wilson_interval
from genvlm.studies.compare.asked import OWN, UNSEEN
from genvlm.studies.compare.cells import Cell
from genvlm.studies.compare.frequency import BINS
from genvlm.studies.compare.questions import SCENES
from genvlm.studies.compare.summary import Record, first_method, numbers_of
from genvlm.studies.compare.table_cells import NOT_ASKED

Curve: TypeAlias = list[tuple[float, float]]
WHATS = (UNSEEN, "swapped scenes")
"""What the curves over data and batch show, in percent."""


class FrequencyBin(NamedTuple):
    """Concepts that about as many captions name."""

    captions: str
    num_right: int
    num: int
    value: float
    low: float
    high: float


def data_curves(
    config: CompareConfig, records: Mapping[Cell, Record]
) -> dict[str, dict[str, Curve]]:
    """By what, then by recipe: percent right over the percent of the documents."""
    points = {
        (cell.recipe, 100 * (cell.data_share or 1.0)): record
        for cell, record in records.items()
        if cell.batch_size is None and cell.seed == config.seeds[0]
    }
    return _by_what(config.curves.data_recipes, points)


def batch_curves(
    config: CompareConfig, records: Mapping[Cell, Record]
) -> dict[str, dict[str, Curve]]:
    """By what, then by recipe: percent right over the size of the batch, the recipe's own too."""
    points = {
        (cell.recipe, numbers_of(record)["training", "batch_size"]): record
        for cell, record in records.items()
        if cell.data_share is None and cell.seed == config.seeds[0]
    }
    return _by_what(config.curves.batch_recipes, points)


def _by_what(
    recipes: Sequence[str], points: Mapping[tuple[str, float], Record]
) -> dict[str, dict[str, Curve]]:
    """A single point is no curve."""
    found: dict[str, dict[str, Curve]] = {what: {} for what in WHATS}
    for recipe in recipes:
        mine = {x: record for (name, x), record in points.items() if name == recipe}
        for x, record in sorted(mine.items(), key=lambda point: point[0]):
            numbers = numbers_of(record)
            keys = ("drawings", UNSEEN), (SCENES, first_method(record), "swapped", "group", OWN)
            for what, key in zip(WHATS, keys, strict=True):
                if key in numbers:
                    found[what].setdefault(recipe, []).append((x, numbers[key]))
    return {
        what: {recipe: curve for recipe, curve in curves.items() if len(curve) > 1}
        for what, curves in found.items()
    }


def frequency_bins(record: Record) -> list[FrequencyBin]:
    """Of one model, rare concepts first; bins without a concept are left out."""
    asked, found = record["frequency"], []
    for low, high in pairwise(BINS):
        right = [asked["right"][i] for i, num in asked["captions"].items() if low <= num < high]
        interval = wilson_interval(sum(right), len(right))
        if isinstance(interval, Undefined):
            continue
        name = f"{low} to {high - 1}" if high < BINS[-1] else f"{low} and more"
        value = 100 * sum(right) / len(right)
        bounds = min(100 * interval.low, value), max(100 * interval.high, value)
        found.append(FrequencyBin(name, sum(right), len(right), value, *bounds))
    return found


def curve_sections(config: CompareConfig, records: Mapping[Cell, Record]) -> list[Section]:
    """The curves that were asked for; what has no record yet is said to have none."""
    return [
        Section("More data", _figures(data_curves(config, records), "percent of the documents")),
        Section("Larger batches", _figures(batch_curves(config, records), "pairs in a batch")),
        Section("Rare concepts", _frequency(config, records)),
    ]


def _figures(by_what: Mapping[str, Mapping[str, Curve]], x_label: str) -> list[Block]:
    blocks: list[Block] = []
    for what, curves in by_what.items():
        if not curves:
            continue
        title = f"percent right, {what}"
        svg = point_curves(curves, title=title, x_label=x_label, log_x=True, from_zero=True)
        places = sorted({x for curve in curves.values() for x, _ in curve})
        rows = [[name, *(dict(curve).get(x) for x in places)] for name, curve in curves.items()]
        said = f"{what}, first seed; columns: {x_label}"
        blocks += [
            Figure(svg, f"{what}, first seed", f"{title}, over the {x_label}"),
            Table(["recipe", *(f"{x:g}" for x in places)], rows, said),
        ]
    return blocks or [NOT_ASKED]


def _frequency(config: CompareConfig, records: Mapping[Cell, Record]) -> list[Block]:
    bars = [
        Bar(f"{cell.recipe}, {found.captions} (n = {found.num})", *found[3:])
        for cell, record in records.items()
        if cell.is_main and cell.recipe in config.curves.frequency_recipes and "frequency" in record
        for found in frequency_bins(record)
    ]
    if not bars:
        return [NOT_ASKED]
    said = (
        f"Drawings of the {UNSEEN}, by how many training captions name the concept, each against "
        "the labels of all; lines: 95 % Wilson intervals."
    )
    svg = bars_with_intervals(bars, title="percent right")
    return [Figure(svg, said, "Accuracy by the number of captions that name a concept")]
