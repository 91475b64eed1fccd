"""Plots of evaluations as SVG bytes: same input, same bytes."""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from genvlm.errors import EvaluationError
from genvlm.evaluation.svg_style import (
    BLUE,
    GREY,
    INK,
    MUTED,
    ORANGE,
    SERIES,
    finish_axes,
    label_ends,
    plain,
    plot_style,
    to_svg,
)

MAX_CLASSES = 40
"""More make a confusion picture unreadable."""
MAX_TICKS = 6
"""A logarithmic axis of so few measured places names each."""
_DASHES = ("-", "--", ":")


class NamedPoint(NamedTuple):
    """A point of a plot that says what it is, with the range of its y."""

    name: str
    x: float
    y: float
    low: float
    high: float


class Bar(NamedTuple):
    """One row of a bar plot: a value with its interval, and what chance gives."""

    label: str
    value: float
    low: float
    high: float
    chance: float | None = None
    control: bool = False
    """Drawn in grey: something to compare with rather than the thing measured."""


def bars_with_intervals(rows: Sequence[Bar], *, maximum: float = 100.0, title: str = "") -> bytes:
    """Horizontal bars with their intervals; a dashed mark shows what chance gives in that row."""
    if not rows:
        raise EvaluationError("a bar plot needs at least one row, got none")
    for row in rows:
        numbers = (row.low, row.value, row.high, row.chance or 0.0)
        ordered = row.low <= row.value <= row.high
        if not (ordered and all(0 <= n <= maximum for n in numbers)):
            raise EvaluationError(
                f"bar {row.label!r}: expected 0 <= low <= value <= high <= {maximum:g} and chance "
                f"within, got value {row.value}, interval {row.low}..{row.high}, "
                f"chance {row.chance}"
            )
    with plot_style():
        figure = Figure(figsize=(6.2, 0.55 + 0.36 * len(rows)), layout="constrained")
        axes = figure.subplots()
        finish_axes(axes, title=title, grid="x")
        for y, row in enumerate(rows):
            axes.barh(y, row.value, height=0.62, color=GREY if row.control else BLUE)
            axes.plot([row.low, row.high], [y, y], color=INK, linewidth=1.2)
            if row.chance is not None:
                axes.plot(
                    [row.chance] * 2,
                    [y - 0.45, y + 0.45],
                    color=ORANGE,
                    linewidth=1.6,
                    dashes=(2, 1),
                )
            end = max(row.high, row.chance or 0.0) + maximum * 0.012
            axes.text(end, y, f"{row.value:.1f}", color=INK, va="center", fontsize=9)
        if any(row.chance is not None for row in rows):
            axes.plot([], [], color=ORANGE, linewidth=1.6, dashes=(2, 1), label="chance")
            axes.legend(
                loc="lower right",
                bbox_to_anchor=(1, 1),
                frameon=False,
                borderpad=0,
                labelcolor=MUTED,
            )
        axes.set_yticks(range(len(rows)), [plain(row.label) for row in rows])
        axes.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, maximum * 1.06)
        axes.set_xticks(np.linspace(0, maximum, 5))
        return to_svg(figure)


