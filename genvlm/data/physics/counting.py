"""Balls in a frame, found by their colours: also in frames that a tokenizer has decoded."""

from functools import cache

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from genvlm.data.images import RGBImage
from genvlm.data.physics.drawing import BALL_COLOURS, BOX_COLOURS, SCENERY

MIN_AREA = 8
"""Pixels: a smaller patch of a ball's colour is not counted."""
MAX_DISTANCE = 70.0
"""From a colour to the palette's nearest, in RGB: a colour further off is nothing's."""
_TOUCHING = np.ones((3, 3), int)


def count_balls(frame: RGBImage, *, min_area: int = MIN_AREA) -> int:
    """The number of connected patches of a ball's colour that have at least `min_area` pixels.

    Exact on rendered frames for balls of which `MIN_AREA` pixels are seen: all in one clip have
    different colours, and nothing that hides one is narrower than it. A pixel off the palette
    counts as the nearest colour of it, if near enough.
    """
    return sum(len(_patches(mask, min_area)) for mask in _ball_masks(frame).values())


def ball_centres(frame: RGBImage) -> dict[str, tuple[float, float]]:
    """For every colour that is seen, the mean (row, column) of its largest patch."""
    centres = {}
    for colour, mask in ball_pixels(frame).items():
        row, column = np.argwhere(mask).mean(0).tolist()
        centres[colour] = (row, column)
    return centres


def ball_pixels(frame: RGBImage) -> dict[str, Bool[np.ndarray, "height width"]]:
    """For every colour that is seen, its largest patch."""
    patches = {colour: _patches(mask) for colour, mask in _ball_masks(frame).items()}
    return {colour: max(found, key=np.count_nonzero) for colour, found in patches.items() if found}


def _patches(
    mask: Bool[np.ndarray, "height width"], min_area: int = MIN_AREA
) -> list[Bool[np.ndarray, "height width"]]:
    labels, num = ndimage.label(mask, _TOUCHING)
    patches = [labels == label for label in range(1, num + 1)]
    return [patch for patch in patches if patch.sum() >= min_area]


def _ball_masks(frame: RGBImage) -> dict[str, Bool[np.ndarray, "height width"]]:
    """Where each colour of balls is the palette's nearest; colours that occur nowhere are left
    out."""
    pixels, palette = frame.astype(np.float32), _palette()
    squares = np.square(pixels).sum(-1, keepdims=True) + np.square(palette).sum(-1)
    distances = squares - 2 * pixels @ palette.T
    nearest = distances.argmin(-1)
    nearest[distances.min(-1) > MAX_DISTANCE**2] = -1
    masks = {colour: nearest == index for index, colour in enumerate(BALL_COLOURS)}
    return {colour: mask for colour, mask in masks.items() if mask.any()}


@cache
def _palette() -> Float[np.ndarray, "colours 3"]:
    """Balls' colours first."""
    return np.array([*BALL_COLOURS.values(), *BOX_COLOURS.values(), *SCENERY], np.float32)
