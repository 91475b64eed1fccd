"""Frames of a simulated scene, drawn by Pillow: flat colours, hard edges, whole pixels.

Bodies stand at whole pixels, so that few different 8x8 patches occur: a VQ tokenizer has to learn
them all.
"""

from functools import cache

import numpy as np
from PIL import Image

from genvlm.data.physics.simulation import (
    FLOOR,
    SIZE,
    THICKNESS,
    TRAY_BORDER,
    WALL_WIDTH,
    Scene,
    Tracks,
)
from genvlm.data.videos import VideoFrames

Colour = tuple[int, int, int]

BALL_COLOURS: dict[str, Colour] = {
    "red": (220, 40, 40),
    "yellow": (245, 215, 40),
    "green": (40, 160, 70),
    "blue": (40, 90, 220),
}
BOX_COLOURS: dict[str, Colour] = {
    "brown": (120, 75, 45),
    "pink": (240, 160, 190),
    "teal": (70, 190, 190),
}
BACKGROUND: Colour = (240, 242, 245)
GROUND: Colour = (205, 198, 186)
FLOOR_LINE: Colour = (110, 104, 96)
SCREEN: Colour = (145, 148, 154)
WALL: Colour = (45, 45, 55)
CONTAINER: Colour = (70, 90, 115)
SHELF: Colour = (110, 100, 95)
TRAY: Colour = (226, 232, 226)
SCENERY = (BACKGROUND, GROUND, FLOOR_LINE, SCREEN, WALL, CONTAINER, SHELF, TRAY)
"""Every colour that is neither a ball's nor a box's."""


def draw(scene: Scene, tracks: Tracks) -> VideoFrames:
    """The frames, (T, 64, 64, 3) uint8; screens hide what is behind them."""
    backdrop = _draw_backdrop(scene)
    frames = np.empty((len(tracks), SIZE, SIZE, 3), np.uint8)
    pixels = np.floor(tracks).astype(int).tolist()
    for frame, centres in zip(frames, pixels, strict=True):
        picture = backdrop.copy()
        for ball, (column, row) in zip(scene.balls, centres, strict=False):
            corner = (column - ball.radius, row - ball.radius)
            picture.paste(BALL_COLOURS[ball.colour], corner, _disc(ball.radius))
        for box, (column, row) in zip(scene.boxes, centres[len(scene.balls) :], strict=True):
            left, top = column - box.size // 2, row - box.size // 2
            picture.paste(BOX_COLOURS[box.colour], (left, top, left + box.size, top + box.size))
        for screen in scene.screens:
            right = screen.left + screen.width
            picture.paste(SCREEN, (screen.left, FLOOR - screen.height, right, FLOOR))
        frame[:] = np.asarray(picture)
    return frames


def disc_area(radius: int) -> int:
    """Pixels of a whole ball."""
    return int(np.count_nonzero(np.asarray(_disc(radius))))


@cache
def _disc(radius: int) -> Image.Image:
    rows, columns = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    # Pillow's own ellipse of this size has a point on each side.
    return Image.fromarray(rows**2 + columns**2 <= (radius + 0.4) ** 2)


def _draw_backdrop(scene: Scene) -> Image.Image:
    """What never moves and hides nothing."""
    picture = Image.new("RGB", (SIZE, SIZE), WALL if scene.tray else BACKGROUND)
    if scene.tray:
        inner = (TRAY_BORDER, TRAY_BORDER, SIZE - TRAY_BORDER, SIZE - TRAY_BORDER)
        picture.paste(TRAY, inner)
        return picture
    picture.paste(GROUND, (0, FLOOR, SIZE, SIZE))
    picture.paste(FLOOR_LINE, (0, FLOOR, SIZE, FLOOR + 1))
    for wall in scene.walls:
        picture.paste(WALL, (wall.left, FLOOR - wall.height, wall.left + WALL_WIDTH, FLOOR))
    for box in scene.containers:
        top, right = FLOOR - box.height, box.left + box.width
        picture.paste(CONTAINER, (box.left, top, right, FLOOR))
        picture.paste(BACKGROUND, (box.left + THICKNESS, top, right - THICKNESS, FLOOR - THICKNESS))
    for shelf in scene.shelves:
        corners = (shelf.left, shelf.top, shelf.left + shelf.width, shelf.top + THICKNESS)
        picture.paste(SHELF, corners)
    return picture
