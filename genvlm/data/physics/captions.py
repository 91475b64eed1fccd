"""What happens in a simulated clip, in a few plain words that are true of its frames."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from genvlm.data.physics.simulation import FLOOR, SIZE, THICKNESS, Ball, Scene, Track, Tracks

_STILL = 1.0
"""Pixels: less motion than this is rest."""
_SPEED = 0.5
"""Pixels per frame: slower motion has no direction worth telling."""
_TOUCH = 4.0
"""Pixels between two edges at most, at the frame next to their meeting."""


def describe(scene: Scene, tracks: Tracks) -> str:
    """The caption: the balls and boxes that are seen and what they do."""
    moving: list[tuple[Ball, Track]] = []
    resting: list[tuple[Ball, Track]] = []
    for index, ball in enumerate(scene.balls):
        track = tracks[:, index]
        if is_seen(ball, track, scene).any():
            still = np.abs(track - track[0]).max() < _STILL
            (resting if still else moving).append((ball, track))
    acts: dict[str, list[str]] = {}
    for box, track in zip(scene.boxes, tracks.swapaxes(0, 1)[len(scene.balls) :], strict=True):
        acts.setdefault(_slide(track), []).append(f"a {box.colour} box")
    for ball, track in moving:
        collides = len(moving) == 2 and _collide(moving, scene)
        if scene.tray or len(moving) > 2:
            act = "move{s} about" + (" in a tray" if scene.tray else "")
        else:
            act = _act(track, scene, brief=len(moving) > 1)
        acts.setdefault("collide{s}" if collides else act, []).append(f"a {ball.colour} ball")
    for ball, _ in resting:
        acts.setdefault("rest{s}", []).append(f"a {ball.colour} ball")
    phrases = [_sentence(names, act) for act, names in acts.items()]
    return ", ".join(phrases) or f"nothing moves{_near(scene)}"


def is_seen(ball: Ball, track: Track, scene: Scene) -> Bool[np.ndarray, " frames"]:
    """At which frames some of the ball's disc is in the picture and before no screen."""
    columns = np.floor(track[:, 0])
    left, right = columns - ball.radius, columns + ball.radius + 1
    inside = (right > 0) & (left < SIZE)
    return inside & ~is_hidden(ball, track, scene)


def is_hidden(ball: Ball, track: Track, scene: Scene) -> Bool[np.ndarray, " frames"]:
    """At which frames the whole of the ball's disc is behind a screen."""
    column, row = np.floor(track).T
    hidden = np.zeros(len(track), bool)
    for screen in scene.screens:
        hidden |= (
            (column - ball.radius >= screen.left)
            & (column + ball.radius < screen.left + screen.width)
            & (row - ball.radius >= FLOOR - screen.height)
            & (row + ball.radius < FLOOR)
        )
    return hidden


def _act(track: Track, scene: Scene, brief: bool) -> str:
    """What one ball does; {s} stands where a verb has its ending."""
    if np.ptp(track[:, 1]) > 2 * _STILL:
        return _fall(track, scene, brief)
    act, then = f"roll{{s}} {_direction(track)}", ""
    if _turns(track[:, 0]):
        then = " and bounce{s} back"
    elif _stops(track):
        then = " and stop{s}"
    behind = sum(_passes_behind(track, s.left, s.width) for s in scene.screens)
    if behind and not (brief and then):
        act += " behind a screen" if behind == 1 else " behind two screens"
    return act + then


def _fall(track: Track, scene: Scene, brief: bool) -> str:
    speeds = np.diff(track[:, 1])
    rises, falls = speeds[0] < -_SPEED / 2, speeds.max() > _SPEED
    aside = np.diff(track[:, 0])[0]
    way = ""
    if abs(aside) > _SPEED and not brief:
        way = " to the right" if aside > 0 else " to the left"
    parts = ["rise{s}" + way] if rises else []
    if falls:
        parts.append("fall{s}" + ("" if rises else way))
    for box in scene.containers:
        x, y = track[-1]
        if falls and box.left < x < box.left + box.width and y > FLOOR - THICKNESS - box.height:
            return " and ".join(parts) + " into a container"
    # From falling to rising: only the floor, a shelf or another ball does that.
    if _turns(track[:, 1], downward_first=True):
        parts.append("bounce{s}")
    if len(parts) == 3:
        return f"{parts[0]}, {parts[1]} and {parts[2]}"
    return " and ".join(parts) or "drift{s}" + way


def _slide(track: Track) -> str:
    if np.ptp(track[:, 0]) < _STILL:
        return "rest{s}"
    return f"slide{{s}} {_direction(track)}" + (" and stop{s}" if _stops(track) else "")


def _direction(track: Track) -> str:
    speeds = np.diff(track[:, 0])
    first = speeds[np.argmax(np.abs(speeds) > _SPEED / 5)]
    return "right" if first > 0 else "left"


def _turns(places: Float[np.ndarray, " frames"], downward_first: bool = False) -> bool:
    """Whether it goes one way at speed and the other way later."""
    speeds = np.diff(places)
    forward, backward = speeds > _SPEED, speeds < -_SPEED
    if not downward_first and np.argmax(backward) < np.argmax(forward):
        forward, backward = backward, forward
    return bool(forward.any() and backward[np.argmax(forward) :].any())


def _stops(track: Track) -> bool:
    return bool(np.abs(track[-3:] - track[-1]).max() < _STILL / 4)


def _passes_behind(track: Track, left: int, width: int) -> bool:
    return bool(((track[:, 0] > left) & (track[:, 0] < left + width)).any())


def _collide(moving: Sequence[tuple[Ball, Track]], scene: Scene) -> bool:
    """Whether two balls meet where both are seen."""
    (first, one), (second, two) = moving
    seen = is_seen(first, one, scene) & is_seen(second, two, scene)
    near = np.hypot(*(one - two).T) < first.reach + second.reach + _TOUCH
    # Sideways they push each other equally, and nothing but a wall or an edge else does.
    push, counter_push = (b.reach**2 * np.diff(t[:, 0], n=2) for b, t in moving)
    push_each_other = np.abs(push + counter_push) < 0.01 * np.abs(push)
    pushed = np.abs(push) > _SPEED / 5 * first.reach**2
    return bool((seen[1:-1] & near[1:-1] & push_each_other & pushed).any())


def _sentence(names: Sequence[str], act: str) -> str:
    who = " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{who} {act.format(s='s' if len(names) == 1 else '')}"


def _near(scene: Scene) -> str:
    things = ["a wall"] * len(scene.walls)
    things += {0: [], 1: ["a screen"], 2: ["two screens"]}[len(scene.screens)]
    return f" near {' and '.join(things)}" if things else ""
