"""The first frames of a user's video, as squares; they need not be all that it has."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from genvlm.data.clip_files import FRAMES_PER_SECOND
from genvlm.data.clips import clip_side
from genvlm.data.raw import Media
from genvlm.data.videos import VideoDecoder, VideoFrames
from genvlm.tokenization.image import fit_squares


@dataclass(frozen=True, kw_only=True)
class FirstFrames:
    """Frames, at least one, and how fast they play."""

    frames: VideoFrames
    frames_per_second: float


def read_first_frames(
    path: Path,
    side: int,
    *,
    max_frames: int,
    frames_per_second: float | None = None,
    start: float = 0,
) -> FirstFrames:
    """`first_frames` of a file or folder, by a decoder of its own. Raises as that."""
    media = Media(kind="video", name=str(path), path=path)
    with VideoDecoder() as decoder:
        return first_frames(
            decoder, media, side, max_frames=max_frames,
            frames_per_second=frames_per_second, start=start,
        )  # fmt: skip


def first_frames(
    decoder: VideoDecoder,
    video: Media,
    side: int,
    *,
    max_frames: int,
    frames_per_second: float | None = None,
    start: float = 0,
) -> FirstFrames:
    """At most so many frames of a video, a GIF or a folder of frames.

    They are squares of `side` pixels, made as those of training are: the middle of the frame, and
    of that what a tokenizer of this size takes. Cuts are not looked for.

    Args:
        frames_per_second: the video is resampled to it; None: frames as they come.
        start: seconds from its beginning.

    Raises:
        VideoError: missing, no video, damaged, or without a frame from `start` on.
    """
    info = decoder.probe(video)
    rate = frames_per_second or info.frames_per_second or FRAMES_PER_SECOND
    each = decoder.clips(
        video,
        num_frames=1,
        side=clip_side(info),
        frames_per_second=frames_per_second,
        start=start,
    )
    clips: list[np.ndarray] = list(islice(each, max_frames))
    frames = fit_squares([clip[0] for clip in clips], side)
    return FirstFrames(frames=frames, frames_per_second=rate)
