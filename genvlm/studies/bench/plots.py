"""Pictures of a benchmark in the colours of `evaluation/svg_style.py`, as PNG for README pages."""

import io
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from genvlm.evaluation.svg_style import BLUE, GREY, GRID, INK, MUTED, ORANGE, SERIES

NamedRatio = tuple[str, float, float | None, float | None, float | None]
"""Label, ratio, interval, bar."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """How something grows."""

    name: str
    """Part of the file's name."""
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    """Points by the name of each curve."""


def draw_ratios(rows: Sequence[NamedRatio]) -> bytes:
    """A bar for each ratio with its interval; a dashed mark where its bar of success stands."""
    with _style():
        figure = Figure(figsize=(7.6, 0.9 + 0.36 * len(rows)), layout="constrained")
        axes = figure.subplots()
        _finish(axes, "")
        title = "how many times better genvlm is (1: equal; dashed: what it has to reach)"
        # Of the figure, not the axes: long labels leave these too little room for it.
        figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, color=MUTED)
        for y, (_, ratio, low, high, bar) in enumerate(rows):
            axes.barh(y, ratio, height=0.62, color=BLUE if ratio >= 1 else GREY)
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color=INK, linewidth=1.2)
            if bar is not None:
                axes.plot([bar] * 2, [y - 0.45, y + 0.45], color=ORANGE, dashes=(2, 1))
            label = f"  {ratio:.2f}"
            axes.text(max(ratio, high or 0, bar or 0), y, label, va="center", color=INK)
        axes.axvline(1, color=MUTED, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [label.replace("$", r"\$") for label, *_ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 1.12 * max(max(r, h or 0, b or 0) for _, r, _, h, b in rows))
        return _png(figure)


def draw_curves(curves: Curves) -> bytes:
    """One line a series; both axes logarithmic with the measured places named."""
    with _style():
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        axes = figure.subplots()
        _finish(axes, curves.y_label)
        for (name, points), colour in zip(curves.series.items(), SERIES, strict=False):
            xs, ys = zip(*points, strict=True)
            axes.plot(xs, ys, color=colour, marker="o", markersize=3.5, label=name)
        axes.set_xscale("log", base=2)
        axes.set_xticks(xs, [f"{x:g}" for x in xs])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set_xlabel(curves.x_label)
        axes.legend(frameon=False, labelcolor=INK)
        return _png(figure)


def _finish(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9.5, color=MUTED, pad=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5)


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context(
        {
            "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK,
            "axes.labelcolor": MUTED, "axes.edgecolor": GREY, "xtick.color": MUTED,
            "ytick.color": INK,
        }
    )  # fmt: skip


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
