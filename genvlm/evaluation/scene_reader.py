"""An automatic reader of two-icon scenes: which icons, and which relation holds.

Nearest icon by mean squared pixel difference, over sizes and small shifts, in the two halves of
the picture, side by side or one above the other. It must itself read real scenes almost without
error before it may judge generated ones.
"""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image

from genvlm.data.emoji import Vendor, find_concept, load_drawings
from genvlm.data.images import RGBImage
from genvlm.data.scenes import ICONS, SIZE, Icon, Relation, Scene

_WINDOW = 32
_SIZES = (29, 30, 31)
_SHIFTS = range(-2, 3)
# Upper left corners (row, column) of the two windows of each orientation.
_SIDE_BY_SIDE = ((16, 0), (16, 32))
_STACKED = ((0, 16), (32, 16))
_HALVES: dict[Relation, tuple[int, int]] = {
    "left of": _SIDE_BY_SIDE[0], "right of": _SIDE_BY_SIDE[1],
    "above": _STACKED[0], "below": _STACKED[1],
}  # fmt: skip


class Reading(NamedTuple):
    """The scene that a picture shows: `first` stands left of, or above, `second`."""

    first: Icon
    relation: Relation
    second: Icon
    distance: float
    """Mean squared difference of the two windows, pixels in [0, 1]."""


class ReadingShares(NamedTuple):
    """Shares in percent of pictures that show what their scene says."""

    both_icons: float
    relation: float
    """Both icons and the right relation."""
    n: int


def read_scenes(images: Sequence[RGBImage], vendors: tuple[Vendor, ...]) -> list[Reading]:
    """The two-icon scene nearest to each 64x64 picture, in the drawings of any of the vendors."""
    pixels = np.stack(images).astype(np.float32) / 255
    candidates = []
    for corners, relation in ((_SIDE_BY_SIDE, "left of"), (_STACKED, "above")):
        (first, near), (second, far) = (_nearest(pixels, r, c, vendors) for r, c in corners)
        candidates.append((first, relation, second, (near + far) / 2))
    readings = []
    for i in range(len(images)):
        first, relation, second, distance = min(candidates, key=lambda c: c[3][i])
        pair = ICONS[first[i]], ICONS[second[i]]
        readings.append(Reading(pair[0], relation, pair[1], float(distance[i])))  # type: ignore[arg-type]
    return readings


def read_halves(
    images: Sequence[RGBImage], sides: Sequence[Relation], vendors: tuple[Vendor, ...]
) -> list[Icon]:
    """The icon nearest to one half of each 64x64 picture; "left of" is the left half."""
    pixels = np.stack(images).astype(np.float32) / 255
    found: dict[int, Icon] = {}
    for side, (row, column) in _HALVES.items():
        rows = [i for i, s in enumerate(sides) if s == side]
        if rows:
            numbers, _ = _nearest(pixels[rows], row, column, vendors)
            found |= {i: ICONS[n] for i, n in zip(rows, numbers, strict=True)}
    return [found[i] for i in range(len(images))]


def judge_scenes(
    images: Sequence[RGBImage], scenes: Sequence[Scene], vendors: tuple[Vendor, ...]
) -> list[tuple[bool, bool]]:
    """For each picture whether it shows both icons, and whether the relation holds as well."""
    verdicts = []
    for reading, scene in zip(read_scenes(images, vendors), scenes, strict=True):
        both = {reading.first.label, reading.second.label} == {
            scene.first.label,
            scene.second.label,
        }
        leads = scene.relation in ("left of", "above")
        horizontal = scene.relation in ("left of", "right of")
        first = scene.first if leads else scene.second
        related = (
            both
            and reading.first.label == first.label
            and (reading.relation == "left of") == horizontal
        )
        verdicts.append((both, related))
    return verdicts


def reading_shares(verdicts: Sequence[tuple[bool, bool]]) -> ReadingShares:
    """Percentages of a list of verdicts."""
    values = np.asarray(verdicts, np.float64)
    both_icons, relation = (100 * values.mean(0)).tolist()
    return ReadingShares(both_icons, relation, len(values))


def _nearest(
    pixels: np.ndarray, row: int, column: int, vendors: tuple[Vendor, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Per picture the number of the nearest icon in one window, and its distance."""
    windows = pixels[:, row : row + _WINDOW, column : column + _WINDOW].reshape(len(pixels), -1)
    bank, squares = _templates(vendors)
    distances = squares - 2 * windows @ bank.T + (windows**2).sum(1, keepdims=True)
    per_icon = len(_SIZES) * len(_SHIFTS) ** 2
    return distances.argmin(1) // per_icon % len(ICONS), distances.min(1) / windows.shape[1]


@cache
def _templates(vendors: tuple[Vendor, ...]) -> tuple[np.ndarray, np.ndarray]:
    rows = []
    for vendor, icon in itertools.product(vendors, ICONS):
        drawing = Image.fromarray(load_drawings(vendor)[find_concept(icon.label).index])
        for size in _SIZES:
            small = drawing.resize((size, size), Image.Resampling.LANCZOS)
            start = (SIZE // 2 - size) // 2
            for down in _SHIFTS:
                for right in _SHIFTS:
                    canvas = Image.new("RGB", (_WINDOW, _WINDOW), "white")
                    canvas.paste(small, (start + right, start + down))
                    rows.append(np.asarray(canvas, np.float32).reshape(-1) / 255)
    bank = np.stack(rows)
    return bank, (bank**2).sum(1)
