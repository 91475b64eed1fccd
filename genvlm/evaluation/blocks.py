"""What a report is made of: prose, pictures, tables, items to browse. Each checks its content."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import UInt8

from genvlm.errors import EvaluationError
from genvlm.evaluation.films import Films

Pixels: TypeAlias = UInt8[np.ndarray, "height width 3"] | UInt8[np.ndarray, "frames height width 3"]
"""A picture, or a clip, which plays for ever; clips of one length that stand together keep step."""
CalloutKind = Literal["note", "good", "warning", "bad"]
Align = Literal["left", "right"]

_MAX_LABEL = 90
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Headline:
    """A number that the page opens with."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Prose:
    """Paragraphs, parted by empty lines; `code` and **bold** are the only markup."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A plot or picture that is a file already: SVG or PNG."""

    svg_or_png: bytes
    caption: str
    alt: str
    """What the figure shows, for those who cannot see it."""

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise EvaluationError(f"figure {self.caption!r}: alt is empty; say what it shows")
        media_type(self.svg_or_png, self.caption)


@dataclass(frozen=True)
class Tile:
    """Pictures that belong together, such as a generated one and its nearest training picture."""

    images: Sequence[Pixels]
    labels: Sequence[str]
    """One under each image."""
    title: str = ""
    good: bool | None = None
    """Draws a tick or a cross beside the title."""

    def __post_init__(self) -> None:
        if not self.images or len(self.images) != len(self.labels):
            raise EvaluationError(
                f"tile {self.title!r}: {len(self.images)} images with {len(self.labels)} labels; "
                "there must be at least one image, and a label (perhaps empty) for each"
            )
        _check_images(self.images, f"tile {self.title!r}")


@dataclass(frozen=True)
class Gallery:
    """Tiles side by side, as many in a row as the window is wide."""

    tiles: Sequence[Tile]
    caption: str = ""
    scale: int | None = None
    """Screen pixels per image pixel; None enlarges small images to about 128."""

    def __post_init__(self) -> None:
        _check_scale(self.scale, f"gallery {self.caption!r}")


@dataclass(frozen=True)
class Interval:
    """A table cell: a value and the interval that it lies in, small beside it."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise EvaluationError(
                f"interval {self.low}..{self.high} does not hold its value {self.value}"
            )


Cell: TypeAlias = str | int | float | Interval | None


@dataclass(frozen=True)
class Table:
    """Rows whose first cell names them. Floats are shown with one decimal, None as a dash."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    align: Sequence[Align] | None = None
    """One for each column; None sets the first left and the others right."""
    highlight_rows: Sequence[int] = ()
    """Numbers of the rows that matter most, from 0."""
    bars: Sequence[str] = ()
    """Columns whose numbers are percents, drawn with a small bar."""

    def __post_init__(self) -> None:
        where = f"table {self.caption!r}"
        if not self.columns:
            raise EvaluationError(f"{where}: needs at least one column")
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise EvaluationError(
                    f"{where}, row {number}: {len(row)} cells for {len(self.columns)} columns"
                )
        if self.align is not None and (
            len(self.align) != len(self.columns) or set(self.align) - set(get_args(Align))
        ):
            raise EvaluationError(
                f"{where}: align must hold 'left' or 'right' for each of the "
                f"{len(self.columns)} columns, got {list(self.align)}"
            )
        outside = [n for n in self.highlight_rows if not 0 <= n < len(self.rows)]
        if outside:
            raise EvaluationError(f"{where}: no row {outside[0]} to highlight")
        for name in self.bars:
            if name not in self.columns:
                raise EvaluationError(
                    f"{where}: bars name a column {name!r}; columns are {', '.join(self.columns)}"
                )
            for row in self.rows:
                _check_percent(row[list(self.columns).index(name)], f"{where}, column {name!r}")

    @property
    def alignment(self) -> Sequence[Align]:
        """How each column is set."""
        return self.align or ["left", *["right"] * (len(self.columns) - 1)]  # type: ignore[list-item]


@dataclass(frozen=True)
class Code:
    """A command, a configuration, an output: shown as it is."""

    text: str
    language: str = ""
    caption: str = ""
    collapsed: bool = False
    """Shown after a click on the caption: for what is long and seldom read."""


@dataclass(frozen=True)
class Story:
    """A document of texts and pictures in their order, laid out as the pages of a picture book."""

    parts: Sequence[str | Pixels]
    caption: str = ""
    scale: int | None = None
    """Screen pixels per image pixel; None enlarges small images to about 192."""

    def __post_init__(self) -> None:
        _check_scale(self.scale, f"story {self.caption!r}")
        pictures = [part for part in self.parts if not isinstance(part, str)]
        _check_images(pictures, f"story {self.caption!r}")

    @property
    def pages(self) -> list[list[str | Pixels]]:
        """Parts in order, a picture with its text on a page: text first if the story opens so."""
        opens_with_text = bool(self.parts) and isinstance(self.parts[0], str)
        pages: list[list[str | Pixels]] = []
        for part in self.parts:
            picture = not isinstance(part, str)
            has_picture = bool(pages) and any(not isinstance(p, str) for p in pages[-1])
            if not pages or (has_picture and (picture or opens_with_text)):
                pages.append([])
            pages[-1].append(part)
        return pages


@dataclass(frozen=True)
class Callout:
    """A remark that must not be missed."""

    text: str
    kind: CalloutKind = "note"

    def __post_init__(self) -> None:
        if self.kind not in get_args(CalloutKind):
            raise EvaluationError(
                f"no callout kind {self.kind!r}; choose one of {', '.join(get_args(CalloutKind))}"
            )