def reliability(
    sets: Mapping[str, tuple[Sequence[float], Sequence[bool]]], *, num_bins: int = 15
) -> bytes:
    """Accuracy against confidence in equal bins, one line a set, and the diagonal of a calibrated
    model; below, the percent of items in each bin.

    Args:
        sets: name -> (confidence in [0, 1], whether right) of each item.
    """
    _check_number_of_sets("a reliability plot", sets)
    edges = np.linspace(0, 1, num_bins + 1)
    with plot_style():
        figure = Figure(figsize=(6.2, 4.2), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        finish_axes(top, title="percent right")
        finish_axes(bottom, title="percent of items")
        top.tick_params(labelbottom=False)
        top.plot([0, 100], [0, 100], color=GREY, linewidth=1.2, dashes=(3, 2), label="calibrated")
        for (name, (confidences, right)), colour in zip(sets.items(), SERIES, strict=False):
            confidence = _unit_interval(name, confidences, len(right))
            bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
            counts = np.bincount(bins, minlength=num_bins)
            used = counts > 0
            means = [
                100 * np.bincount(bins, weights, num_bins)[used] / counts[used]
                for weights in (confidence, np.asarray(right, np.float64))
            ]
            top.plot(*means, color=colour, linewidth=1.8, marker="o", markersize=4,
                     label=plain(name))  # fmt: skip
            percent = 100 * counts / len(confidence)
            bottom.stairs(percent, 100 * edges, color=colour, linewidth=1.4)
        top.legend(loc="upper left", frameon=False, labelcolor=INK)
        top.set_ylim(0, 102)
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel("confidence, percent")
        return to_svg(figure)


def risk_coverage_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> bytes:
    """Percent wrong among the most confident items, over the percent of items that are answered.

    Args:
        curves: name -> (coverage, risk), both in [0, 1], coverage rising.
    """
    _check_number_of_sets("a risk-coverage plot", curves)
    with plot_style():
        figure = Figure(figsize=(6.2, 3.0), layout="constrained")
        axes = figure.subplots()
        finish_axes(axes, title="percent wrong among the answered")
        ends = {}
        for (name, (coverage, risk)), colour in zip(curves.items(), SERIES, strict=False):
            x, y = (100 * _unit_interval(name, v, len(coverage)) for v in (coverage, risk))
            axes.step(x, y, where="post", color=colour, linewidth=1.8)
            ends[f"{plain(name)} {y[-1]:.1f}"] = (x[-1], y[-1], colour)
        axes.set_ylim(bottom=0)
        label_ends(axes, ends)
        axes.set_xlabel("percent answered, the most confident first")
        return to_svg(figure)


def point_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    log_x: bool = False,
    log_y: bool = False,
    from_zero: bool = False,
) -> bytes:
    """Curves through measured points, each point marked; `title` names what the y axis counts.

    Args:
        curves: name -> (x, y) points, x rising; positive on a logarithmic axis. Up to 12: behind
            the fourth, colours come again with other dashes.
        from_zero: begin the y axis at 0, as shares should where they are compared.
    """
    looks = list(product(_DASHES, SERIES))
    _check_number_of_sets("a plot of curves", curves, len(looks))
    many = len(curves) > len(SERIES)
    with plot_style():
        figure = Figure(figsize=(6.2, 3.4), layout="constrained")
        axes = figure.subplots()
        finish_axes(axes, title=title)
        axes.set_xscale("log" if log_x else "linear")
        axes.set_yscale("log" if log_y else "linear")
        for axis, logarithmic in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
            if logarithmic:
                axis.set_major_formatter("{x:,g}")  # powers of ten would be mathematics
                axis.set_minor_formatter("")
        for (name, points), (dashes, colour) in zip(curves.items(), looks, strict=False):
            x, y = np.asarray(points, np.float64).reshape(-1, 2).T
            if not len(x) or not (np.isfinite(x) & np.isfinite(y)).all():
                raise EvaluationError(
                    f"curve {name!r} has no points, or points that are not finite"
                )
            axes.plot(x, y, color=colour, linestyle=dashes, linewidth=1.8, marker="o", markersize=4,
                      label=plain(name))  # fmt: skip
        axes.set_xlabel(x_label)
        measured = sorted({x for points in curves.values() for x, _ in points})
        if log_x and len(measured) <= MAX_TICKS:
            axes.set_xticks(measured)
            axes.minorticks_off()
        if from_zero:
            axes.set_ylim(0, 1.08 * max(y for points in curves.values() for _, y in points) or 1)
        beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)} if many else {}
        axes.legend(frameon=False, fontsize=9, handlelength=2.6, **beside)
        return to_svg(figure)


