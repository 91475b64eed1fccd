"""Clips that play in a report, with a curve under them and, where there is one, a heat map on them.

All frames are in one picture of which the page shows a part at a time, so that all clips of a
block, the heat maps and the cursor of the curve show the same frame, and a reader can stop and
step.
"""

import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image

from genvlm.errors import EvaluationError

# Red, as opaque as a code is surprising.
_HEAT = (217, 30, 24)
_MAX_ALPHA = 210
# Of the drawing of the curve, in its own units.
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 560, 130, 46, 22, 8


@dataclass(frozen=True)
class Film:
    """One clip."""

    frames: UInt8[np.ndarray, "frames height width 3"]
    label: str
    curve: Sequence[float | None] = ()
    """A value for each span of its block, None where there is none."""
    heat: Float[np.ndarray, "frames rows columns"] | None = None
    """Laid over the frames; NaN is shown as nothing."""

    def __post_init__(self) -> None:
        frames = self.frames
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
            raise EvaluationError(
                f"film {self.label!r}: expected uint8 of shape (frames, height, width, 3), got "
                f"{frames.dtype} of shape {frames.shape}"
            )
        if self.heat is not None and (self.heat.ndim != 3 or len(self.heat) != len(frames)):
            raise EvaluationError(
                f"film {self.label!r}: a heat map of shape {self.heat.shape} for {len(frames)} "
                "frames; it needs (frames, rows, columns)"
            )


class Line(NamedTuple):
    """One curve as it is drawn."""

    path: str
    label: str
    style: int


@dataclass(frozen=True)
class Films:
    """Clips of equally many frames that play together, above their curves."""

    films: Sequence[Film]
    caption: str = ""
    spans: Sequence[tuple[int, int]] = ()
    """First and last frame that each value of a curve is about."""
    unit: str = ""
    """Of the curves."""
    good: bool | None = None
    """Draws a tick or a cross beside the caption."""
    scale: int = 2
    """Screen pixels per pixel."""

    def __post_init__(self) -> None:
        where = f"films {self.caption!r}"
        if len({len(film.frames) for film in self.films}) != 1:
            raise EvaluationError(f"{where}: give at least one film, and all of as many frames")
        for film in self.films:
            if len(film.curve) not in (0, len(self.spans)):
                raise EvaluationError(
                    f"{where}: {len(film.curve)} values of {film.label!r} for {len(self.spans)} "
                    "spans"
                )
            if any(value is not None and not np.isfinite(value) for value in film.curve):
                raise EvaluationError(f"{where}: a value of {film.label!r} is not finite")

    @property
    def num_frames(self) -> int:
        """Of each film."""
        return len(self.films[0].frames)

    @property
    def columns(self) -> int:
        """Frames side by side in the picture that holds all; browsers limit its sides."""
        return math.isqrt(self.num_frames - 1) + 1

    @property
    def rows(self) -> int:
        """Rows of frames in that picture."""
        return -(-self.num_frames // self.columns)

    @property
    def hottest(self) -> float:
        """The largest value of any heat map; 0 without any."""
        maps = [film.heat for film in self.films if film.heat is not None]
        tops = [float(np.nanmax(heat)) for heat in maps if not np.isnan(heat).all()]
        return max(0.0, *tops) if tops else 0.0

    @property
    def step(self) -> float:
        """Width of a frame in the drawing."""
        return (_WIDTH - _LEFT - 8) / self.num_frames

    @property
    def box(self) -> tuple[int, int, int, int, int]:
        """Width, height, left, bottom and top margins of the drawing."""
        return _WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP

    @property
    def range(self) -> tuple[float, float]:
        """Lowest and highest value of the axis: of the curves, with some room."""
        values = [v for film in self.films for v in film.curve if v is not None] or [0.0]
        room = 0.08 * (max(values) - min(values)) or 1.0
        return min(values) - room, max(values) + room

    @property
    def lines(self) -> list[Line]:
        """The curves: a level for each span, joined to the next one where both are there."""
        low, high = self.range
        height = _HEIGHT - _BOTTOM - _TOP

        def place(frame: float, value: float) -> str:
            x = _LEFT + frame * self.step
            return f"{x:.1f} {_TOP + height * (high - value) / (high - low):.1f}"

        drawn = []
        for style, film in enumerate(self.films):
            if not film.curve:
                continue
            path, joined = "", False
            for (first, last), value in zip(self.spans, film.curve, strict=True):
                if value is None:
                    joined = False
                    continue
                path += f"{'L' if joined else 'M'}{place(first, value)}L{place(last + 1, value)}"
                joined = True
            drawn.append(Line(path, film.label, style))
        return drawn

    @property
    def ticks(self) -> list[tuple[int, float]]:
        """Numbers of frames under the curve and their places."""
        every = next(e for e in itertools.chain((4, 8, 16), itertools.count(32, 32))
                     if self.num_frames / e <= 16)  # fmt: skip
        return [
            (frame, _LEFT + (frame + 0.5) * self.step) for frame in range(0, self.num_frames, every)
        ]


def sheet(film: Film, columns: int) -> bytes:
    """All frames, row by row, as PNG."""
    return png_bytes(_in_rows(film.frames, columns))


def heat_sheet(film: Film, columns: int, hottest: float) -> bytes:
    """The heat maps, row by row, as PNG with transparency."""
    assert film.heat is not None
    share = np.nan_to_num(film.heat, nan=0.0).clip(0) / (hottest or 1.0)
    pixels = np.empty((*film.heat.shape, 4), np.uint8)
    pixels[..., :3] = _HEAT
    pixels[..., 3] = np.round(_MAX_ALPHA * share.clip(0, 1))
    return png_bytes(_in_rows(pixels, columns))


def _in_rows(
    pictures: UInt8[np.ndarray, "frames height width channels"], columns: int
) -> UInt8[np.ndarray, "h w channels"]:
    """Pictures side by side, `columns` in a row; the last row is filled with zeros."""
    num, height, width, channels = pictures.shape
    rows = -(-num // columns)
    filled = np.zeros((rows * columns, height, width, channels), np.uint8)
    filled[:num] = pictures
    return rearrange(filled, "(r c) h w d -> (r h) (c w) d", c=columns)


def png_bytes(pixels: UInt8[np.ndarray, "height width channels"]) -> bytes:
    """A picture as PNG; four channels are with transparency."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()
