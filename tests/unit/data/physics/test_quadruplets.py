"""Quadruplets: every frame, pair and group once in each kind, and each law kept and broken."""

from collections import Counter
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genvlm.data.physics.counting import ball_centres
from genvlm.data.physics.drawing import BALL_COLOURS, SCREEN, WALL
from genvlm.data.physics.quadruplets import (
    CONTEXT,
    GROUP,
    LAWS,
    Law,
    Quadruplet,
    quadruplet_stream,
    sample_quadruplet,
)
from genvlm.data.physics.scenes import sample_clips
from genvlm.data.videos import VideoFrames
from genvlm.errors import DataError

NUM = 4
CASES = [(law, number) for law in LAWS for number in range(NUM)]
each_quadruplet = pytest.mark.parametrize(("law", "number"), CASES)


@cache
def _quadruplet(law: Law, number: int) -> Quadruplet:
    return sample_quadruplet(law, number)


def _counted(clips: tuple[VideoFrames, ...], parts: Callable[[VideoFrames], list]) -> Counter:
    return Counter(
        (time, np.ascontiguousarray(part).tobytes())
        for clip in clips
        for time, part in enumerate(parts(clip))
    )


def _groups(clip: VideoFrames) -> list[np.ndarray]:
    return [clip[:1], *(clip[t : t + GROUP] for t in range(1, len(clip), GROUP))]


def _pairs(clip: VideoFrames) -> list[np.ndarray]:
    return [clip[t : t + 2] for t in range(len(clip) - 1)]


@each_quadruplet
@pytest.mark.parametrize("parts", [list, _pairs, _groups], ids=["frame", "pair", "group"])
def test_every_part_stands_as_often_in_the_lawful_as_in_the_broken_clips(
    law: Law, number: int, parts: Callable[[VideoFrames], list]
) -> None:
    quadruplet = _quadruplet(law, number)
    assert _counted(quadruplet.lawful, parts) == _counted(quadruplet.broken, parts)


@each_quadruplet
def test_the_four_clips_differ_and_the_twins_agree_in_the_context(law: Law, number: int) -> None:
    quadruplet = _quadruplet(law, number)
    clips = (*quadruplet.lawful, *quadruplet.broken)
    assert {clip.shape for clip in clips} == {(33, 64, 64, 3)}
    assert len({clip.tobytes() for clip in clips}) == 4
    for lawful, broken in quadruplet.pairs:
        np.testing.assert_array_equal(lawful[:CONTEXT], broken[:CONTEXT])


@each_quadruplet
def test_the_splice_lies_after_the_context_at_a_border_of_groups_where_nothing_is_to_be_seen(
    law: Law, number: int
) -> None:
    quadruplet = _quadruplet(law, number)
    one, other = quadruplet.lawful
    time = quadruplet.splice
    assert time > CONTEXT
    assert time % GROUP == 1
    np.testing.assert_array_equal(one[time - 1], other[time - 1])
    assert law == "gravity" or (one[time] == other[time]).all()


def _moving_colour(quadruplet: Quadruplet) -> str:
    """The colour that is not the same in all frames of both lawful clips."""
    both = np.concatenate(quadruplet.lawful)
    areas = {c: (both == rgb).all(-1) for c, rgb in BALL_COLOURS.items()}
    (colour,) = [c for c, mask in areas.items() if (mask != mask[0]).any()]
    return colour


def _path(clip: VideoFrames, colour: str) -> np.ndarray:
    """(row, column) of its centre at each frame, NaN where it is not seen."""
    centres = [ball_centres(frame).get(colour, (np.nan, np.nan)) for frame in clip]
    return np.array(centres)


def _seen_colours(part: VideoFrames, still: set[str]) -> set[str]:
    """Colours of the balls of some frames, without those that rest."""
    return {colour for frame in part for colour in ball_centres(frame)} - still


@pytest.mark.parametrize("number", range(2 * NUM))
def test_permanence_is_a_ball_that_comes_out_as_it_went_in(number: int) -> None:
    quadruplet = _quadruplet("permanence", number)
    time = quadruplet.splice
    still = set(ball_centres(quadruplet.lawful[0][time]))
    first, second = (
        [_seen_colours(part, still) for clip in clips for part in (clip[:CONTEXT], clip[time:])]
        for clips in (quadruplet.lawful, quadruplet.broken)
    )
    ball, other = first[0], first[2]
    assert len(ball) == 1
    assert len(other) <= 1
    assert other != ball
    assert first == [ball, ball, other, other]
    assert second == [ball, other, other, ball]


def test_permanence_is_broken_by_balls_that_vanish_and_by_balls_that_change() -> None:
    moving = [_quadruplet("permanence", number).lawful[1] for number in range(2 * NUM)]
    assert len({(clip != clip[0]).any() for clip in moving}) == 2


