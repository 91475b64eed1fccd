"""Clips of one drawing that moves across white, with a caption that is exactly true.

"the red heart moves left": a drawing and a direction that are held out occur together in no
training clip, while each of them does, so that text-to-video can be asked for what it never saw.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genvlm.data.emoji import Vendor
from genvlm.data.hashed import hash_share
from genvlm.data.scenes import ICONS, SIZE, Icon, draw_icon
from genvlm.data.videos import VideoFrames
from genvlm.errors import DataError

NUM_FRAMES = 17
ICON_SIZE = 24
SPEEDS = (1, 2)
"""Whole pixels per frame, so that a drawing's patches recur."""
MAX_FRAMES = 1 + (SIZE - ICON_SIZE) // SPEEDS[0]
HELD_OUT_SHARE = 0.1

Direction = Literal["left", "right", "up", "down"]
DIRECTIONS: dict[Direction, tuple[int, int]] = {
    "left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0),
}  # fmt: skip
"""Steps in (rows, columns)."""


@dataclass(frozen=True)
class MovingEmoji:
    """A drawing that moves at constant speed and stays whole in the picture."""

    icon: Icon
    direction: Direction
    speed: int
    corner: tuple[int, int]
    """Row and column of its upper left corner at frame 0."""
    num_frames: int

    @property
    def caption(self) -> str:
        """The sentence that is exactly true of the clip."""
        return f"the {self.icon.name} moves {self.direction}"

    @property
    def held_out(self) -> bool:
        """True when its drawing never moves in this direction in training."""
        return is_held_out(self.icon, self.direction)

    def render(self, vendor: Vendor) -> VideoFrames:
        """Its frames, (T, 64, 64, 3) uint8."""
        drawing = draw_icon(self.icon.label, vendor, ICON_SIZE)
        frames = np.full((self.num_frames, SIZE, SIZE, 3), 255, np.uint8)
        down, right = (self.speed * step for step in DIRECTIONS[self.direction])
        for time, frame in enumerate(frames):
            top, left = self.corner[0] + down * time, self.corner[1] + right * time
            frame[top : top + ICON_SIZE, left : left + ICON_SIZE] = drawing
        return frames


def is_held_out(icon: Icon, direction: Direction) -> bool:
    """True when this drawing in this direction is kept for testing, by a hash of both."""
    return hash_share(f"{icon.label}|{direction}") < HELD_OUT_SHARE


def sample_moving_emoji(
    num: int, seed: int, num_frames: int = NUM_FRAMES, *, held_out: bool = False
) -> Iterator[MovingEmoji]:
    """`num` clips, each a pure function of (seed, its number), of held-out pairs or of no such.

    Raises:
        DataError: more frames than a drawing can move for within the picture.
    """
    if num_frames > MAX_FRAMES:
        raise DataError(
            f"a moving emoji leaves the picture within {num_frames} frames; "
            f"choose num_frames of at most {MAX_FRAMES}"
        )
    pairs = [(i, d) for i in ICONS for d in DIRECTIONS if is_held_out(i, d) == held_out]
    for number in range(num):
        rng = np.random.default_rng([seed, number])
        icon, direction = pairs[rng.integers(len(pairs))]
        room, way = SIZE - ICON_SIZE, num_frames - 1
        speed = int(rng.choice([s for s in SPEEDS if s * way <= room]))
        corner = []
        for step in DIRECTIONS[direction]:
            # From where it starts it has the whole way before it.
            low, high = max(0, -step * speed * way), room - max(0, step * speed * way)
            corner.append(int(rng.integers(low, high + 1)))
        yield MovingEmoji(icon, direction, speed, (corner[0], corner[1]), num_frames)
