"""What a picture looks like in a few numbers, and which pictures look the same.

A *view* is a picture reduced to 32 x 32: 64 signs of its cosine transform (pHash, Zauner 2010) and
the mean colours of 8 x 8 places. A picture has two views, of all of it and of its content without
the plain border: the first withstands rescaling and compression, the second also a shift or another
border.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image
from scipy.fft import dctn

from genvlm.data.images import RGBImage

PLACES = 8

_SIDE = 32
_BAND_BITS = 16
_NUM_BANDS = 4
# A cosine coefficient below this share of the root mean square counts as "not above zero":
# symmetric drawings have many coefficients that are zero but for rounding, whose signs are noise.
_DEAD_ZONE = 0.3
_BORDER_LEVELS = 32
# Of a place, that JPEG and rounding alone may make.
_MIN_LEVELS = 4
_MAX_ASPECT_RATIO = 1.16
_MAX_SIZE_RATIO = 1.5
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# The 64 lowest frequencies but the mean.
_ROWS, _COLUMNS = np.array(
    sorted(
        ((u, v) for u in range(16) for v in range(16) if u + v > 0),
        key=lambda place: (sum(place), place),
    )[:64]
).T


class View(NamedTuple):
    """One reduction of a picture."""

    hash: int
    mirrored: int
    """The hash of the mirrored picture."""
    colours: UInt8[np.ndarray, "8 8 3"]
    """Means of 8 x 8 places."""
    aspect: float
    """Width / height, of the content where the view is of it."""


class Look(NamedTuple):
    """What is kept of a picture to find those that look the same."""

    whole: View
    content: View
    width_share: float
    """Width of the content / width of the picture."""
    height_share: float


def look_at(image: RGBImage) -> Look:
    """The look of a picture of any size."""
    height, width = image.shape[:2]
    left, top, right, bottom = _content_box(image)
    whole = _view(image, (0, 0, width, height))
    has_border = (left, top, right, bottom) != (0, 0, width, height)
    content = _view(image, (left, top, right, bottom)) if has_border else whole
    return Look(whole, content, (right - left) / width, (bottom - top) / height)


def _view(image: RGBImage, box: tuple[float, float, float, float]) -> View:
    small: Float32[np.ndarray, "32 32 3"] = np.asarray(
        Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX, box=box), np.float32
    )
    waves = dctn(small @ _LUMA, norm="ortho")[_ROWS, _COLUMNS]
    least = _DEAD_ZONE * np.sqrt((waves**2).mean())
    flipped = np.where(_COLUMNS % 2 == 1, -waves, waves)
    step = _SIDE // PLACES
    colours = small.reshape(PLACES, step, PLACES, step, 3).mean((1, 3))
    left, top, right, bottom = box
    return View(
        _to_int(waves > least),
        _to_int(flipped > least),
        np.round(colours).astype(np.uint8),
        (right - left) / (bottom - top),
    )


def _to_int(bits: np.ndarray) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _content_box(image: RGBImage) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of what is not of the colour of all four corners."""
    height, width = image.shape[:2]
    whole = (0.0, 0.0, float(width), float(height))
    factor = max(1.0, max(width, height) / 256)
    size = (max(1, round(width / factor)), max(1, round(height / factor)))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX), np.int16)
    corners = small[[0, 0, -1, -1], [0, -1, 0, -1]]
    border = np.median(corners, axis=0)
    if np.abs(corners - border).max() > _BORDER_LEVELS:
        return whole
    differs = np.abs(small - border).max(-1) > _BORDER_LEVELS
    rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    if not len(rows):
        return whole
    across, down = width / size[0], height / size[1]
    return (
        float(columns[0] * across), float(rows[0] * down),
        float((columns[-1] + 1) * across), float((rows[-1] + 1) * down),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Alike:
    """How far two pictures that count as the same may be apart."""

    max_distance: int
    """Bits of a hash."""
    max_colour: int
    """Levels of a place, for pictures that reach from black to white; less for paler ones."""
    mirrored: bool

    def __call__(self, one: Look, other: Look) -> bool:
        """Whether two pictures look the same."""
        if self._same_view(one.whole, other.whole):
            return True
        shares = ((one.width_share, other.width_share), (one.height_share, other.height_share))
        return all(_ratio(*share) <= _MAX_SIZE_RATIO for share in shares) and self._same_view(
            one.content, other.content
        )

    def _same_view(self, one: View, other: View) -> bool:
        if _ratio(one.aspect, other.aspect) > _MAX_ASPECT_RATIO:
            return False
        as_is = (one.hash ^ other.hash).bit_count() <= self.max_distance
        if as_is and self._same_colours(one.colours, other.colours):
            return True
        turned = self.mirrored and (one.mirrored ^ other.hash).bit_count() <= self.max_distance
        return turned and self._same_colours(one.colours[:, ::-1], other.colours)

    def _same_colours(self, one: np.ndarray, other: np.ndarray) -> bool:
        # What a copy differs by goes with its contrast: pale drawings of thin lines are otherwise
        # all alike.
        contrast = max(int(np.ptp(one, axis=(0, 1)).max()), int(np.ptp(other, axis=(0, 1)).max()))
        limit = max(min(self.max_colour, _MIN_LEVELS), self.max_colour * contrast / 255)
        return int(np.abs(one.astype(np.int16) - other).max()) <= limit


class LookIndex:
    """Finds pictures that look the same without comparing each with each.

    Multi-index hashing (Norouzi, Punjani and Fleet, arXiv 1307.2982): hashes that differ in at most
    d of 64 bits agree in one of four bands of 16 bits but for d // 4 of its bits, so that all keys
    within that distance in each band find every match. A look-up costs a fixed number of keys, and
    as many comparisons as there are pictures under them: 65,536 keys a band keep these few up to
    some million pictures.
    """

    def __init__(self, alike: Alike) -> None:
        self._alike = alike
        self._flips = _flips(alike.max_distance // _NUM_BANDS)
        self._looks: list[tuple[int, Look]] = []
        # A table for each band of each view: rows of _looks by key.
        self._tables: list[dict[int, list[int]]] = [{} for _ in range(2 * _NUM_BANDS)]

    def add(self, number: int, look: Look) -> None:
        """Keep a picture; numbers are added in rising order."""
        row = len(self._looks)
        self._looks.append((number, look))
        for table, key in zip(self._tables, _keys(look.whole.hash, look.content.hash), strict=True):
            table.setdefault(key, []).append(row)

    def find(self, look: Look) -> Iterator[int]:
        """Numbers of the kept pictures that look the same, the first one first."""
        wanted = [(look.whole.hash, look.content.hash)]
        if self._alike.mirrored:
            wanted.append((look.whole.mirrored, look.content.mirrored))
        rows: set[int] = set()
        for hashes in wanted:
            for table, key in zip(self._tables, _keys(*hashes), strict=True):
                for flip in self._flips:
                    rows.update(table.get(key ^ flip, ()))
        for row in sorted(rows):
            number, kept = self._looks[row]
            if self._alike(look, kept):
                yield number


def _keys(*hashes: int) -> Iterable[int]:
    for value in hashes:
        for band in range(_NUM_BANDS):
            yield (value >> (band * _BAND_BITS)) & ((1 << _BAND_BITS) - 1)


@cache
def _flips(radius: int) -> tuple[int, ...]:
    """All changes of at most `radius` bits of a band."""
    return tuple(
        sum(1 << bit for bit in bits)
        for num_bits in range(radius + 1)
        for bits in combinations(range(_BAND_BITS), num_bits)
    )


def _ratio(one: float, other: float) -> float:
    return max(one, other) / min(one, other)
