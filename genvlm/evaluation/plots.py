"""Plots as SVG bytes: same input, same bytes; readable on light and on dark backgrounds.

Matplotlib draws in the light colours. A style sheet inside the SVG exchanges them where the reader
prefers a dark scheme, also when the SVG is shown by an `<img>` element.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from genvlm.errors import EvaluationError

# Light colour -> dark colour. Each light colour is used for one role only.
INK, MUTED, GRID = "#1f2430", "#616877", "#dfe1e6"
BLUE, ORANGE, TEAL, GREY = "#3355cc", "#b8500f", "#0f766e", "#a9afbb"
DARK = {
    INK: "#e8eaf0", MUTED: "#a3abba", GRID: "#343a47",
    BLUE: "#8fa8ff", ORANGE: "#ffa566", TEAL: "#4fd1bf", GREY: "#616b7d",
}  # fmt: skip
SERIES = (BLUE, ORANGE, TEAL, MUTED)
LOSSES = {"loss_image": ("image", BLUE), "loss_text": ("text", ORANGE), "loss": ("all", MUTED)}
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', 'DejaVu Sans', sans-serif"
MAX_CLASSES = 40
"""More make a confusion picture unreadable."""
MAX_POINTS = 600
"""More steps than this are averaged in equal bins, which keeps the file small."""


class Bar(NamedTuple):
    """One row of a bar plot: a value with its interval, and what chance gives."""

    label: str
    value: float
    low: float
    high: float
    chance: float | None = None
    control: bool = False
    """Drawn in grey: something to compare with rather than the thing measured."""


def loss_curves(records: Sequence[Mapping[str, object]]) -> bytes:
    """Loss per modality in nats per token, and the learning rate, over training steps.

    Args:
        records: lines of a training log. Every one has `step`; `loss`, `loss_text`, `loss_image`
            and `learning_rate` are drawn where they are present and not null.
    """
    curves = {key: _curve(records, key) for key in (*LOSSES, "learning_rate")}
    drawn = {key: curves[key] for key in LOSSES if len(curves[key])}
    if not drawn:
        raise EvaluationError(
            f"the training log has no loss to draw: none of its {len(records)} records has a "
            f"finite {', '.join(LOSSES)}"
        )
    rates = curves["learning_rate"]
    with _style():
        figure = Figure(figsize=(6.2, 3.9 if len(rates) else 3.1), layout="constrained")
        if len(rates):
            top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
            top.tick_params(labelbottom=False)
            _finish(bottom, title="learning rate")
            bottom.plot(*rates.T, color=TEAL, linewidth=1.4)
            bottom.set_ylim(0, rates[:, 1].max() * 1.2 or 1)
            bottom.set_yticks([0, rates[:, 1].max()], ["0", f"{rates[:, 1].max():.2g}"])
        else:
            top = bottom = figure.subplots()
        _finish(top, title="loss, nats per token")
        ends = {}
        for key, curve in drawn.items():
            name, colour = LOSSES[key]
            if len(curve) > 30:
                top.plot(*curve.T, color=colour, linewidth=0.8, alpha=0.3)
            marker = "o" if len(curve) == 1 else ""
            smooth = _smooth(curve[:, 1])
            top.plot(curve[:, 0], smooth, color=colour, linewidth=1.8, marker=marker)
            ends[f"{name} {smooth[-1]:.2f}"] = (curve[-1, 0], smooth[-1], colour)
        top.set_ylim(bottom=min(0.0, min(curve[:, 1].min() for curve in drawn.values())))
        _label_ends(top, ends)
        bottom.set_xlabel("step")
        bottom.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        return _svg(figure)


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
    with _style():
        figure = Figure(figsize=(6.2, 0.55 + 0.36 * len(rows)), layout="constrained")
        axes = figure.subplots()
        _finish(axes, title=title, grid="x")
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
        axes.set_yticks(range(len(rows)), [_plain(row.label) for row in rows])
        axes.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, maximum * 1.06)
        axes.set_xticks(np.linspace(0, maximum, 5))
        return _svg(figure)


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
    with _style():
        figure = Figure(figsize=(6.2, 4.2), layout="constrained")
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _finish(top, title="percent right")
        _finish(bottom, title="percent of items")
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
                     label=_plain(name))  # fmt: skip
            percent = 100 * counts / len(confidence)
            bottom.stairs(percent, 100 * edges, color=colour, linewidth=1.4)
        top.legend(loc="upper left", frameon=False, labelcolor=INK)
        top.set_ylim(0, 102)
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel("confidence, percent")
        return _svg(figure)


def risk_coverage_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> bytes:
    """Percent wrong among the most confident items, over the percent of items that are answered.

    Args:
        curves: name -> (coverage, risk), both in [0, 1], coverage rising.
    """
    _check_number_of_sets("a risk-coverage plot", curves)
    with _style():
        figure = Figure(figsize=(6.2, 3.0), layout="constrained")
        axes = figure.subplots()
        _finish(axes, title="percent wrong among the answered")
        ends = {}
        for (name, (coverage, risk)), colour in zip(curves.items(), SERIES, strict=False):
            x, y = (100 * _unit_interval(name, v, len(coverage)) for v in (coverage, risk))
            axes.step(x, y, where="post", color=colour, linewidth=1.8)
            ends[f"{_plain(name)} {y[-1]:.1f}"] = (x[-1], y[-1], colour)
        axes.set_ylim(bottom=0)
        _label_ends(axes, ends)
        axes.set_xlabel("percent answered, the most confident first")
        return _svg(figure)


def point_curves(
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    log_x: bool = False,
    log_y: bool = False,
) -> bytes:
    """Curves through measured points, each point marked; `title` names what the y axis counts.

    Args:
        curves: name -> (x, y) points, x rising; positive on a logarithmic axis.
    """
    _check_number_of_sets("a plot of curves", curves)
    with _style():
        figure = Figure(figsize=(6.2, 3.4), layout="constrained")
        axes = figure.subplots()
        _finish(axes, title=title)
        axes.set_xscale("log" if log_x else "linear")
        axes.set_yscale("log" if log_y else "linear")
        for axis, logarithmic in ((axes.xaxis, log_x), (axes.yaxis, log_y)):
            if logarithmic:
                axis.set_major_formatter("{x:,g}")  # powers of ten would be mathematics
                axis.set_minor_formatter("")
        for (name, points), colour in zip(curves.items(), SERIES, strict=False):
            x, y = np.asarray(points, np.float64).reshape(-1, 2).T
            if not len(x) or not (np.isfinite(x) & np.isfinite(y)).all():
                raise EvaluationError(
                    f"curve {name!r} has no points, or points that are not finite"
                )
            axes.plot(
                x, y, color=colour, linewidth=1.8, marker="o", markersize=4, label=_plain(name)
            )
        axes.set_xlabel(x_label)
        axes.legend(frameon=False, fontsize=9)
        return _svg(figure)


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
    with _style():
        side = max(3.4, 0.24 * size) + 1.4
        figure = Figure(figsize=(side, side), layout="constrained")
        axes = figure.subplots()
        _finish(axes, title="right class (down), answer (across)")
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
        labels = [_plain(name) for name in names]
        axes.set_xticks(range(size), labels, rotation=90, fontsize=7.5)
        axes.set_yticks(range(size), labels, fontsize=7.5)
        axes.set_xlim(-0.6, size - 0.4)
        axes.set_ylim(size - 0.4, -0.6)
        axes.set_aspect("equal")
        return _svg(figure)


def _curve(records: Sequence[Mapping[str, object]], key: str) -> Float64[np.ndarray, "points 2"]:
    """(step, value) of the records that have this key, averaged in bins when there are many."""
    points = []
    for number, record in enumerate(records, start=1):
        step, value = _read_number(record, number, "step"), _read_number(record, number, key)
        if step is None:
            raise EvaluationError(f"training log, record {number}: it has no step")
        if value is not None and math.isfinite(value):
            points.append((step, value))
    curve = np.array(sorted(points, key=lambda point: point[0]), np.float64).reshape(-1, 2)
    if len(curve) > MAX_POINTS:
        curve = np.array([part.mean(0) for part in np.array_split(curve, MAX_POINTS)])
    return curve


def _read_number(record: Mapping[str, object], number: int, key: str) -> float | None:
    value = record.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvaluationError(
            f"training log, record {number}: {key} must be a number, got {value!r}"
        )
    return float(value)


def _check_number_of_sets(kind: str, sets: Mapping[str, object]) -> None:
    if not 1 <= len(sets) <= len(SERIES):
        raise EvaluationError(f"{kind} shows 1 to {len(SERIES)} sets, got {len(sets)}")


def _unit_interval(name: str, values: Sequence[float], size: int) -> Float64[np.ndarray, " size"]:
    numbers = np.asarray(values, np.float64)
    if numbers.shape != (size,) or size == 0 or not ((numbers >= 0) & (numbers <= 1)).all():
        raise EvaluationError(
            f"plot set {name!r}: expected {size or 'some'} values in [0, 1], got "
            f"{numbers.size} between {numbers.min(initial=0):g} and {numbers.max(initial=0):g}"
        )
    return numbers


def _smooth(values: Float64[np.ndarray, " points"]) -> Float64[np.ndarray, " points"]:
    """Mean over a window of a thirtieth of the curve, cut at both ends."""
    half = len(values) // 60
    sums = np.concatenate([[0.0], np.cumsum(values)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)


def _label_ends(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
    """Write each name right of the end of its curve, pushed apart where they would touch."""
    low, high = axes.get_ylim()
    lowest_free = -math.inf
    for name, (x, y, colour) in sorted(ends.items(), key=lambda item: item[1][1]):
        place = max(y, lowest_free)
        lowest_free = place + (high - low) * 0.075
        axes.annotate(
            name, (x, place), (7, 0), textcoords="offset points", color=colour, va="center",
            fontweight="bold", fontsize=9.5, annotation_clip=False,
        )  # fmt: skip


def _finish(axes: Axes, *, title: str, grid: Literal["x", "y"] = "y") -> None:
    """A light frame: the axis' name above it, lines of one direction behind the data."""
    axes.set_title(_plain(title), loc="left", fontsize=9.5, color=MUTED, pad=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5)


def _plain(text: str) -> str:
    """Text without matplotlib's mathematics, nor characters that XML cannot hold."""
    text = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)
    return text.replace("$", r"\$")


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {
            "svg.hashsalt": "genvlm",
            "svg.fonttype": "none",
            "font.family": "DejaVu Sans",  # bundled with matplotlib: the same layout everywhere
            "font.size": 9,
            "text.color": INK,
            "axes.labelcolor": MUTED,
            "axes.edgecolor": GREY,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "path.simplify": True,
        }
    )


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    text = buffer.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]  # no XML prolog: the document type names an address
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = text.replace("font-family: 'DejaVu Sans'; ", "")
    rules = "".join(
        f'[style*="{paint}: {light}"]{{{paint}:{dark}!important}}'
        for light, dark in DARK.items()
        for paint in ("fill", "stroke")
    )
    style = (
        f"<style>text{{font-family:{FONTS}}}@media (prefers-color-scheme: dark){{{rules}}}</style>"
    )
    head, mark, rest = text.partition(">")
    return (head + mark + "\n " + style + rest).encode("utf-8")
