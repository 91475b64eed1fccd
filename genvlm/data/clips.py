"""Clips of a source of videos, decoded, in an order that depends on its files alone."""

from collections.abc import Iterator
from typing import NamedTuple

from genvlm.config.data import VideosSource
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media
from genvlm.data.skipping import SkipBudget
from genvlm.data.videos import VideoDecoder, VideoFrames, VideoInfo
from genvlm.errors import VideoError

CLIP_SIDE = 256
"""Most pixels of a side; video tokenizers scale it down to theirs."""


class ClipOfVideo(NamedTuple):
    """One clip of a video that has several."""

    id: str
    """The video's path below the folder, and which of its clips: `ball.mp4#0`."""
    caption: str | None
    frames: VideoFrames


def clip_side(info: VideoInfo) -> int:
    """Pixels of a side of a video's clips: no small one is enlarged, which would blur it."""
    return min(CLIP_SIDE, info.width, info.height)


def read_clips(source: VideosSource, skips: SkipBudget) -> Iterator[ClipOfVideo]:
    """All clips of all videos; each has the caption of its video, if that has one.

    A video that is damaged, or too short for one clip, counts as one skipped sample; clips in front
    of the damage are kept.

    Raises:
        DataError: as `open_source`, or `skips` had enough.
    """
    with VideoDecoder() as decoder:
        for document in open_source(source, skips):
            caption = next((s for s in document.segments if isinstance(s, str)), None)
            video = next(s for s in document.segments if isinstance(s, Media))
            try:
                clips = decoder.clips(
                    video,
                    num_frames=source.num_frames,
                    side=clip_side(decoder.probe(video)),
                    frames_per_second=source.frames_per_second,
                )
                for number, frames in enumerate(clips):
                    yield ClipOfVideo(f"{document.id}#{number}", caption, frames)
            except VideoError as error:
                skips.skip(document.id, str(error))
