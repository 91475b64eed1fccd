"""Two lawful and two broken clips in the manner of IntPhys (Riochet et al. 2018).

A broken clip is spliced from the two lawful ones where they show the same two frames. So every
frame, every pair of neighbouring frames and every group of frames that a video tokenizer takes
together stands once in a lawful and once in a broken clip of a quadruplet: only who remembers more
can tell them apart.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float

from genvlm.data.physics.drawing import draw
from genvlm.data.physics.scenes import (
    NEXT_STREAM,
    NUM_FRAMES,
    RADIUS,
    REACH,
    SPEEDS,
    WALL_HEIGHTS,
    on_lattice,
    sample_cells,
    sample_colours,
    sample_screen,
    sample_toss,
    with_shelf,
)
from genvlm.data.physics.simulation import (
    FLOOR,
    GRAVITY,
    SIZE,
    SUBSTEPS,
    WALL_WIDTH,
    Ball,
    Scene,
    Screen,
    Wall,
    simulate,
)
from genvlm.data.videos import VideoFrames
from genvlm.errors import DataError

Law = Literal["continuity", "solidity", "gravity", "permanence"]
LAWS: tuple[Law, ...] = ("continuity", "solidity", "gravity", "permanence")
CONTEXT = 9
"""Frames before which nothing is spliced."""
GROUP = 4
"""Frames of one latent frame; frame 0 is one alone."""
MIN_FRAMES = 33
_MAX_ATTEMPTS = 100_000
_MOST = 2
"""Pixels on both sides of a ball's centre: where they are seen, most of its disc is."""
_BYSTANDER = 0.3
"""Probability of a ball that rests where nothing happens, in all four clips alike."""

Columns = Float[np.ndarray, " frames"]
_Candidate = tuple[Scene, Scene, int]


@dataclass(frozen=True, eq=False)
class Quadruplet:
    """Clips of equal length. `broken[i]` begins as `lawful[i]` and ends as the other lawful one."""

    id: str
    law: Law
    lawful: tuple[VideoFrames, VideoFrames]
    broken: tuple[VideoFrames, VideoFrames]
    splice: int
    """First frame of the second part: 1 + 4 k, and above 9."""

    @property
    def pairs(self) -> tuple[tuple[VideoFrames, VideoFrames], ...]:
        """(lawful, broken) of the same beginning."""
        return tuple(zip(self.lawful, self.broken, strict=True))


def sample_quadruplet(
    law: Law, number: int, seed: int = 0, num_frames: int = NUM_FRAMES
) -> Quadruplet:
    """A pure function of its arguments.

    Raises:
        DataError: `num_frames` is not 1 + 4 k or below 33, no such law, or pymunk is not installed.
    """
    if law not in LAWS:
        raise DataError(f"no physical law {law!r}; choose one of {', '.join(LAWS)}")
    if num_frames < MIN_FRAMES or num_frames % GROUP != 1:
        raise DataError(
            f"quadruplets of {num_frames} frames are impossible; "
            f"choose 1 + {GROUP} k, at least {MIN_FRAMES}"
        )
    rng = np.random.default_rng([quadruplet_stream(law), seed, number])
    for _ in range(_MAX_ATTEMPTS):
        if (candidate := _CANDIDATES[law](rng, num_frames)) is None:
            continue
        first, second, time = candidate
        if rng.random() < 0.5:
            first, second = first.mirrored, second.mirrored
        one, other = (draw(scene, simulate(scene, num_frames)) for scene in (first, second))
        if _may_splice(one, other, time):
            broken = _spliced(one, other, time), _spliced(other, one, time)
            return Quadruplet(f"{law}-{seed}-{number}", law, (one, other), broken, time)
    raise AssertionError(f"{law} {number} of seed {seed}: no quadruplet was found")


def quadruplet_stream(law: Law) -> int:
    """First word of the seed: training's clips have another, so no seed makes streams equal."""
    return NEXT_STREAM + LAWS.index(law)


def _may_splice(one: VideoFrames, other: VideoFrames, time: int) -> bool:
    """Whether both show one picture just before or just after it: then no pair of frames is new."""
    return any(np.array_equal(one[t], other[t]) for t in (time - 1, time))


def _spliced(first: VideoFrames, second: VideoFrames, time: int) -> VideoFrames:
    return np.concatenate([first[:time], second[time:]])