def named_points(points: Sequence[NamedPoint], *, title: str, x_label: str) -> bytes:
    """Points over a logarithmic axis, each with its name beside it and the range of its y."""
    if not points:
        raise EvaluationError("a plot of named points needs at least one, got none")
    for point in points:
        if not (0 < point.x < math.inf and point.low <= point.y <= point.high):
            raise EvaluationError(
                f"point {point.name!r}: expected a positive x and low <= y <= high, got {point}"
            )
    with plot_style():
        figure = Figure(figsize=(6.2, 3.8), layout="constrained")
        axes = figure.subplots()
        finish_axes(axes, title=title)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.xaxis.set_minor_formatter("")
        for point in points:
            axes.plot([point.x] * 2, [point.low, point.high], color=GREY, linewidth=1.4)
            axes.plot([point.x], [point.y], color=BLUE, marker="o", markersize=5)
        # Room for names right of the rightmost point.
        low, high = (bound(p.x for p in points) for bound in (min, max))
        room = max(high / low, 4.0)
        axes.set_xlim(low / room**0.06, high * room**0.3)
        axes.set_ylim(bottom=0, top=1.08 * max(max(p.high for p in points), 1.0))
        _write_names(axes, points)
        axes.set_xlabel(x_label)
        return to_svg(figure)


def _write_names(axes: Axes, points: Sequence[NamedPoint]) -> None:
    """Right of each point, higher where another name stands there."""
    width = math.log(axes.get_xlim()[1] / axes.get_xlim()[0])
    line = 0.055 * axes.get_ylim()[1]
    placed: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: p.y):
        x, y = math.log(point.x), point.y
        for other_x, other_y in sorted(placed, key=lambda place: place[1]):
            if abs(x - other_x) < 0.25 * width and abs(y - other_y) < line:
                y = other_y + line
        placed.append((x, y))
        axes.annotate(plain(point.name), (point.x, y), (7, 0), textcoords="offset points",
                      color=INK, va="center", fontsize=9, annotation_clip=False)  # fmt: skip


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str]) -> bytes:
    """Heat map of right classes (rows) against answers (columns), shaded by the share of the row.

    For at most 40 classes; with few of them counts are written into the cells.
    """
    matrix = np.asarray(counts)
    if matrix.shape != (len(names), len(names)) or not 2 <= len(names) <= MAX_CLASSES:
        raise EvaluationError(
            f"a confusion picture takes 2 to {MAX_CLASSES} classes and a square of counts, got "
            f"{len(names)} classes and shape {matrix.shape}"
        )
    shares = matrix / np.maximum(1, matrix.sum(1, keepdims=True))
    size = len(names)
    with plot_style():
        side = max(3.4, 0.24 * size) + 1.4
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        finish_axes(axes, title="right class (down), answer (across)")
        axes.grid(visible=False)
        for row, column in np.argwhere(matrix > 0):
            colour = BLUE if row == column else ORANGE
            axes.add_patch(
                Rectangle((column - 0.48, row - 0.48), 0.96, 0.96, facecolor=colour,
                          alpha=0.12 + 0.78 * shares[row, column], edgecolor="none")
            )  # fmt: skip
            if size <= 12:
                axes.text(column, row, f"{matrix[row, column]}", color=INK, ha="center",
                          va="center")  # fmt: skip
        labels = [plain(name) for name in names]
        axes.set_xticks(range(size), labels, rotation=90, fontsize=7.5)
        axes.set_yticks(range(size), labels, fontsize=7.5)
        axes.set_xlim(-0.6, size - 0.4)
        axes.set_ylim(size - 0.4, -0.6)
        axes.set_aspect("equal")
        return to_svg(figure)


def _check_number_of_sets(kind: str, sets: Mapping[str, object], most: int = len(SERIES)) -> None:
    if not 1 <= len(sets) <= most:
        raise EvaluationError(f"{kind} shows 1 to {most} sets, got {len(sets)}")


def _unit_interval(name: str, values: Sequence[float], size: int) -> Float64[np.ndarray, " size"]:
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (size,) or size == 0 or not ((numbers >= 0) & (numbers <= 1)).all():
        raise EvaluationError(
            f"plot set {name!r}: expected {size or 'some'} values in [0, 1], got "
            f"{numbers.size} between {numbers.min(initial=0):g} and {numbers.max(initial=0):g}"
        )
    return numbers