@dataclass(frozen=True)
class BrowserItem:
    """One item of a benchmark: images and texts with how well each fits, or what was answered."""

    images: Sequence[Pixels]
    """May be empty where the pictures are not at hand."""
    texts: Sequence[str]
    scores: Sequence[Sequence[float]]
    """`scores[i][j]`: image i with text j, higher is better; empty for answers."""
    good: bool | None
    """Whether the answer counts as right; None where an item alone is neither."""
    tags: Sequence[str] = ()
    name: str = ""
    correct: Sequence[int] = ()
    """Index of the right text for each image, to be marked; may be empty."""
    lines: Sequence[tuple[str, str]] = ()
    """Of an item that was answered: what was asked, said and right, each with its name."""

    def __post_init__(self) -> None:
        where = f"item {self.name!r}"
        _check_images(self.images, where)
        if self.lines and not self.scores:
            return
        shape = (len(self.scores), len(self.texts))
        if 0 in shape or np.shape(self.scores) != shape or len(self.images) not in (0, shape[0]):
            raise EvaluationError(
                f"{where}: scores of shape {np.shape(self.scores)} for {len(self.images)} images "
                f"and {shape[1]} texts; expected {shape}, none of them 0"
            )
        if not np.isfinite(np.asarray(self.scores, np.float64)).all():
            raise EvaluationError(f"{where}: a score is not finite")
        if len(self.correct) not in (0, shape[0]) or any(
            not 0 <= text < shape[1] for text in self.correct
        ):
            raise EvaluationError(
                f"{where}: correct must hold a text index for each of the {shape[0]} images, "
                f"got {list(self.correct)}"
            )

    @property
    def preferred(self) -> list[int]:
        """Index of the best text for each image."""
        return [int(np.argmax(row)) for row in self.scores]

    @property
    def shown_scores(self) -> list[list[str]]:
        """Scores with as many decimals as it takes to tell them apart, up to six."""
        values = np.unique(np.asarray(self.scores, np.float64))
        gap = np.diff(values).min() if len(values) > 1 else 1.0
        decimals = min(max(1, -math.floor(math.log10(gap))), 6) if gap < 1 else 1
        return [[show_number(score, decimals) for score in row] for row in self.scores]


@dataclass(frozen=True)
class Browser:
    """Items to look through, filtered by right or wrong and by tag."""

    items: Sequence[BrowserItem]
    caption: str = ""
    page_size: int = 12
    """Items shown before "show more" is pressed."""
    scale: int | None = None
    """Screen pixels per image pixel; None enlarges small images to about 96."""

    def __post_init__(self) -> None:
        _check_scale(self.scale, f"browser {self.caption!r}")
        if self.page_size < 1:
            raise EvaluationError(f"browser: page_size must be at least 1, got {self.page_size}")

    @property
    def num_wrong(self) -> int:
        """Items that count as wrong."""
        return sum(item.good is False for item in self.items)

    @property
    def num_right(self) -> int:
        """Items that count as right."""
        return sum(item.good is True for item in self.items)

    @property
    def tags(self) -> list[tuple[str, int]]:
        """Every tag with the number of its items."""
        found = [tag for item in self.items for tag in dict.fromkeys(item.tags)]
        return [(tag, found.count(tag)) for tag in sorted(set(found))]


Block: TypeAlias = Prose | Figure | Gallery | Table | Code | Story | Callout | Browser | Films


@dataclass(frozen=True)
class Section:
    """A heading that the table of contents lists, and what is under it."""

    title: str
    blocks: Sequence[Block] = ()
    intro: str = ""

    def __post_init__(self) -> None:
        if not self.title.strip():
            raise EvaluationError("a section of the report has an empty title")
        for block in self.blocks:
            if not isinstance(block, Block):
                raise EvaluationError(
                    f"section {self.title!r}: {type(block).__name__} is no block; use one of "
                    f"{', '.join(kind.__name__ for kind in get_args(Block))}"
                )


def _check_images(images: Sequence[Pixels], where: str) -> None:
    for number, image in enumerate(images):
        found = f"{type(image).__name__}"
        if isinstance(image, np.ndarray):
            found = f"{image.dtype} of shape {image.shape}"
            sized = image.ndim in (3, 4) and image.shape[-1] == 3 and image.size
            if image.dtype == np.uint8 and sized:
                continue
        raise EvaluationError(
            f"{where}, image {number}: expected uint8 of shape (height, width, 3), or of a clip "
            f"(frames, height, width, 3), got {found}"
        )


def _check_scale(scale: int | None, where: str) -> None:
    if scale is not None and scale < 1:
        raise EvaluationError(f"{where}: scale must be a whole number from 1, got {scale}")


def _check_percent(cell: Cell, where: str) -> None:
    if cell is None or isinstance(cell, str):
        return
    numbers = (cell.low, cell.high) if isinstance(cell, Interval) else (cell,)
    if not all(0 <= number <= 100 for number in numbers):
        raise EvaluationError(f"{where}: a bar needs a percent from 0 to 100, got {cell}")


def media_type(content: bytes, caption: str) -> str:
    if content.startswith(_PNG):
        return "image/png"
    if re.match(rb"\s*(<\?xml[^>]*>\s*)?(<!(--.*?--|DOCTYPE[^>]*)>\s*)*<svg\b", content, re.DOTALL):
        return "image/svg+xml"
    raise EvaluationError(f"figure {caption!r}: neither PNG nor SVG (starts {content[:12]!r})")


def show_number(value: float, decimals: int) -> str:
    """Digits with thin spaces between thousands and a true minus sign."""
    digits = f"{value:,.{decimals}f}" if math.isfinite(value) else str(value)
    return digits.replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")


def show_start(text: str) -> str:
    """A text of strangers as a label: its first 90 characters."""
    return text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"