def _permanence(rng: np.random.Generator, num_frames: int) -> _Candidate | None:
    """One screen: a ball that passes behind it, and a ball of another colour, or none."""
    width = sample_cells(rng, 16, 34)
    left = sample_cells(rng, 10, SIZE - width - 10)
    screen = sample_screen(rng, left, width)
    colours = sample_colours(rng, 3)
    ball = _sample_rolling(rng, colours[0])
    columns = ball.x + ball.vx * np.arange(num_frames)
    times = _hidden_times(columns, screen)
    if not times or not _is_watched(columns, (screen,), times[-1]):
        return None
    scene = Scene(screens=(screen,))
    others = () if rng.random() < 0.5 else (replace(ball, colour=colours[2]),)
    one, other = replace(scene, balls=(ball,)), replace(scene, balls=others)
    first, second = _with_bystander(rng, one, other, colours[1])
    return first, second, int(rng.choice(times))


def _continuity(rng: np.random.Generator, num_frames: int) -> _Candidate | None:
    """Two screens and a gap: a ball from the left and one from the right, then behind a screen."""
    widths = [sample_cells(rng, 14, 20) for _ in range(2)]
    left, gap = sample_cells(rng, 6, 20), sample_cells(rng, 8, 18)
    if left + sum(widths) + gap > SIZE - 6:
        return None
    near = sample_screen(rng, left, widths[0])
    far = replace(near, left=left + widths[0] + gap, width=widths[1])
    scene = Scene(screens=(near, far))
    colours = sample_colours(rng, 2)
    ball = _sample_rolling(rng, colours[0])
    from_right = _from_right(rng, ball)
    screens = ((ball, near), (from_right, far))
    columns = [b.x + b.vx * np.arange(num_frames) for b, _ in screens]
    both = [_hidden_times(c, s) for c, (_, s) in zip(columns, screens, strict=True)]
    times = sorted(set(both[0]) & set(both[1]))
    if not times or not all(_is_watched(c, (near, far), times[-1]) for c in columns):
        return None
    first, second = (replace(scene, balls=(b,)) for b in (ball, from_right))
    first, second = _with_bystander(rng, first, second, colours[1])
    return first, second, int(rng.choice(times))


def _solidity(rng: np.random.Generator, num_frames: int) -> _Candidate | None:
    """A wall whose lower part a screen hides: a ball from the left and one from the right."""
    width = sample_cells(rng, 26, 38)
    left = sample_cells(rng, 12, SIZE - width - 12)
    post = left + (width - WALL_WIDTH) // 2 + int(rng.integers(-3, 4))
    screen = sample_screen(rng, left, width)
    scene = Scene(
        screens=(screen,), walls=(Wall(left=post, height=int(rng.integers(*WALL_HEIGHTS))),)
    )
    colours = sample_colours(rng, 2)
    ball = _sample_rolling(rng, colours[0])
    from_right = _from_right(rng, ball)
    every = np.arange(num_frames)
    there = post - ball.reach - np.abs(post - ball.reach - ball.x - ball.vx * every)
    face = post + WALL_WIDTH + ball.reach
    back = face + np.abs(from_right.x + from_right.vx * every - face)
    both = [_hidden_times(columns, screen) for columns in (there, back)]
    times = sorted(set(both[0]) & set(both[1]))
    if not times or not all(
        _is_watched(columns, (screen,), times[-1]) for columns in (there, back)
    ):
        return None
    first, second = (replace(scene, balls=(b,)) for b in (ball, from_right))
    first, second = _with_bystander(rng, first, second, colours[1])
    return first, second, int(rng.choice(times))


