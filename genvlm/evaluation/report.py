"""A report as one self-contained HTML page: blocks of prose, pictures, tables, items to browse.

Every text may come from a model or a stranger's file and is escaped; every picture is inside the
page, pixel for pixel. The page loads nothing and says so to the browser, and the same input gives
the same bytes. Its looks are in `report.html.j2`.
"""

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from genvlm.data.clip_files import gif_bytes
from genvlm.errors import EvaluationError
from genvlm.evaluation.blocks import (
    Cell,
    Headline,
    Interval,
    Pixels,
    Section,
    media_type,
    show_number,
)
from genvlm.evaluation.films import heat_sheet, png_bytes, sheet

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


def render_report(
    title: str,
    subtitle: str = "",
    headlines: Sequence[Headline] = (),
    sections: Sequence[Section] = (),
    footer: str = "",
) -> str:
    """The whole page. `subtitle`, a section's `intro` and `footer` take the markup of `Prose`."""
    folder = files("genvlm.evaluation")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
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
        pixels_uri=_pixels_uri,
        data_uri=lambda content: _data_uri(content, media_type(content, "")),
        scale=_scale,
        csp_hash=_csp_hash,
        film_sheet=lambda film, block: _png_uri(sheet(film, block.columns)),
        heat_sheet=lambda film, block: _png_uri(heat_sheet(film, block.columns, block.hottest)),
    )
    return environment.get_template("report.html.j2").render(
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


def _pixels_uri(image: Pixels) -> str:
    if image.ndim == 3:
        return _png_uri(png_bytes(image))
    return _data_uri(gif_bytes(image), "image/gif")


def _png_uri(png: bytes) -> str:
    return _data_uri(png, "image/png")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _scale(image: Pixels, scale: int | None, target: int) -> int:
    """The given scale, or the whole number that brings the longer side nearest to the target."""
    return scale or max(1, round(target / max(image.shape[-3:-1])))


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
            return show_number(cell.value, 1)
        case bool():
            return "yes" if cell else "no"
        case int():
            return show_number(cell, 0)
        case _:
            return show_number(cell, 1)
