"""Clips for training: lawful, reproducible, and captions that are true of the pixels."""

import re
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genvlm.data.physics.counting import ball_centres, count_balls
from genvlm.data.physics.drawing import BALL_COLOURS, BOX_COLOURS, SCENERY, SCREEN
from genvlm.data.physics.scenes import (
    FAMILIES,
    SPEEDS,
    PhysicsClip,
    sample_clips,
    sample_counting_clips,
    sample_scene,
)
from genvlm.data.physics.simulation import FLOOR, SIZE, WALL_WIDTH
from genvlm.data.videos import VideoFrames

COLOURS = "|".join(BALL_COLOURS)
ONE_ROLLING = re.compile(rf"a ({COLOURS}) ball rolls (left|right)")


@cache
def _clips() -> list[PhysicsClip]:
    return list(sample_clips(90, seed=3))


@cache
def _frames(number: int) -> VideoFrames:
    return _clips()[number].render()


@cache
def _colours(number: int) -> set[tuple[int, ...]]:
    """RGB colours that occur in a clip."""
    packed = np.unique(_frames(number).astype(np.int32) @ np.array([65536, 256, 1], np.int32))
    return {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in packed}


def _with_caption(pattern: str) -> list[tuple[PhysicsClip, VideoFrames]]:
    found = [(c, _frames(n)) for n, c in enumerate(_clips()) if re.search(pattern, c.caption)]
    assert found, f"no clip is captioned {pattern!r}"
    return found


def _columns(frames: VideoFrames, colour: str) -> np.ndarray:
    """Columns of a ball's centre at the frames at which it is seen."""
    centres = [ball_centres(frame).get(colour) for frame in frames]
    return np.array([centre[1] for centre in centres if centre is not None])


def test_a_clip_depends_on_seed_and_number_alone() -> None:
    again = list(sample_clips(20, seed=3))
    assert [c.scene for c in again] == [c.scene for c in _clips()[:20]]
    for number, clip in enumerate(again):
        np.testing.assert_array_equal(clip.render(), _frames(number))
    assert [c.scene for c in sample_clips(20, seed=4)] != [c.scene for c in again]


def test_a_shorter_clip_is_the_beginning_of_the_longer_one() -> None:
    for number, clip in enumerate(sample_clips(10, seed=3, num_frames=17)):
        np.testing.assert_array_equal(clip.render(), _frames(number)[:17])


def test_frames_are_64_pixels_wide_and_high_in_few_colours() -> None:
    for number in range(30):
        assert _frames(number).shape == (33, SIZE, SIZE, 3)
        assert _frames(number).dtype == np.uint8
        palette = {*BALL_COLOURS.values(), *BOX_COLOURS.values(), *SCENERY}
        assert _colours(number) <= palette


def test_the_shares_of_the_families_are_those_of_a_whole() -> None:
    assert sum(FAMILIES.values()) == pytest.approx(1)
    assert len(FAMILIES) == 7


def test_there_are_scenes_with_screens_and_no_ball() -> None:
    for _, frames in _with_caption("nothing moves near (a|two) screen"):
        assert (frames == frames[0]).all()
        assert count_balls(frames[0]) == 0
        assert (frames[0] == SCREEN).all(-1).any()


def test_no_ball_passes_through_a_wall_the_floor_or_another_ball() -> None:
    for clip in _clips():
        balls = clip.scene.balls
        tracks = clip.tracks[:, : len(balls)]
        for ball, track in zip(balls, tracks.swapaxes(0, 1), strict=True):
            assert (track[:, 1] + ball.reach < FLOOR + 1).all() or clip.scene.tray
            for wall in clip.scene.walls:
                side = np.sign(track[:, 0] - wall.left - WALL_WIDTH / 2)
                assert (side == side[0]).all()
        for first, second in combinations(range(len(balls)), 2):
            apart = np.hypot(*(tracks[:, first] - tracks[:, second]).T)
            assert apart.min() > balls[first].reach + balls[second].reach - 1


