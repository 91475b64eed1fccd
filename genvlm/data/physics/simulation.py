"""A scene of simple bodies and its motion, computed by pymunk (Chipmunk 2D).

Units: pixels and frames; x grows to the right and y downward, from the upper left corner of a
64x64 picture. A body at x stands in pixel column floor(x).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from genvlm.errors import DataError

SIZE = 64
FLOOR = 56
"""Row of the floor: the edge of an 8x8 code, so that bodies on the floor share none with it."""
GRAVITY = 0.25
"""Pixels per frame squared."""
FLOOR_ELASTICITY = 0.8
CONTAINER_ELASTICITY = 0.4
TRAY_BORDER = 2
WALL_WIDTH = 3
THICKNESS = 2
"""Of the sides of a container and of a shelf."""
SUBSTEPS = 8
"""Per frame: the fastest ball moves half a pixel in one."""

Tracks = Float[np.ndarray, "frames bodies 2"]
"""Centres (x, y) of balls, then of boxes, as they are listed in the scene."""
Track = Float[np.ndarray, "frames 2"]
"""Centres of one body."""


@dataclass(frozen=True, kw_only=True)
class Ball:
    """Rolls without friction and without turning. Its disc is 2 radius + 1 pixels wide."""

    colour: str
    radius: int
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0

    @property
    def reach(self) -> float:
        """From its centre to its edge."""
        return self.radius + 0.5


@dataclass(frozen=True, kw_only=True)
class Box:
    """A square block that slides on the floor."""

    colour: str
    size: int
    x: float
    vx: float = 0.0
    friction: float = 0.4
    """Coefficient, of itself on the floor."""


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Stands on the floor before everything else and touches nothing."""

    left: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Wall:
    """A thin post on the floor, that balls bounce from."""

    left: int
    height: int
    elasticity: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Container:
    """A U on the floor."""

    left: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """A board in the air."""

    left: int
    width: int
    top: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What stands where at frame 0, and how fast it moves."""

    balls: tuple[Ball, ...] = ()
    boxes: tuple[Box, ...] = ()
    screens: tuple[Screen, ...] = ()
    walls: tuple[Wall, ...] = ()
    containers: tuple[Container, ...] = ()
    shelves: tuple[Shelf, ...] = ()
    enclosed: bool = False
    """Whether balls bounce from the left and right edge of the picture."""
    tray: bool = False
    """Seen from above: no gravity, and a border on all four sides that loses no speed."""

    @property
    def mirrored(self) -> "Scene":
        """Left and right exchanged."""
        return replace(
            self,
            balls=tuple(replace(b, x=SIZE - b.x, vx=-b.vx) for b in self.balls),
            boxes=tuple(replace(b, x=SIZE - b.x, vx=-b.vx) for b in self.boxes),
            screens=tuple(replace(s, left=SIZE - s.left - s.width) for s in self.screens),
            walls=tuple(replace(w, left=SIZE - w.left - WALL_WIDTH) for w in self.walls),
            containers=tuple(replace(c, left=SIZE - c.left - c.width) for c in self.containers),
            shelves=tuple(replace(s, left=SIZE - s.left - s.width) for s in self.shelves),
        )


def simulate(scene: Scene, num_frames: int) -> Float[np.ndarray, "frames bodies 2"]:
    """Where the bodies are at each frame: a pure function of its arguments.

    Raises:
        DataError: pymunk is not installed.
    """
    pymunk = _import_pymunk()
    space = pymunk.Space()
    space.gravity = (0.0, 0.0 if scene.tray else GRAVITY)
    _add_statics(pymunk, space, scene)
    bodies = [_add_ball(pymunk, space, ball) for ball in scene.balls]
    bodies += [_add_box(pymunk, space, box) for box in scene.boxes]
    tracks = np.empty((num_frames, len(bodies), 2))
    for frame in range(num_frames):
        if frame and bodies:
            for _ in range(SUBSTEPS):
                space.step(1 / SUBSTEPS)
        for index, body in enumerate(bodies):
            tracks[frame, index] = body.position
    return tracks


def _import_pymunk() -> Any:
    try:
        import pymunk
    except ImportError:
        raise DataError("physics clips need pymunk: pip install 'genvlm[physics]'") from None
    return pymunk


def _add_ball(pymunk: Any, space: Any, ball: Ball) -> Any:
    # An infinite moment: discs of one colour show no turning, and turning would take up speed.
    body = pymunk.Body(ball.reach**2, float("inf"))
    body.position, body.velocity = (ball.x, ball.y), (ball.vx, ball.vy)
    shape = pymunk.Circle(body, ball.reach)
    shape.elasticity, shape.friction = 1.0, 0.0
    space.add(body, shape)
    return body


def _add_box(pymunk: Any, space: Any, box: Box) -> Any:
    body = pymunk.Body(box.size**2, float("inf"))
    body.position, body.velocity = (box.x, FLOOR - box.size / 2), (box.vx, 0.0)
    shape = pymunk.Poly.create_box(body, (box.size, box.size))
    shape.elasticity, shape.friction = 0.0, box.friction
    space.add(body, shape)
    return body


def _add_statics(pymunk: Any, space: Any, scene: Scene) -> None:
    """Everything that stands still, as rectangles (left, top, right, bottom)."""
    far = 3 * SIZE
    inner, outer = (TRAY_BORDER, SIZE - TRAY_BORDER) if scene.tray else (0, SIZE)
    solids: list[tuple[int, int, int, int, float]] = []
    if scene.tray:
        solids += [(-far, -far, far, inner, 1.0), (-far, outer, far, far, 1.0)]
    else:
        solids.append((-far, FLOOR, far, far, FLOOR_ELASTICITY))
    if scene.tray or scene.enclosed:
        solids += [(-far, -far, inner, far, 1.0), (outer, -far, far, far, 1.0)]
    for wall in scene.walls:
        right = wall.left + WALL_WIDTH
        solids.append((wall.left, FLOOR - wall.height, right, FLOOR, wall.elasticity))
    for box in scene.containers:
        top, right, elastic = FLOOR - box.height, box.left + box.width, CONTAINER_ELASTICITY
        solids.append((box.left, top, box.left + THICKNESS, FLOOR, elastic))
        solids.append((right - THICKNESS, top, right, FLOOR, elastic))
        solids.append((box.left, FLOOR - THICKNESS, right, FLOOR, elastic))
    for shelf in scene.shelves:
        right, bottom = shelf.left + shelf.width, shelf.top + THICKNESS
        solids.append((shelf.left, shelf.top, right, bottom, FLOOR_ELASTICITY))
    for left, top, right, bottom, elasticity in solids:
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        shape = pymunk.Poly(space.static_body, corners)
        shape.elasticity, shape.friction = elasticity, 1.0
        space.add(shape)
