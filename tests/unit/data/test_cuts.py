"""Cuts, and clips of frames that are at hand."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest

from genvlm.data.clipper import Clipper, as_fraction
from genvlm.data.cuts import split_at_cuts
from genvlm.data.video_containers import VideoFault


def _shot(seed: int, num: int, side: int = 32) -> np.ndarray:
    """A picture of coarse noise that drifts by a pixel a frame under a light that grows."""
    blocks = np.random.default_rng(seed).integers(40, 200, (side // 8, side // 8, 3))
    picture = np.kron(blocks, np.ones((8, 8, 1))).astype(np.uint8)
    return np.stack([np.roll(picture, n, 1) + np.uint8(2 * n) for n in range(num)])


def test_frames_are_split_where_the_picture_changes_and_nowhere_else() -> None:
    shots = [_shot(seed, num) for seed, num in ((0, 9), (1, 1), (2, 14), (3, 2))]
    found = split_at_cuts(np.concatenate(shots))
    assert [len(shot) for shot in found] == [9, 1, 14, 2]
    assert all(np.array_equal(one, other) for one, other in zip(found, shots, strict=True))
    assert split_at_cuts(np.empty((0, 32, 32, 3), np.uint8)) == []


def test_neither_a_thing_that_crosses_the_picture_nor_a_fade_is_a_cut() -> None:
    crossing = np.full((8, 64, 64, 3), 255, np.uint8)
    for number, frame in enumerate(crossing):
        frame[20:40, 6 * number : 6 * number + 20] = (200, 0, 0)
    assert len(split_at_cuts(crossing)) == 1
    fade = np.stack([np.full((64, 64, 3), 255 - 16 * n, np.uint8) for n in range(16)])
    assert len(split_at_cuts(fade)) == 1
    assert len(split_at_cuts(fade[::4])) == 4


def test_two_shots_of_the_same_colours_elsewhere_are_two() -> None:
    picture = _shot(5, 1)[0]
    assert len(split_at_cuts(np.stack([picture, picture[::-1, ::-1]]))) == 2


def _numbers(clipper: Clipper, times: Sequence[float]) -> list[list[int]]:
    """Frames that clips show; frame n is of grey n."""
    clips = []
    for number, time in enumerate(times):
        frame = np.full((4, 4, 3), number, np.uint8)
        clips += list(clipper.add(as_fraction(time), frame))
    clips += list(clipper.finish())
    return [clip[:, 0, 0, 0].tolist() for clip in clips]


def test_of_two_frames_that_are_as_near_the_earlier_one_is_shown() -> None:
    assert _numbers(Clipper(3, 1.0), [0, 0.5, 1.5, 2.5]) == [[0, 1, 2]]


def test_a_clip_may_begin_between_two_frames() -> None:
    assert _numbers(Clipper(2, 2.0, start=0.7), [0, 0.5, 1, 1.5, 2]) == [[1, 2]]
    assert _numbers(Clipper(2, None, start=0.7), [0, 0.5, 1, 1.5, 2]) == [[2, 3]]


def test_two_frames_of_one_time_count_as_the_later_one() -> None:
    assert _numbers(Clipper(3, 1.0), [0, 1, 1, 2]) == [[0, 2, 3]]


def test_a_rate_of_broadcasting_does_not_drift() -> None:
    times = [float(Fraction(1001 * n, 30_000)) for n in range(200)]
    assert _numbers(Clipper(200, 30_000 / 1001), times) == [list(range(200))]


@pytest.mark.parametrize(
    ("times", "fault"),
    [
        ([0, 1, 0.5, 2], "has times that go back at 1.000 s"),
        ([0, 1, 1e12], "shows one frame for 999999999999 s"),
    ],
)
def test_damaged_times_are_named_where_they_are_used(times: list[float], fault: str) -> None:
    with pytest.raises(VideoFault, match=fault):
        _numbers(Clipper(2, 1.0), times)
    assert len(_numbers(Clipper(2), times)) == len(times) // 2
