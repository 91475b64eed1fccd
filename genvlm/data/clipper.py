"""From frames as they are decoded to clips of equal length: resampled in time, without a cut."""

from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from genvlm.data.cuts import CUT_DISTANCE, cut_distance, histograms
from genvlm.data.video_containers import VideoFault

_LONGEST = 600
"""Seconds that one frame may be shown: a damaged time would else be filled with it without end."""


class _Shown(NamedTuple):
    time: Fraction
    pixels: np.ndarray
    histograms: np.ndarray
    shot: int


class Clipper:
    """Takes frames one by one and gives clips; it holds one clip and one frame beside it.

    Args:
        num_frames: of a clip. Clips follow each other and share no frame; what is left in front of
            a cut or of the end is dropped.
        frames_per_second: of clips. A clip shows, at each of its times, the frame of the video that
            is nearest in time (of two, the earlier one), so that videos of a variable rate become
            even. None: frames as they come, whatever their times.
        start: seconds from the video's first frame to the first frame of clips.
    """

    def __init__(
        self, num_frames: int, frames_per_second: float | None = None, start: float = 0
    ) -> None:
        rate = None if frames_per_second is None else as_fraction(frames_per_second)
        self._num_frames, self._rate, self._start = num_frames, rate, as_fraction(start)
        self._last: _Shown | None = None
        self._clip: list[np.ndarray] = []
        self._shot = 0
        self._num_shown = self._num_clips = self._longest = 0

    def add(self, time: Fraction, pixels: np.ndarray) -> Iterator[np.ndarray]:
        """Clips (T, H, W, 3) that end with this frame.

        Args:
            time: seconds since the video's first frame. Frames before `start` may be left out, but
                for the last one.

        Raises:
            VideoFault: times go back, or one frame is shown for longer than ten minutes.
        """
        last, seen = self._last, histograms(pixels)
        is_cut = last is not None and cut_distance(last.histograms, seen) > CUT_DISTANCE
        shot = 0 if last is None else last.shot + is_cut
        self._last = _Shown(time, pixels, seen, shot)
        if self._rate is None:
            if not self._start or time >= self._start:
                yield from self._show(self._last)
        elif last is not None:
            self._check(last.time, time)
            if time > last.time:
                yield from self._show_until((last.time + time) / 2, last)

    def finish(self) -> Iterator[np.ndarray]:
        """Clips that the last frame ends. Raises VideoFault: there was none in all of the video."""
        if self._rate is not None and self._last is not None:
            yield from self._show_until(self._last.time, self._last)
        if self._num_clips:
            return
        rate = "" if self._rate is None else f" at {float(self._rate):g} per second"
        begin = f" from second {float(self._start):g} on" if self._start else ""
        if self._num_shown < self._num_frames:
            raise VideoFault(
                f"has {self._num_shown} frames{rate}{begin}, {self._num_frames} are needed"
            )
        raise VideoFault(
            f"has no {self._num_frames} frames{rate}{begin} without a cut, but {self._longest}"
        )

    def _check(self, before: Fraction, after: Fraction) -> None:
        if after < before:
            raise VideoFault(f"has times that go back at {float(before):.3f} s: convert it")
        if after - before > _LONGEST:
            raise VideoFault(
                f"shows one frame for {float(after - before):.0f} s: its times are damaged"
            )

    def _show_until(self, end: Fraction, shown: _Shown) -> Iterator[np.ndarray]:
        assert self._rate is not None
        while self._start + self._num_shown / self._rate <= end:
            yield from self._show(shown)

    def _show(self, shown: _Shown) -> Iterator[np.ndarray]:
        self._num_shown += 1
        if shown.shot != self._shot:
            self._clip, self._shot = [], shown.shot
        self._clip.append(shown.pixels)
        self._longest = max(self._longest, len(self._clip))
        if len(self._clip) == self._num_frames:
            clip, self._clip = np.stack(self._clip), []
            self._num_clips += 1
            yield clip


def as_fraction(number: float) -> Fraction:
    """A rate or time without the rounding of floats: 29.97002997... is 30000/1001."""
    return Fraction(number).limit_denominator(100_000)


def square_sides(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height to which a frame is scaled before its middle is cut out as a square."""
    shorter = min(width, height)
    return max(side, round(width * side / shorter)), max(side, round(height * side / shorter))


def fitted_sides(width: int, height: int, max_side: int) -> tuple[int, int]:
    """Width and height of a frame that is scaled down to fit."""
    scale = min(1.0, max_side / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def centre_square(frame: np.ndarray, side: int) -> np.ndarray:
    """The middle of a scaled frame (H, W, 3)."""
    top, left = ((length - side) // 2 for length in frame.shape[:2])
    return np.ascontiguousarray(frame[top : top + side, left : left + side])
