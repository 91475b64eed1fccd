"""Clips that a camera sees: drawings on textured ground, with captions that are exactly true.

Most pixels of `moving_emoji` and `physics` are flat and still. Here a camera of 64x64 pixels pans
over a larger canvas, zooms, or stands still while one drawing moves, and the ground has the
spectrum of natural pictures: an amplitude that falls as 1/f^alpha (Field 1987).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage

from genvlm.data.emoji import Concept, Vendor, load_drawings, split_concepts
from genvlm.data.grounds import Ground, draw_ground, sample_ground
from genvlm.data.images import RGBImage
from genvlm.data.videos import VideoFrames
from genvlm.errors import DataError

NUM_FRAMES = 17
SIZE = 64
CANVAS = 192
SPEEDS = (0.3, 3.0)
"""Of a camera that pans or of a drawing that moves, in pixels per frame."""
ZOOMS = (1.004, 1.02)
"""Magnification from each frame to the next, or its inverse."""
MAX_ZOOM = 2.0
"""Of a whole clip."""
NUM_DRAWINGS = (3, 8)
SIZES = (20, 96)
SUBJECT_SIZES = (20, 36)
# Pixels between the edge of the view and the centre of the subject, at frame 0.
_MARGIN = 16
# A moving subject begins in so wide a strip, and its centre goes as far as the edge of the view.
_STRIP = 8
_REACH = SIZE - _MARGIN - _STRIP
MAX_FRAMES = 1 + int(_REACH / SPEEDS[0])
# Most that other drawings' centres are off those of the views, in rows and columns.
_SPREAD = 48
# Between any view and the edge of the canvas, where bicubic weights would reach beyond it.
_EDGE = 2
_ROOM = CANVAS - SIZE - 2 * _EDGE
# First word of seeds: other sources of clips have smaller ones.
_STREAM = 1000
# What a plain noun names; clock faces are "one o'clock".
_GROUPS = frozenset(
    {"activities", "animals-nature", "food-drink", "objects", "smileys-emotion", "travel-places"}
)
_WHITE = 250

Motion = Literal["pan", "zoom", "move"]
MOTIONS: dict[Motion, float] = {"pan": 0.5, "zoom": 0.25, "move": 0.25}
"""What moves, with its share of the clips: the camera, its focal length, or the subject."""


@dataclass(frozen=True)
class Drawing:
    """A drawing on the canvas."""

    concept: Concept
    size: int
    """Side of its square before it is turned, in pixels."""
    degrees: float
    """How far it is turned to the left."""
    centre: tuple[float, float]
    """Row and column on the canvas."""


@dataclass(frozen=True)
class CameraClip:
    """What one camera sees; the last drawing, the subject, lies above the others."""

    motion: Motion
    ground: Ground
    drawings: tuple[Drawing, ...]
    vendor: Vendor
    start: tuple[float, float]
    """Row and column of the centre of the view at frame 0."""
    velocity: tuple[float, float]
    """Of the camera or of the subject, in rows and columns per frame."""
    zoom: float
    """Magnification of each frame as a multiple of that of the frame before."""
    num_frames: int

    @cached_property
    def caption(self) -> str:
        """A sentence that is true of the frames and names every drawing in view at first."""
        *others, subject = self.seen
        if self.motion == "pan":
            return f"the camera pans {self.direction} over {_listed([subject, *others])}"
        around = f" with {_listed(others)} in view" if others else ""
        name = f"the {subject.concept.label}"
        if self.motion == "move":
            return f"the still camera sees {name} move {self.direction}{around}"
        way = "in on" if self.zoom > 1 else "out from"
        return f"the camera zooms {way} {name}{around}"

    @property
    def direction(self) -> str:
        """ "left" is exactly horizontal; "up and left" is at least 15 degrees off either axis."""
        names = (("up", "", "down"), ("left", "", "right"))
        words = [n[int(np.sign(v)) + 1] for n, v in zip(names, self.velocity, strict=True)]
        return " and ".join(w for w in words if w)

    @cached_property
    def seen(self) -> tuple[Drawing, ...]:
        """Drawings at least half of which is in view at frame 0 and not covered by others.

        The subject, which is in view and above the others, is always the last.
        """
        owner = np.full((CANVAS, CANVAS), -1)
        areas = []
        *others, subject = self.drawings
        for number, drawing in enumerate(others):
            solid = _sprite(drawing, self.vendor)[..., 3] > 0.5
            target, part = _overlap(drawing, solid.shape)
            owner[target][solid[part]] = number
            areas.append(solid.sum())
        solid = _sprite(subject, self.vendor)[..., 3] > 0.5
        target, part = _overlap(subject, solid.shape)
        owner[target][solid[part]] = -1
        reach = SIZE / 2 * self._scales[0]
        rows, columns = (
            slice(round(middle - reach), round(middle + reach)) for middle in self.start
        )
        visible = owner[rows, columns]
        shown = [
            drawing
            for number, (drawing, area) in enumerate(zip(others, areas, strict=True))
            if (visible == number).sum() >= area / 2
        ]
        return (*shown, subject)

    def render(self) -> VideoFrames:
        """Its frames, (T, 64, 64, 3) uint8."""
        gradient, noise = draw_ground(self.ground, CANVAS)
        canvas, grain = gradient + noise, self.ground.grain * noise
        moves = self.motion == "move"
        for drawing in self.drawings[:-1] if moves else self.drawings:
            sprite = _sprite(drawing, self.vendor)
            target, part = _overlap(drawing, sprite.shape[:2])
            sprite = _roughened(sprite[part], grain[target])
            canvas[target] = canvas[target] * (1 - sprite[..., 3:]) + sprite[..., :3]
        if not moves:
            frames = _sample(canvas, self._view_centres, self._scales)
        else:
            frames = _sample(canvas, self._view_centres[:1], self._scales[:1])
            sprite = _sprite(self.drawings[-1], self.vendor)
            sprite = _roughened(sprite, grain[: sprite.shape[0], : sprite.shape[1]])
            # Where the centre of the view is on a canvas that is the subject alone.
            middle = np.array(sprite.shape[:2]) / 2
            places = self._subject_centres - np.array(self.start)
            layer = _sample(sprite, middle - places, self._scales)
            frames = frames * (1 - layer[..., 3:].clip(0, 1)) + layer[..., :3]
        return frames.round().clip(0, 255).astype(np.uint8)

    @property
    def _scales(self) -> np.ndarray:
        """Canvas pixels per pixel of each frame, at most one: nothing is ever sampled coarsely."""
        powers = self.zoom ** -np.arange(self.num_frames, dtype=float)
        return powers / powers.max()

    @property
    def _view_centres(self) -> np.ndarray:
        return np.array(self.start) + self._travelled * (self.motion == "pan")

    @property
    def _subject_centres(self) -> np.ndarray:
        return np.array(self.drawings[-1].centre) + self._travelled * (self.motion == "move")

    @property
    def _travelled(self) -> np.ndarray:
        return np.arange(self.num_frames)[:, None] * np.array(self.velocity)


def sample_camera_clips(
    num: int, seed: int, num_frames: int = NUM_FRAMES, *, vendors: Sequence[Vendor] = ("noto",)
) -> Iterator[CameraClip]:
    """`num` clips of training families, each a pure function of (seed, its number).

    Args:
        vendors: whose drawings they hold, in turns.

    Raises:
        DataError: a single frame, or more than the slowest subject moves for within the view.
    """
    if not 2 <= num_frames <= MAX_FRAMES:
        raise DataError(
            f"a clip of a camera cannot have {num_frames} frames; choose num_frames of 2 to "
            f"{MAX_FRAMES}"
        )
    for number in range(num):
        key = (_STREAM, seed, number)
        yield _sample_clip(key, num_frames, vendors[number % len(vendors)])


def _sample_clip(key: tuple[int, ...], num_frames: int, vendor: Vendor) -> CameraClip:
    rng = np.random.default_rng([*key, 1])
    motion = list(MOTIONS)[rng.choice(len(MOTIONS), p=list(MOTIONS.values()))]
    steps = num_frames - 1
    towards, zoom = np.zeros(2), 1.0
    if motion == "zoom":
        zoom = rng.uniform(ZOOMS[0], min(ZOOMS[1], MAX_ZOOM ** (1 / steps)))
        zoom = zoom if rng.random() < 0.5 else 1 / zoom
    else:
        reach = _ROOM if motion == "pan" else _REACH
        towards = _sample_direction(rng) * rng.uniform(SPEEDS[0], min(SPEEDS[1], reach / steps))
    ways = towards * steps * (motion == "pan")
    start = [_EDGE + SIZE / 2 + _begin(rng, way) for way in ways]
    if motion == "move":
        offsets = [_MARGIN + _begin_of_subject(rng, step) - SIZE / 2 for step in towards]
    else:
        # A zoom is on its subject.
        room = 0 if motion == "zoom" else SIZE / 2 - _MARGIN
        offsets = list(rng.uniform(-room, room, 2))
    num = int(rng.integers(NUM_DRAWINGS[0], NUM_DRAWINGS[1] + 1))
    concepts = [_concepts()[i] for i in rng.choice(len(_concepts()), num, replace=False)]
    drawings = []
    for concept in concepts[1:]:
        centre = start + ways * rng.random() + rng.uniform(-_SPREAD, _SPREAD, 2)
        drawings.append(_sample_drawing(rng, concept, SIZES, centre))
    drawings.sort(key=lambda d: -d.size)  # large ones beneath small ones
    drawings.append(_sample_drawing(rng, concepts[0], SUBJECT_SIZES, np.add(start, offsets)))
    return CameraClip(
        motion=motion,
        ground=sample_ground(rng, (*key, 2)),
        drawings=tuple(drawings),
        vendor=vendor,
        start=(float(start[0]), float(start[1])),
        velocity=(float(towards[0]), float(towards[1])),
        zoom=float(zoom),
        num_frames=num_frames,
    )


@cache
def _concepts() -> tuple[Concept, ...]:
    return tuple(
        c
        for c in split_concepts(held_out=False)
        if c.group in _GROUPS and c.subgroup != "time" and not set(c.label) & set(":,(")
    )


def _sample_drawing(
    rng: np.random.Generator, concept: Concept, sizes: tuple[int, int], centre: np.ndarray
) -> Drawing:
    return Drawing(
        concept=concept,
        size=round(sizes[0] + (sizes[1] - sizes[0]) * rng.random() ** 2),
        degrees=float(rng.uniform(-40, 40)),
        centre=(float(centre[0]), float(centre[1])),
    )


def _sample_direction(rng: np.random.Generator) -> np.ndarray:
    """Along an axis in half the cases, else at least 15 degrees off both."""
    degrees = 0.0 if rng.random() < 0.5 else rng.uniform(15, 75)
    angle = np.deg2rad(degrees + 90 * rng.integers(4))
    return np.round([np.sin(angle), np.cos(angle)], 12)


def _begin(rng: np.random.Generator, way: float) -> float:
    """Where a view begins that stays on the canvas all its way."""
    return float(rng.uniform(max(0, -way), _ROOM - max(0, way)))


def _begin_of_subject(rng: np.random.Generator, step: float) -> float:
    """From the margin, where a moving subject begins so that the view lies before it."""
    room = SIZE - 2 * _MARGIN
    if step == 0:
        return float(rng.uniform(0, room))
    near = rng.uniform(0, _STRIP)
    return float(near if step > 0 else room - near)


def _sprite(drawing: Drawing, vendor: Vendor) -> np.ndarray:
    """The drawing, scaled and turned: (rows, columns, 4), colours times alpha, alpha to 1."""
    tile = Image.fromarray(_cut(load_drawings(vendor)[drawing.concept.index]), "RGBA")
    tile = tile.resize((drawing.size, drawing.size), Image.Resampling.LANCZOS)
    turned = tile.rotate(drawing.degrees, Image.Resampling.BICUBIC, expand=True)
    sprite = np.asarray(turned, np.float64).copy()
    sprite[..., 3:] /= 255
    sprite[..., :3] *= sprite[..., 3:]
    return sprite


def _roughened(sprite: np.ndarray, grain: np.ndarray) -> np.ndarray:
    alpha = sprite[..., 3:]
    return np.concatenate([sprite[..., :3] + alpha * grain, alpha], -1)


def _cut(drawing: RGBImage) -> np.ndarray:
    """The drawing (rows, columns, 4) without the white around it; white within it stays.

    Pixels at its rim are a mixture of white and of the darkest pixel beside them, and lose the
    white.
    """
    white = (drawing >= _WHITE).all(-1)
    parts, _ = ndimage.label(np.pad(white, 1, constant_values=True))
    outside = (parts == parts[0, 0])[1:-1, 1:-1]
    rim = ndimage.binary_dilation(outside, np.ones((3, 3))) & ~outside
    depth = 255.0 - drawing.min(-1)
    alpha = np.where(outside, 0.0, 1.0)
    share = depth / np.maximum(ndimage.maximum_filter(depth, 3), 1)
    alpha[rim] = share[rim]
    shown = np.maximum(alpha, 1 / 255)[..., None]
    colour = np.where(rim[..., None], 255 - (255.0 - drawing) / shown, drawing)
    return (
        np.concatenate([colour, 255 * alpha[..., None]], -1).round().clip(0, 255).astype(np.uint8)
    )


def _overlap(
    drawing: Drawing, shape: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Which part of the canvas a drawing covers, and with which part of it."""
    target, part = [], []
    for middle, length in zip(drawing.centre, shape, strict=True):
        begin = round(middle - length / 2)
        low, high = max(begin, 0), min(begin + length, CANVAS)
        target.append(slice(low, high))
        part.append(slice(low - begin, high - begin))
    return (target[0], target[1]), (part[0], part[1])


def _sample(layer: np.ndarray, centres: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Views of a layer (rows, columns, channels), bicubic: (T, 64, 64, channels).

    Args:
        centres: row and column of the middle of each view, where a pixel's own middle is 0.5.
        scales: pixels of the layer that one of the view is wide.
    """
    offsets = np.arange(SIZE) + 0.5 - SIZE / 2
    lengths = np.array(layer.shape[:2])
    at = centres[:, :, None] + scales[:, None, None] * offsets
    at = 2 * at / lengths[:, None] - 1
    rows, columns = np.broadcast_arrays(at[:, 0, :, None], at[:, 1, None, :])
    grid = torch.from_numpy(np.stack([columns, rows], -1))
    pixels = torch.from_numpy(np.moveaxis(layer, -1, 0)[None]).expand(len(grid), -1, -1, -1)
    views = F.grid_sample(pixels, grid, mode="bicubic", align_corners=False)
    return views.permute(0, 2, 3, 1).numpy()


def _listed(drawings: Sequence[Drawing]) -> str:
    """ "the cat, the red heart and the tree"."""
    names = [f"the {d.concept.label}" for d in drawings]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
