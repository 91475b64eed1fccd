"""A report as one self-contained HTML page: blocks of prose, pictures, tables, items to browse.

Every text may come from a model or a stranger's file and is escaped; every picture is inside the
page, pixel for pixel. The page loads nothing and says so to the browser, and the same input gives
the same bytes. Its looks are in `report.html.j2`.
"""

import base64
import hashlib
import io
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import jinja2
import numpy as np
from jaxtyping import UInt8
from markupsafe import Markup, escape
from PIL import Image

from genvlm.errors import EvaluationError

RGBPixels: TypeAlias = UInt8[np.ndarray, "height width 3"]
CalloutKind = Literal["note", "good", "warning", "bad"]
Align = Literal["left", "right"]

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
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
        _media_type(self.svg_or_png, self.caption)


@dataclass(frozen=True)
class Tile:
    """Pictures that belong together, such as a generated one and its nearest training picture."""

    images: Sequence[RGBPixels]
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

    parts: Sequence[str | RGBPixels]
    caption: str = ""
    scale: int | None = None
    """Screen pixels per image pixel; None enlarges small images to about 192."""

    def __post_init__(self) -> None:
        _check_scale(self.scale, f"story {self.caption!r}")
        pictures = [part for part in self.parts if not isinstance(part, str)]
        _check_images(pictures, f"story {self.caption!r}")

    @property
    def pages(self) -> list[list[str | RGBPixels]]:
        """Parts in order, a picture with its text on a page: text first if the story opens so."""
        opens_with_text = bool(self.parts) and isinstance(self.parts[0], str)
        pages: list[list[str | RGBPixels]] = []
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
    """One question of a benchmark: images, texts, and how well each text fits each image."""

    images: Sequence[RGBPixels]
    texts: Sequence[str]
    scores: Sequence[Sequence[float]]
    """`scores[i][j]`: image i with text j, higher is better."""
    good: bool
    """Whether the answer counts as right."""
    tags: Sequence[str] = ()
    name: str = ""
    correct: Sequence[int] = ()
    """Index of the right text for each image, to be marked; may be empty."""

    def __post_init__(self) -> None:
        where = f"item {self.name!r}"
        shape = (len(self.images), len(self.texts))
        if 0 in shape or np.shape(self.scores) != shape:
            raise EvaluationError(
                f"{where}: scores of shape {np.shape(self.scores)} for {shape[0]} images and "
                f"{shape[1]} texts; expected {shape}, none of them 0"
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
        _check_images(self.images, where)

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
        return [[_number(score, decimals) for score in row] for row in self.scores]


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
    def tags(self) -> list[tuple[str, int]]:
        """Every tag with the number of its items."""
        found = [tag for item in self.items for tag in dict.fromkeys(item.tags)]
        return [(tag, found.count(tag)) for tag in sorted(set(found))]


Block: TypeAlias = Prose | Figure | Gallery | Table | Code | Story | Callout | Browser


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


def render_report(
    title: str,
    subtitle: str = "",
    headlines: Sequence[Headline] = (),
    sections: Sequence[Section] = (),
    footer: str = "",
) -> str:
    """The whole page. `subtitle`, a section's `intro` and `footer` take the markup of `Prose`."""
    template = files("genvlm.evaluation").joinpath("report.html.j2").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        kind=lambda block: type(block).__name__,
        prose=_prose,
        inline=_inline,
        cell=_cell,
        png=lambda image: _data_uri(_png(image)),
        data_uri=_data_uri,
        scale=_scale,
        csp_hash=_csp_hash,
    )
    return environment.from_string(template).render(
        title=title, subtitle=subtitle, headlines=headlines, sections=sections, footer=footer
    )


def save_report(html: str, path: Path | str) -> None:
    """Write the page; whoever opens the path finds the old page or the new one, never half."""
    path = Path(path)
    if path.is_dir():
        raise EvaluationError(
            f"{path} is a folder; name the file to write, e.g. {path}/report.html"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(html.encode("utf-8"))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _check_images(images: Sequence[RGBPixels], where: str) -> None:
    for number, image in enumerate(images):
        found = f"{type(image).__name__}"
        if isinstance(image, np.ndarray):
            found = f"{image.dtype} of shape {image.shape}"
            if image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size:
                continue
        raise EvaluationError(
            f"{where}, image {number}: expected uint8 of shape (height, width, 3), got {found}"
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


def _media_type(content: bytes, caption: str) -> str:
    if content.startswith(_PNG):
        return "image/png"
    if re.match(rb"\s*(<\?xml[^>]*>\s*)?(<!(--.*?--|DOCTYPE[^>]*)>\s*)*<svg\b", content, re.DOTALL):
        return "image/svg+xml"
    raise EvaluationError(f"figure {caption!r}: neither PNG nor SVG (starts {content[:12]!r})")


def _png(image: RGBPixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()


def _data_uri(content: bytes) -> str:
    encoded = base64.b64encode(content).decode("ascii")
    return f"data:{_media_type(content, '')};base64,{encoded}"


def _scale(image: RGBPixels, scale: int | None, target: int) -> int:
    """The given scale, or the whole number that brings the longer side nearest to the target."""
    return scale or max(1, round(target / max(image.shape[:2])))


def _csp_hash(script: str) -> str:
    """Names this very script in the content security policy, so that no other one can run."""
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _printable(value: object) -> object:
    """Text without control characters, halves of surrogate pairs and reversals of direction."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def _inline(text: str) -> Markup:
    html = str(escape(_printable(text)))
    html = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html)
    return Markup(re.sub(r"\*\*(?!\s)([^*`<\n]+)(?<!\s)\*\*", r"<strong>\1</strong>", html))


def _prose(text: str) -> Markup:
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return Markup("\n").join(Markup("<p>{}</p>").format(_inline(p)) for p in paragraphs if p)


def _cell(cell: Cell) -> str:
    match cell:
        case None:
            return "\N{EN DASH}"
        case str():
            return cell
        case Interval():
            return _number(cell.value, 1)
        case bool():
            return "yes" if cell else "no"
        case int():
            return _number(cell, 0)
        case _:
            return _number(cell, 1)


def _number(value: float, decimals: int) -> str:
    """Digits with thin spaces between thousands and a true minus sign."""
    digits = f"{value:,.{decimals}f}" if math.isfinite(value) else str(value)
    return digits.replace(",", "\N{NARROW NO-BREAK SPACE}").replace("-", "\N{MINUS SIGN}")
