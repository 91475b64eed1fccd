"""Lawful clips for training: a mixture of seven families of simulated scenes with captions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from math import ceil, floor, sqrt

import numpy as np

from genvlm.data.physics.captions import describe
from genvlm.data.physics.counting import count_balls
from genvlm.data.physics.drawing import BALL_COLOURS, BOX_COLOURS, disc_area, draw
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
RADIUS = 5
REACH = RADIUS + 0.5
SPEEDS = (1.5, 2.0, 2.5)
"""Of rolling balls, in pixels per frame. Few, so that what a ball does in the context says exactly
what it does next: otherwise surprise is mostly about half pixels that nobody could know."""
WALL_HEIGHTS = (32, 42)
CELL = 2
"""Pixels: screens stand and end at multiples of it."""
_SCREEN_HEIGHTS = (16, 20, 24)
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
    """As `sample_clips`, of a stream of its own: of its clips those that show every ball whole in
    every frame, and one of them moving.

    Raises:
        DataError: pymunk is not installed.
    """
    found = 0
    for number in count():
        if found == num:
            return
        scene = sample_scene(np.random.default_rng([_COUNTING_STREAM, seed, number]))
        clip = PhysicsClip(scene, simulate(scene, num_frames))
        if _shows_balls(clip):
            found += 1
            yield clip


def _shows_balls(clip: PhysicsClip) -> bool:
    num = len(clip.scene.balls)
    rests = not np.ptp(np.floor(clip.tracks[:, :num]), axis=0).any()
    if not num or (rests and len(clip.tracks) > 1):
        return False
    whole = disc_area(RADIUS)
    return all(count_balls(frame, min_area=whole) == num for frame in clip.render())


def sample_scene(rng: np.random.Generator) -> Scene:
    """A scene of one of the families, as frequent as `FAMILIES` says."""
    families, weights = zip(*FAMILIES.items(), strict=True)
    scene = families[rng.choice(len(families), p=weights)](rng)
    return scene.mirrored if rng.random() < 0.5 else scene


def sample_colours(rng: np.random.Generator, num: int) -> list[str]:
    """Different colours of balls."""
    return [list(BALL_COLOURS)[i] for i in rng.choice(len(BALL_COLOURS), num, replace=False)]


def sample_cells(rng: np.random.Generator, low: int, high: int) -> int:
    """A multiple of `CELL` from `low` to `high`, both included."""
    return CELL * int(rng.integers(-(-low // CELL), high // CELL + 1))


def sample_screen(rng: np.random.Generator, left: int, width: int) -> Screen:
    """A screen that is taller than any ball and lower than any wall."""
    return Screen(left=left, width=width, height=int(rng.choice(_SCREEN_HEIGHTS)))


def on_lattice(x: float) -> float:
    """A place a quarter above or below a whole one, near this one.

    Multiples of half a pixel away from it, all places are of this kind, also in the mirror, and
    none is on the border of two pixels.
    """
    return floor(2 * x) / 2 + 0.25


def sample_toss(rng: np.random.Generator, colour: str, columns: tuple[int, int]) -> Ball:
    """A ball in the air that is let go or tossed, never so high that it leaves the picture."""
    x = on_lattice(rng.uniform(columns[0] + REACH, columns[1] - REACH - 0.5))
    if rng.random() < 0.35:
        y = on_lattice(rng.uniform(REACH + 1, FLOOR - 24))
        return Ball(colour=colour, radius=RADIUS, x=x, y=y)
    y = on_lattice(rng.uniform(REACH + 6, FLOOR - REACH - 0.5))
    fastest = sqrt(2 * GRAVITY * (y - REACH - 1))
    vy = GRAVITY * ceil(rng.uniform(-fastest, min(1.0, fastest)) / GRAVITY)
    vx = float(rng.choice((-1.5, -1.0, -0.5, 0.5, 1.0, 1.5))) if rng.random() < 0.7 else 0.0
    return Ball(colour=colour, radius=RADIUS, x=x, y=y, vx=vx, vy=vy)


def with_shelf(rng: np.random.Generator, scene: Scene, colour: str) -> Scene:
    """The scene with a ball that rests on a shelf, high beside everything that happens.

    Where walls stand on both sides there is no room, and the scene stays as it is.
    """
    width, top = int(rng.integers(12, 16)), int(rng.integers(14, 20))
    lefts = [left for left in (0, SIZE - width) if not _reaches(scene.walls, left, width)]
    if not lefts:
        return scene
    left = int(rng.choice(lefts))
    shelf = Shelf(left=left, width=width, top=top)
    ball = Ball(colour=colour, radius=RADIUS, x=left + width // 2 + 0.5, y=top - REACH)
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
        x = on_lattice(rng.uniform(RADIUS + 1, SIZE - RADIUS - 1))
        if abs(x - balls[0].x) > 12:
            balls += (Ball(colour=colours[1], radius=RADIUS, x=x, y=FLOOR - REACH),)
    return Scene(balls=balls, enclosed=True)


def roll_in(rng: np.random.Generator, colour: str, until: float) -> Ball:
    """A ball that rolls right, at frame 0 left of the column `until` or still out of the picture.

    It enters before frame 8 or is in the picture already.
    """
    speed = float(rng.choice(SPEEDS))
    x = on_lattice(min(-REACH - speed * rng.uniform(-8, 8), until - REACH - 1))
    return Ball(colour=colour, radius=RADIUS, x=x, y=FLOOR - REACH, vx=speed)


def _past_one_screen(rng: np.random.Generator) -> Scene:
    walled = rng.random() < 0.45
    width = sample_cells(rng, 18, 40) if walled else sample_cells(rng, 14, 36)
    left = sample_cells(rng, 10, SIZE - width - 10)
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
        left, gap = sample_cells(rng, 6, 20), sample_cells(rng, 6, 18)
        widths = [sample_cells(rng, 14, 20) for _ in range(2)]
        if left + sum(widths) + gap <= SIZE - 6:
            break
    near = sample_screen(rng, left, widths[0])
    far = replace(near, left=left + widths[0] + gap, width=widths[1])
    return _rolling(rng, Scene(screens=(near, far)), left)


def _rolling(rng: np.random.Generator, scene: Scene, until: int) -> Scene:
    """None, one or two balls that roll in from the left, or one from each side."""
    colours = sample_colours(rng, 3)
    num = int(rng.choice(3, p=(0.15, 0.65, 0.2)))
    balls = [roll_in(rng, colours[0], until)] if num else []
    if num == 2 and rng.random() < 0.5:
        first = balls[0]
        behind = first.x - 2 * REACH - int(rng.integers(4, 16))
        balls.append(replace(first, colour=colours[1], x=behind))
    elif num == 2:
        other = roll_in(rng, colours[1], 0)
        balls.append(replace(other, x=SIZE - other.x, vx=-other.vx))
    scene = replace(scene, balls=tuple(balls))
    return with_shelf(rng, scene, colours[2]) if num < 2 and rng.random() < 0.25 else scene


def _sliding(rng: np.random.Generator) -> Scene:
    size = int(rng.choice((7, 9, 11)))
    friction, speed = float(rng.choice((0.3, 0.4, 0.6))), float(rng.choice(SPEEDS))
    start = on_lattice(rng.uniform(size / 2 + 1, 26))
    colour = str(rng.choice(list(BOX_COLOURS)))
    scene = Scene(boxes=(Box(colour=colour, size=size, x=start, vx=speed, friction=friction),))
    return with_shelf(rng, scene, sample_colours(rng, 1)[0]) if rng.random() < 0.25 else scene


def _into_container(rng: np.random.Generator) -> Scene:
    inner = 2 * RADIUS + 1 + int(rng.integers(3, 10))
    width = inner + 2 * THICKNESS
    left = int(rng.integers(2, SIZE - width - 1))
    slack = inner / 2 - REACH - 1
    x = on_lattice(left + width / 2 + rng.uniform(-slack, slack))
    y = on_lattice(rng.uniform(6, 26))
    ball = Ball(colour=sample_colours(rng, 1)[0], radius=RADIUS, x=x, y=y)
    box = Container(left=left, width=width, height=int(rng.integers(14, 21)))
    return Scene(balls=(ball,), containers=(box,))


def _colliding(rng: np.random.Generator) -> Scene:
    colours = sample_colours(rng, 3)
    first = roll_in(rng, colours[0], SIZE // 2 - 8)
    if rng.random() < 0.5:
        other = replace(first, colour=colours[1], x=on_lattice(rng.uniform(28, 50)), vx=0.0)
    else:
        other = roll_in(rng, colours[1], SIZE // 2 - 8)
        other = replace(other, x=SIZE - other.x, vx=-other.vx)
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
    border = TRAY_BORDER + RADIUS + 1
    while len(balls) < num:
        x, y = (on_lattice(place) for place in rng.uniform(border, SIZE - border - 0.5, 2))
        if all(np.hypot(x - b.x, y - b.y) > 2 * RADIUS + 3 for b in balls):
            vx, vy = (float(v) for v in rng.choice((-2.0, -1.5, -1.0, 1.0, 1.5, 2.0), 2))
            colour = colours[len(balls)]
            balls.append(Ball(colour=colour, radius=RADIUS, x=x, y=y, vx=vx, vy=vy))
    return Scene(balls=tuple(balls), tray=True)


FAMILIES: dict[Callable[[np.random.Generator], Scene], float] = {
    _falling: 0.20,
    _past_one_screen: 0.27,
    _past_two_screens: 0.16,
    _sliding: 0.05,
    _into_container: 0.05,
    _colliding: 0.07,
    _bouncing: 0.20,
}
"""Families with their share of the clips."""
