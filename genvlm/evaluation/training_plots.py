"""Plots of a training: its losses, what else its log tells, the memory that is planned for it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genvlm.errors import EvaluationError
from genvlm.evaluation.svg_style import (
    BLUE,
    GREY,
    GRID,
    INK,
    MUTED,
    ORANGE,
    TEAL,
    finish_axes,
    label_ends,
    plot_style,
    to_svg,
)

LOSSES = {
    "loss_image": ("image", BLUE), "loss_text": ("text", ORANGE), "loss_video": ("video", TEAL),
    "loss": ("all", MUTED),
}  # fmt: skip
MAX_POINTS = 600
"""More steps than this are averaged in equal bins, which keeps the file small."""


class Panel(NamedTuple):
    """A small plot of some keys of a training log."""

    title: str
    curves: Mapping[str, tuple[str, str]]
    """Name and colour by key."""


def log_panels(
    records: Sequence[Mapping[str, object]], panels: Sequence[Panel], marks: Sequence[int] = ()
) -> bytes | None:
    """Panels over training steps, two beside each other; None where the log has none of their keys.

    Args:
        marks: steps at which something happened.
    """
    found = [(panel, {key: _curve(records, key) for key in panel.curves}) for panel in panels]
    drawn = [(panel, curves) for panel, curves in found if any(map(len, curves.values()))]
    if not drawn:
        return None
    num_rows = -(-len(drawn) // 2)
    with plot_style():
        figure = Figure(figsize=(6.2, 1.75 * num_rows), layout="constrained")
        grid = figure.subplots(num_rows, 2, squeeze=False).flatten()
        for axes, (panel, curves) in zip(grid, drawn, strict=False):
            _draw_panel(axes, panel, curves, marks)
        for axes in grid[len(drawn) :]:
            axes.set_visible(False)
        return to_svg(figure)


def _draw_panel(
    axes: Axes, panel: Panel, curves: Mapping[str, np.ndarray], marks: Sequence[int]
) -> None:
    finish_axes(axes, title=panel.title)
    for step in marks:
        axes.axvline(step, color=GREY, linewidth=0.7, dashes=(2, 2))
    for key, curve in curves.items():
        if len(curve):
            name, colour = panel.curves[key]
            marker = "o" if len(curve) == 1 else ""
            axes.plot(*curve.T, color=colour, linewidth=1.3, marker=marker, markersize=3,
                      label=name)  # fmt: skip
    if len(panel.curves) > 1:
        axes.legend(frameon=False, fontsize=7.5, labelcolor=INK, borderpad=0.2)
    highest = max(curve[:, 1].max() for curve in curves.values() if len(curve))
    if all((curve[:, 1] >= 0).all() for curve in curves.values()):
        axes.set_ylim(0, 1.15 * highest or 1)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))


PLAN_PARTS = {
    "parameters": BLUE, "gradients": TEAL, "optimizer": ORANGE, "ema": GRID,
    "activations": GREY, "temporary": MUTED, "buffers": INK,
}  # fmt: skip


def plan_bars(plan: Mapping[str, Any]) -> bytes:
    """Memory of each ZeRO stage, stacked by what holds it; a dashed line at what a GPU can give.

    Args:
        plan: what `genvlm plan --json` prints.
    """
    gib = 2**30
    with plot_style():
        figure = Figure(figsize=(6.2, 1.3 + 0.42 * len(plan["memory"])), layout="constrained")
        axes = figure.subplots()
        title = f"GiB on each of {plan['gpus']} x {plan['gpu']}, computed, not measured"
        finish_axes(axes, title=title, grid="x")
        for y, needed in enumerate(plan["memory"].values()):
            left = 0.0
            for part, colour in PLAN_PARTS.items():
                size = needed[part] / gib
                axes.barh(y, size, left=left, height=0.6, color=colour,
                          label=part if y == 0 else None)  # fmt: skip
                left += size
            axes.text(left, y, f"  {left:.1f}", va="center", color=INK)
        usable = plan["usable_bytes"] / gib
        axes.axvline(usable, color=INK, linewidth=1.2, dashes=(3, 2))
        axes.text(usable, -0.5, f" usable {usable:.0f}", color=INK, fontsize=8, va="bottom")
        axes.set_yticks(range(len(plan["memory"])), [f"ZeRO {stage}" for stage in plan["memory"]])
        axes.set_ylim(len(plan["memory"]) - 0.4, -0.8)
        axes.set_xlim(0, 1.12 * max(usable, *(n["total"] / gib for n in plan["memory"].values())))
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
        return to_svg(figure)


def loss_curves(
    records: Sequence[Mapping[str, object]], *, title: str = "loss, nats per token"
) -> bytes:
    """Loss per modality, and the learning rate, over training steps; `title` names its unit.

    Args:
        records: lines of a training log. Every one has `step`; `loss`, `loss_text`, `loss_image`,
            `loss_video` and `learning_rate` are drawn where they are present and not null.
    """
    curves = {key: _curve(records, key) for key in (*LOSSES, "learning_rate")}
    drawn = {key: curves[key] for key in LOSSES if len(curves[key])}
    if not drawn:
        raise EvaluationError(
            f"the training log has no loss to draw: none of its {len(records)} records has a "
            f"finite {', '.join(LOSSES)}"
        )
    rates = curves["learning_rate"]
    with plot_style():
        figure = Figure(figsize=(6.2, 3.9 if len(rates) else 3.1), layout="constrained")
        if len(rates):
            top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
            top.tick_params(labelbottom=False)
            finish_axes(bottom, title="learning rate")
            bottom.plot(*rates.T, color=TEAL, linewidth=1.4)
            bottom.set_ylim(0, rates[:, 1].max() * 1.2 or 1)
            bottom.set_yticks([0, rates[:, 1].max()], ["0", f"{rates[:, 1].max():.2g}"])
        else:
            top = bottom = figure.subplots()
        finish_axes(top, title=title)
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
        label_ends(top, ends)
        bottom.set_xlabel("step")
        bottom.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        return to_svg(figure)


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


def _smooth(values: Float64[np.ndarray, " points"]) -> Float64[np.ndarray, " points"]:
    """Mean over a window of a thirtieth of the curve, cut at both ends."""
    half = len(values) // 60
    sums = np.concatenate([[0.0], np.cumsum(values)])
    start = np.maximum(np.arange(len(values)) - half, 0)
    stop = np.minimum(np.arange(len(values)) + half + 1, len(values))
    return (sums[stop] - sums[start]) / (stop - start)