def _gravity(rng: np.random.Generator, num_frames: int) -> _Candidate | None:
    """A ball that falls and one that rises through one place, equally fast, at the same time."""
    colours = sample_colours(rng, 2)
    rising = sample_toss(rng, colours[0], (0, SIZE))
    time = int(rng.choice(_times(num_frames)))
    scene = Scene(balls=(rising,), enclosed=True)
    places = simulate(scene, time + 2)[:, 0]
    (dx, dy), (dx_after, dy_after) = np.diff(places, axis=0)[-3:-1]
    x, y = places[time - 1]
    in_the_air = rising.reach + 6 < y < FLOOR - rising.reach - 10
    in_the_middle = rising.reach + 6 < x < SIZE - rising.reach - 6
    undisturbed = abs(dx - dx_after) + abs(dy_after - dy - GRAVITY) < 1e-6
    if not (in_the_air and in_the_middle and undisturbed and -2.6 < dy_after < -1.1):
        return None
    # Chipmunk moves bodies before it changes their speeds.
    num_steps, step = SUBSTEPS * (time - 1), 1 / SUBSTEPS
    speed = -(dy_after - GRAVITY * (1 - step) / 2)
    vy = speed - GRAVITY * (time - 1)
    top = y - vy * (time - 1) - GRAVITY * step**2 * num_steps * (num_steps - 1) / 2
    falling = replace(rising, x=x - dx * (time - 1), y=top, vx=float(dx), vy=vy)
    if not _flies_freely(falling, time):
        return None
    first, second = replace(scene, balls=(falling,)), scene
    if rng.random() < _BYSTANDER:
        x = on_lattice(rng.uniform(RADIUS + 1, SIZE - RADIUS - 1))
        resting = Ball(colour=colours[1], radius=RADIUS, x=x, y=FLOOR - REACH)
        first, second = (replace(s, balls=(*s.balls, resting)) for s in (first, second))
        if not all(_keeps_clear(s, num_frames) for s in (first, second)):
            return None
    return first, second, time


_CANDIDATES: dict[Law, Callable[[np.random.Generator, int], _Candidate | None]] = {
    "continuity": _continuity,
    "solidity": _solidity,
    "gravity": _gravity,
    "permanence": _permanence,
}


def _sample_rolling(rng: np.random.Generator, colour: str) -> Ball:
    """A ball that rolls right and enters the picture soon, or has entered it."""
    speed = float(rng.choice(SPEEDS))
    x = on_lattice(rng.uniform(-REACH - 5 * speed, REACH + 10))
    return Ball(colour=colour, radius=RADIUS, x=x, y=FLOOR - REACH, vx=speed)


def _from_right(rng: np.random.Generator, ball: Ball) -> Ball:
    """One that rolls left as fast and enters up to four frames earlier or later."""
    return replace(ball, vx=-ball.vx, x=on_lattice(SIZE - ball.x - ball.vx * rng.uniform(-4, 4)))


def _times(num_frames: int) -> range:
    """When to splice: at a border of groups, after the context, not in the last group."""
    first = CONTEXT + GROUP
    return range(first, num_frames - GROUP, GROUP)


def _hidden_times(columns: Columns, screen: Screen) -> list[int]:
    """Times at which the disc is all behind the screen, at the frame before, too."""
    centre = np.floor(columns)
    hidden = (centre - RADIUS >= screen.left) & (centre + RADIUS < screen.left + screen.width)
    return [t for t in _times(len(columns)) if hidden[t - 1] and hidden[t]]


def _is_watched(columns: Columns, screens: tuple[Screen, ...], time: int) -> bool:
    """Whether most of the disc is seen in three frames of the context, and again after this."""
    centre = np.floor(columns)
    inside = (centre >= _MOST) & (centre < SIZE - _MOST)
    for screen in screens:
        right = screen.left + screen.width
        inside &= (centre + _MOST < screen.left) | (centre - _MOST >= right)
    return bool(inside[:CONTEXT].sum() >= 3 and inside[time:].sum() >= 3)


def _with_bystander(
    rng: np.random.Generator, first: Scene, second: Scene, colour: str
) -> tuple[Scene, Scene]:
    """Sometimes both scenes get the same shelf with the same ball at rest."""
    if rng.random() >= _BYSTANDER:
        return first, second
    dressed = with_shelf(rng, first, colour)
    balls = (*second.balls, *dressed.balls[len(first.balls) :])
    return dressed, replace(second, balls=balls, shelves=dressed.shelves)


def _flies_freely(ball: Ball, time: int) -> bool:
    """Whether it touches nothing and leaves the picture nowhere before this time."""
    every = np.arange(time)
    x, y = ball.x + ball.vx * every, ball.y + ball.vy * every + GRAVITY * every**2 / 2
    inside = (x > ball.reach + 1) & (x < SIZE - ball.reach - 1) & (y > ball.reach + 1)
    return bool((inside & (y < FLOOR - ball.reach - 1)).all())


def _keeps_clear(scene: Scene, num_frames: int) -> bool:
    """Whether the first ball never comes near the second, which rests."""
    one, other = simulate(scene, num_frames).swapaxes(0, 1)
    near = scene.balls[0].reach + scene.balls[1].reach + 2
    return bool(np.hypot(*(one - other).T).min() > near)
