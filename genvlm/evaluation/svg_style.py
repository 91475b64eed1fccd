"""How plots look: colours, frames, SVG bytes that are readable on light and on dark backgrounds.

Matplotlib draws in the light colours. A style sheet inside the SVG exchanges them where the reader
prefers a dark scheme, also when the SVG is shown by an `<img>` element.
"""

import io
import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Light colour -> dark colour. Each light colour is used for one role only.
INK, MUTED, GRID = "#1f2430", "#616877", "#dfe1e6"
BLUE, ORANGE, TEAL, GREY = "#3355cc", "#b8500f", "#0f766e", "#a9afbb"
DARK = {
    INK: "#e8eaf0", MUTED: "#a3abba", GRID: "#343a47",
    BLUE: "#8fa8ff", ORANGE: "#ffa566", TEAL: "#4fd1bf", GREY: "#616b7d",
}  # fmt: skip
SERIES = (BLUE, ORANGE, TEAL, MUTED)
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', 'DejaVu Sans', sans-serif"


def finish_axes(axes: Axes, *, title: str, grid: Literal["x", "y"] = "y") -> None:
    """A light frame: the axis' name above it, lines of one direction behind the data."""
    axes.set_title(plain(title), loc="left", fontsize=9.5, color=MUTED, pad=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=5)


def plain(text: str) -> str:
    """Text without matplotlib's mathematics, nor characters that XML cannot hold."""
    text = re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "\N{REPLACEMENT CHARACTER}", text)
    return text.replace("$", r"\$")


def plot_style() -> AbstractContextManager[None]:
    """Settings under which a figure is drawn."""
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


def to_svg(figure: Figure) -> bytes:
    """The same figure gives the same bytes."""
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


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float, str]]) -> None:
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