def test_a_ball_comes_and_goes_only_behind_screens_and_at_the_edges() -> None:
    for number, clip in enumerate(_clips()):
        frames = _frames(number)
        for index, ball in enumerate(clip.scene.balls):
            seen = (frames == BALL_COLOURS[ball.colour]).all(-1).any((1, 2))
            column, row = np.floor(clip.tracks[:, index]).T
            outside = (column + ball.radius < 0) | (column - ball.radius >= SIZE)
            behind = np.zeros(len(frames), bool)
            for screen in clip.scene.screens:
                left = (column - ball.radius >= screen.left) & (row > FLOOR - screen.height)
                behind |= left & (column + ball.radius < screen.left + screen.width)
            np.testing.assert_array_equal(seen, ~outside & ~behind)


def test_the_caption_names_the_balls_that_are_seen_and_no_others() -> None:
    for number, clip in enumerate(_clips()):
        seen = {colour for colour, rgb in BALL_COLOURS.items() if rgb in _colours(number)}
        assert set(re.findall(rf"({COLOURS}) ball", clip.caption)) == seen


def test_a_ball_that_rolls_left_or_right_does_so_in_the_pixels() -> None:
    for clip, frames in _with_caption(ONE_ROLLING.pattern):
        for colour, direction in ONE_ROLLING.findall(clip.caption):
            steps = np.diff(_columns(frames, colour))
            moves = steps[np.abs(steps) > 0.6]
            assert (moves[0] > 0) == (direction == "right"), clip.caption


def test_a_ball_bounces_back_in_the_pixels_where_the_caption_says_so() -> None:
    for clip, frames in _with_caption(rf"^a ({COLOURS}) ball rolls[^,]*$"):
        colour = ONE_ROLLING.findall(clip.caption)[0][0]
        steps = np.diff(_columns(frames, colour))
        both_ways = (steps > 1).any() and (steps < -1).any()
        assert both_ways == ("bounces back" in clip.caption), clip.caption


def test_a_ball_that_falls_into_a_container_ends_between_its_sides() -> None:
    for clip, frames in _with_caption("into a container"):
        ((_, (row, column)),) = ball_centres(frames[-1]).items()
        (box,) = clip.scene.containers
        assert box.left < column < box.left + box.width
        assert row > FLOOR - box.height


def test_balls_that_collide_are_both_turned_or_stopped_or_sped() -> None:
    for clip, _ in _with_caption("collide"):
        pushes = np.abs(np.diff(clip.tracks[:, :2, 0], n=2, axis=0)) > 0.05
        assert pushes.all(1).any(), clip.caption


def test_captions_are_short_and_have_the_right_article() -> None:
    for clip in _clips():
        assert 2 <= len(clip.caption.split()) <= 17
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|[{}]", clip.caption)


def test_what_rolls_has_one_of_few_speeds_and_stands_between_the_borders_of_pixels() -> None:
    speeds = set()
    for clip in _clips():
        for scene in (clip.scene, clip.scene.mirrored):
            rolling = [b for b in scene.balls if b.vx and not b.vy and b.y == FLOOR - b.reach]
            speeds |= {abs(ball.vx) for ball in rolling}
            assert all(ball.x % 0.5 == 0.25 for ball in rolling)
    assert speeds == set(SPEEDS)


def test_in_clips_for_counting_every_ball_is_seen_whole_at_every_frame() -> None:
    numbers = set()
    for clip in sample_counting_clips(12, seed=0):
        frames = clip.render()
        assert {count_balls(frame, min_area=80) for frame in frames} == {len(clip.scene.balls)}
        assert (frames != frames[0]).any()
        numbers.add(len(clip.scene.balls))
    assert numbers == {1, 2, 3}


def test_clips_for_counting_are_none_of_training() -> None:
    training = {c.scene for c in sample_clips(200, seed=3, num_frames=1)}
    assert not training & {c.scene for c in sample_counting_clips(100, seed=3, num_frames=1)}


@given(st.integers(0, 2**40), st.integers(0, 2**31))
def test_every_seed_gives_a_scene_of_balls_in_different_colours(seed: int, number: int) -> None:
    scene = sample_scene(np.random.default_rng([1, seed, number]))
    colours = [ball.colour for ball in scene.balls]
    assert len(set(colours)) == len(colours) <= 3
    assert all(
        np.hypot(a.x - b.x, a.y - b.y) > a.reach + b.reach for a, b in combinations(scene.balls, 2)
    )
