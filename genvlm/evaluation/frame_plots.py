"""Plots over the frames of a video, as SVG bytes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from genvlm.errors import EvaluationError
from genvlm.evaluation.svg_style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    TEAL,
    finish_axes,
    plain,
    plot_style,
    to_svg,
)

MODEL, TRUTH, CEILING, COPY = BLUE, TEAL, MUTED, ORANGE
"""Colours of the curves: what a model draws, the video itself, its reconstruction, a copy."""


class FrameCurve(NamedTuple):
    """One value a frame."""

    name: str
    values: Sequence[float]
    colour: str
    faint: bool = False
    """One of several of which a bold curve is the mean; its name is not shown."""


class FramePanel(NamedTuple):
    """Curves over the same frames, of which the first has the number `first`."""

    title: str
    curves: Sequence[FrameCurve]
    first: int
    unit: str = "frame"
    """What is counted below: frames, or latent frames."""


def frame_curves(panels: Sequence[FramePanel]) -> bytes:
    """Panels below one another; an axis begins at 0 where no value is less. NaN leaves a gap."""
    if not panels:
        raise EvaluationError("a plot over frames needs at least one panel, got none")
    with plot_style():
        size = (6.2, 2.15 * len(panels))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axes, panel in zip(grid, panels, strict=True):
            _draw(axes, panel)
        return to_svg(figure)


def _draw(axes: Axes, panel: FramePanel) -> None:
    finish_axes(axes, title=panel.title)
    for curve in panel.curves:
        places = panel.first + np.arange(len(curve.values))
        width, alpha = (0.8, 0.45) if curve.faint else (1.8, 1.0)
        marker = "o" if len(curve.values) == 1 else ""
        axes.plot(
            places, curve.values, color=curve.colour, linewidth=width, alpha=alpha, marker=marker,
            markersize=4, label="_" if curve.faint else plain(curve.name),
        )  # fmt: skip
    if max((len(curve.values) for curve in panel.curves), default=0) == 1:
        axes.set_xlim(panel.first - 1, panel.first + 1)  # no room for fractions of a frame
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(panel.unit)
    axes.legend(
        frameon=False, fontsize=8, labelcolor=INK, loc="center left", bbox_to_anchor=(1, 0.5)
    )
    if all(value >= 0 or math.isnan(value) for c in panel.curves for value in c.values):
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