@pytest.mark.parametrize("number", range(NUM))
def test_continuity_is_a_ball_that_comes_out_of_the_screen_it_went_behind(number: int) -> None:
    quadruplet = _quadruplet("continuity", number)
    time = quadruplet.splice
    colour = _moving_colour(quadruplet)
    screens = np.flatnonzero(np.diff((quadruplet.lawful[0][0] == SCREEN).all(-1).any(0)))
    assert len(screens) == 4
    gap = (screens[1] + screens[2]) / 2
    jumps = []
    for clip in (*quadruplet.lawful, *quadruplet.broken):
        columns = _path(clip, colour)[:, 1]
        last, then = (part[~np.isnan(part)] for part in (columns[:time], columns[time:]))
        # It goes behind a screen from outside, and comes out of it into the gap.
        went_behind_left = last[-1] < gap
        came_out_of_left = then[1] > then[0]
        assert screens[1] - 6 < then[0] < screens[2] + 6
        jumps.append(bool(went_behind_left != came_out_of_left))
    assert jumps == [False, False, True, True]


@pytest.mark.parametrize("number", range(NUM))
def test_solidity_is_a_ball_that_leaves_on_the_side_of_the_wall_it_came_from(number: int) -> None:
    quadruplet = _quadruplet("solidity", number)
    time = quadruplet.splice
    colour = _moving_colour(quadruplet)
    post = np.flatnonzero((quadruplet.lawful[0][0] == WALL).all(-1).any(0)).mean()
    crosses = []
    for clip in (*quadruplet.lawful, *quadruplet.broken):
        columns = _path(clip, colour)[:, 1]
        sides = [np.sign(np.nanmean(part) - post) for part in (columns[:time], columns[time:])]
        crosses.append(sides[0] != sides[1])
    assert crosses == [False, False, True, True]


@pytest.mark.parametrize("number", range(NUM))
def test_gravity_is_a_ball_that_neither_falling_nor_rising_turns_at_speed_in_mid_air(
    number: int,
) -> None:
    quadruplet = _quadruplet("gravity", number)
    time = quadruplet.splice
    colour = _moving_colour(quadruplet)
    turns = []
    for clip in (*quadruplet.lawful, *quadruplet.broken):
        before, at, after = _path(clip, colour)[[time - 4, time - 1, time + 2]]
        turns.append(np.sign(at[0] - before[0]) != np.sign(after[0] - at[0]))
        assert at[0] < 46
        assert abs((after - at)[1] - (at - before)[1]) <= 2, "sideways nothing happens"
    assert turns == [False, False, True, True]


@pytest.mark.parametrize("law", LAWS)
def test_a_quadruplet_depends_on_its_arguments_alone(law: Law) -> None:
    again = sample_quadruplet(law, 1)
    for clip, other in zip(again.lawful + again.broken, _clips_of(law, 1), strict=True):
        np.testing.assert_array_equal(clip, other)
    assert again.id == f"{law}-0-1"
    assert not np.array_equal(again.lawful, sample_quadruplet(law, 1, seed=1).lawful)


def _clips_of(law: Law, number: int) -> tuple[VideoFrames, ...]:
    quadruplet = _quadruplet(law, number)
    return quadruplet.lawful + quadruplet.broken


def test_no_quadruplet_shows_a_moving_clip_of_training() -> None:
    training = {clip.render().tobytes() for seed in (0, 1) for clip in sample_clips(60, seed)}
    for law, number in CASES:
        moving = [c for c in _clips_of(law, number) if (c != c[0]).any()]
        assert not training & {clip.tobytes() for clip in moving}


@given(*[st.integers(0, 2**70)] * 4)
def test_no_seeds_make_a_stream_of_quadruplets_one_of_training_or_of_another_law(
    seed: int, number: int, other_seed: int, other_number: int
) -> None:
    first_words = {1, 2, *(quadruplet_stream(law) for law in LAWS)}
    assert len(first_words) == 2 + len(LAWS)
    keys = [(seed, number), (other_seed, other_number)]
    states = {
        tuple(np.random.SeedSequence([word, *keys[word % 2]]).generate_state(4).tolist())
        for word in first_words
    }
    assert len(states) == len(first_words)


@pytest.mark.parametrize("num_frames", [32, 34, 25])
def test_lengths_that_do_not_fit_are_refused(num_frames: int) -> None:
    with pytest.raises(DataError, match=f"quadruplets of {num_frames} frames are impossible"):
        sample_quadruplet("gravity", 0, num_frames=num_frames)


def test_a_law_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(DataError, match="no physical law 'inertia'; choose one of continuity"):
        sample_quadruplet("inertia", 0)  # type: ignore[arg-type]
