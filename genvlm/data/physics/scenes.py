"""Lawful clips for training: a mixture of seven families of simulated scenes with captions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import sqrt

import numpy as np

from genvlm.data.physics.captions import describe
from genvlm.data.physics.drawing import BALL_COLOURS, BOX_COLOURS, draw
from genvlm.data.physics.simulation import (
    FLOOR,
    GRAVITY,
    SIZE,
    THICKNESS,
    TRAY_BORDER,
    WALL_WIDTH,
    Ball,
    Box,
    Container,
    Scene,
    Screen,
    Shelf,
    Tracks,
    Wall,
    simulate,
)
from genvlm.data.videos import VideoFrames

NUM_FRAMES = 33
SPEEDS = (1.8, 3.2)
"""Of rolling balls, in pixels per frame."""
RADII = (4, 5)
SCREEN_HEIGHTS = (14, 27)
WALL_HEIGHTS = (32, 42)
_TRAINING_STREAM, _COUNTING_STREAM, NEXT_STREAM = 1, 2, 3
"""First words of seeds, so that no seed makes two streams equal; quadruplets have the next ones."""


@dataclass(frozen=True, eq=False)
class PhysicsClip:
    """A scene with its motion."""

    scene: Scene
    tracks: Tracks

    @cached_property
    def caption(self) -> str:
        """A sentence that is true of the frames."""
        return describe(self.scene, self.tracks)

    def render(self) -> VideoFrames:
        """Its frames, (T, 64, 64, 3) uint8."""
        return draw(self.scene, self.tracks)


def sample_clips(num: int, seed: int, num_frames: int = NUM_FRAMES) -> Iterator[PhysicsClip]:
    """`num` clips, each a pure function of (seed, its number); fewer frames are the first ones.

    Raises:
        DataError: pymunk is not installed.
    """
    for number in range(num):
        scene = sample_scene(np.random.default_rng([_TRAINING_STREAM, seed, number]))
        yield PhysicsClip(scene, simulate(scene, num_frames))


def sample_counting_clips(
    num: int, seed: int, num_frames: int = NUM_FRAMES
) -> Iterator[PhysicsClip]:
    """As `sample_clips`: two or three balls of which no frame hides one, in none of its streams.

    Raises:
        DataError: pymunk is not installed.
    """
    for number in range(num):
        scene = _bouncing(np.random.default_rng([_COUNTING_STREAM, seed, number]))
        yield PhysicsClip(scene, simulate(scene, num_frames))


def sample_scene(rng: np.random.Generator) -> Scene:
    """A scene of one of the families, as frequent as `FAMILIES` says."""
    families, weights = zip(*FAMILIES.items(), strict=True)
    scene = families[rng.choice(len(families), p=weights)](rng)
    return scene.mirrored if rng.random() < 0.5 else scene


def sample_colours(rng: np.random.Generator, num: int) -> list[str]:
    """Different colours of balls."""
    return [list(BALL_COLOURS)[i] for i in rng.choice(len(BALL_COLOURS), num, replace=False)]


def sample_screen(rng: np.random.Generator, left: int, width: int) -> Screen:
    """A screen that is taller than any ball and lower than any wall."""
    return Screen(left=left, width=width, height=int(rng.integers(*SCREEN_HEIGHTS)))


def sample_toss(rng: np.random.Generator, colour: str, columns: tuple[int, int]) -> Ball:
    """A ball in the air that is let go or tossed, never so high that it leaves the picture."""
    radius = int(rng.choice(RADII))
    reach = radius + 0.5
    x = rng.uniform(columns[0] + reach, columns[1] - reach)
    if rng.random() < 0.35:
        y = rng.uniform(reach + 1, FLOOR - 24)
        return Ball(colour=colour, radius=radius, x=x, y=y)
    y = rng.uniform(reach + 6, FLOOR - reach)
    fastest = sqrt(2 * GRAVITY * (y - reach - 1))
    vy = rng.uniform(-fastest, min(1.0, fastest))
    vx = rng.uniform(-1.6, 1.6) if rng.random() < 0.7 else 0.0
    return Ball(colour=colour, radius=radius, x=x, y=y, vx=vx, vy=vy)


def with_shelf(rng: np.random.Generator, scene: Scene, colour: str) -> Scene:
    """The scene with a ball that rests on a shelf, high beside everything that happens.

    Where walls stand on both sides there is no room, and the scene stays as it is.
    """
    radius = int(rng.choice(RADII))
    width, top = int(rng.integers(12, 16)), int(rng.integers(14, 20))
    lefts = [left for left in (0, SIZE - width) if not _reaches(scene.walls, left, width)]
    if not lefts:
        return scene
    left = int(rng.choice(lefts))
    shelf = Shelf(left=left, width=width, top=top)
    ball = Ball(colour=colour, radius=radius, x=left + width // 2 + 0.5, y=top - radius - 0.5)
    return replace(scene, balls=(*scene.balls, ball), shelves=(shelf,))


def _reaches(walls: tuple[Wall, ...], left: int, width: int) -> bool:
    """Whether a wall stands in these columns or next to them."""
    return any(left - WALL_WIDTH < w.left + 1 and w.left - 1 < left + width for w in walls)


def _falling(rng: np.random.Generator) -> Scene:
    num = int(rng.integers(1, 3))
    colours = sample_colours(rng, num + 1)
    columns = [(0, SIZE)] if num == 1 else [(0, SIZE // 2), (SIZE // 2, SIZE)]
    balls = tuple(sample_toss(rng, c, span) for c, span in zip(colours[:num], columns, strict=True))
    if num == 1 and rng.random() < 0.25:
        radius = int(rng.choice(RADII))
        x, y = rng.uniform(radius + 1, SIZE - radius - 1), FLOOR - radius - 0.5
        if abs(x - balls[0].x) > 12:
            balls += (Ball(colour=colours[1], radius=radius, x=x, y=y),)
    return Scene(balls=balls, enclosed=True)


def roll_in(rng: np.random.Generator, colour: str, until: float) -> Ball:
    """A ball that rolls right, at frame 0 left of the column `until` or still out of the picture.

    It enters before frame 8 or is in the picture already.
    """
    radius = int(rng.choice(RADII))
    reach, speed = radius + 0.5, rng.uniform(*SPEEDS)
    x = min(-reach - speed * rng.uniform(-8, 8), until - reach - 1)
    return Ball(colour=colour, radius=radius, x=x, y=FLOOR - reach, vx=speed)


def _past_one_screen(rng: np.random.Generator) -> Scene:
    walled = rng.random() < 0.45
    width = int(rng.integers(18, 40) if walled else rng.integers(14, 37))
    left = int(rng.integers(10, SIZE - width - 9))
    screens = (sample_screen(rng, left, width),) if rng.random() < 0.9 else ()
    walls: tuple[Wall, ...] = ()
    if walled:
        middle = left + (width - WALL_WIDTH) // 2
        shift = width // 2 - WALL_WIDTH
        post = middle + int(rng.integers(-shift, shift + 1))
        elasticity = 1.0 if rng.random() < 0.85 else 0.0
        walls = (Wall(left=post, height=int(rng.integers(*WALL_HEIGHTS)), elasticity=elasticity),)
    return _rolling(rng, Scene(screens=screens, walls=walls), left)


def _past_two_screens(rng: np.random.Generator) -> Scene:
    while True:
        widths = rng.integers(13, 21, 2)
        left, gap = int(rng.integers(5, 20)), int(rng.integers(6, 19))
        second = left + int(widths[0]) + gap
        if second + widths[1] <= SIZE - 3:
            break
    height = int(rng.integers(*SCREEN_HEIGHTS))
    screens = (
        Screen(left=left, width=int(widths[0]), height=height),
        Screen(left=second, width=int(widths[1]), height=height),
    )
    return _rolling(rng, Scene(screens=screens), left)


def _rolling(rng: np.random.Generator, scene: Scene, until: int) -> Scene:
    """None, one or two balls that roll in from the left, or one from each side."""
    colours = sample_colours(rng, 3)
    num = int(rng.choice(3, p=(0.15, 0.65, 0.2)))
    balls = [roll_in(rng, colours[0], until)] if num else []
    if num == 2 and rng.random() < 0.5:
        first = balls[0]
        behind = first.x - 2 * first.reach - rng.uniform(4, 16)
        balls.append(replace(first, colour=colours[1], x=behind))
    elif num == 2:
        other = roll_in(rng, colours[1], 0)
        # Discs of one size: else the larger one would hop over the smaller one's edge.
        other = replace(other, radius=balls[0].radius, y=balls[0].y)
        balls.append(replace(other, x=SIZE - other.x, vx=-other.vx))
    scene = replace(scene, balls=tuple(balls))
    return with_shelf(rng, scene, colours[2]) if num < 2 and rng.random() < 0.25 else scene


def _sliding(rng: np.random.Generator) -> Scene:
    size = int(rng.choice((7, 9, 11)))
    friction, speed = rng.uniform(0.25, 0.7), rng.uniform(*SPEEDS)
    start = rng.uniform(size / 2 + 1, 26)
    colour = str(rng.choice(list(BOX_COLOURS)))
    scene = Scene(boxes=(Box(colour=colour, size=size, x=start, vx=speed, friction=friction),))
    return with_shelf(rng, scene, sample_colours(rng, 1)[0]) if rng.random() < 0.25 else scene


def _into_container(rng: np.random.Generator) -> Scene:
    ball = Ball(
        colour=sample_colours(rng, 1)[0], radius=int(rng.choice(RADII)), x=0, y=rng.uniform(6, 26)
    )
    inner = 2 * ball.radius + 1 + int(rng.integers(3, 10))
    width = inner + 2 * THICKNESS
    left = int(rng.integers(2, SIZE - width - 1))
    slack = inner / 2 - ball.reach - 1
    x = left + width / 2 + rng.uniform(-slack, slack)
    box = Container(left=left, width=width, height=int(rng.integers(14, 21)))
    return Scene(balls=(replace(ball, x=x),), containers=(box,))


def _colliding(rng: np.random.Generator) -> Scene:
    colours = sample_colours(rng, 3)
    first = roll_in(rng, colours[0], SIZE // 2 - 8)
    if rng.random() < 0.5:
        other = replace(first, colour=colours[1], x=rng.uniform(28, 50), vx=0.0)
    else:
        other = roll_in(rng, colours[1], SIZE // 2 - 8)
        other = replace(other, radius=first.radius, y=first.y, x=SIZE - other.x, vx=-other.vx)
    scene = Scene(balls=(first, other))
    return with_shelf(rng, scene, colours[2]) if rng.random() < 0.15 else scene


def _bouncing(rng: np.random.Generator) -> Scene:
    num = int(rng.integers(2, 4))
    colours = sample_colours(rng, num)
    if rng.random() < 0.4:
        edges = np.linspace(0, SIZE, num + 1).astype(int)
        spans = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        balls = [sample_toss(rng, c, span) for c, span in zip(colours, spans, strict=True)]
        return Scene(balls=tuple(balls), enclosed=True)
    balls = []
    while len(balls) < num:
        radius = int(rng.choice(RADII))
        x, y = rng.uniform(TRAY_BORDER + radius + 1, SIZE - TRAY_BORDER - radius - 1, 2)
        if all(np.hypot(x - b.x, y - b.y) > radius + b.radius + 3 for b in balls):
            speed, angle = rng.uniform(1.0, 2.5), rng.uniform(0, 2 * np.pi)
            vx, vy = speed * np.cos(angle), speed * np.sin(angle)
            colour = colours[len(balls)]
            balls.append(Ball(colour=colour, radius=radius, x=x, y=y, vx=vx, vy=vy))
    return Scene(balls=tuple(balls), tray=True)


FAMILIES: dict[Callable[[np.random.Generator], Scene], float] = {
    _falling: 0.26,
    _past_one_screen: 0.27,
    _past_two_screens: 0.17,
    _sliding: 0.06,
    _into_container: 0.06,
    _colliding: 0.07,
    _bouncing: 0.11,
}
"""Families with their share of the clips."""
