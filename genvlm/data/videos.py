"""Videos of strangers: decoded in processes that may crash or hang, within limits."""

import importlib.util
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from genvlm.data.child import Answer, Child, ChildFailed, ChildLimits
from genvlm.data.frame_folders import describe_folder, folder_clips, scaled_frames
from genvlm.data.raw import Media
from genvlm.data.video_containers import VideoFault
from genvlm.errors import VideoError

VideoFrames = UInt8[np.ndarray, "frames height width 3"]
"""Frames of one video as uint8 RGB."""

MAX_PIXELS = 4096 * 2304
"""Of a frame; 4K is decoded, 8K is refused."""
_CHILD = "genvlm.data.video_child"


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What the container says of a video's first stream of pictures."""

    container: str
    codec: str
    width: int
    height: int
    num_frames: int
    """0 where it does not say."""
    frames_per_second: float
    """0 where it does not say."""
    seconds: float
    """0 where it does not say."""


class VideoDecoder:
    """A pool of processes that decode videos; threads may share it.

    Args:
        num_children: videos that are probed or decoded at the same time. Each iteration of clips
            has a process of its own besides, since it may pause for as long as it likes.
        limits: of one answer: of a video, or of a clip.
    """

    def __init__(self, num_children: int = 1, limits: ChildLimits | None = None) -> None:
        if importlib.util.find_spec("av") is None:
            raise VideoError("videos need PyAV: pip install 'genvlm[video]'")
        self._limits = limits or ChildLimits()
        self._children = [Child(_CHILD, self._limits) for _ in range(num_children)]
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        for child in self._children:
            self._idle.put(child)
        self._of_clips: list[Child] = []
        """Those that no iteration of clips has."""

    def __enter__(self) -> "VideoDecoder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def pids(self) -> list[int]:
        """Of the processes that it has now."""
        return [child.pid for child in self._children if child.pid is not None]

    def close(self) -> None:
        """End its processes."""
        for child in self._children:
            child.close()

    def probe(self, video: Media) -> VideoInfo:
        """What its container says; no frame of a file is decoded, and the first of a folder.

        Raises:
            VideoError: missing, not a video that can be read, of over 9 megapixels, or its decoder
                crashed, hung or ate memory.
            DataError: a part of a file that is gone.
        """
        if (folder := _folder(video)) is not None:
            with _naming(video):
                return VideoInfo(**describe_folder(folder, MAX_PIXELS))
        said, _ = self._ask(video, {"do": "probe"})
        return VideoInfo(**said)

    def decode(self, video: Media, *, max_frames: int, max_side: int) -> VideoFrames:
        """The first frames, at least one, scaled down so that no side is longer than `max_side`.

        Raises:
            VideoError: as `probe`, and damaged somewhere in these frames.
        """
        asked = {"max_frames": max_frames, "max_side": max_side}
        if (folder := _folder(video)) is not None:
            with _naming(video):
                return scaled_frames(folder, **asked, max_pixels=MAX_PIXELS)
        request = {"do": "decode", **asked}
        return _frames(video, *self._ask(video, request))

    def clips(
        self,
        video: Media,
        *,
        num_frames: int,
        side: int,
        frames_per_second: float | None = None,
        start: float = 0,
        max_clips: int | None = None,
    ) -> Iterator[VideoFrames]:
        """Clips that follow each other without a gap but for cuts: (num_frames, side, side, 3).

        A frame is scaled so that its shorter side is `side`, and its middle cut out as a square. No
        clip spans a cut (`cuts.py`). One clip is held at a time, however long the video, and what
        is behind the last whole clip is not given.

        Args:
            frames_per_second: of clips, each frame the nearest in time; None: as they come.
            start: seconds from the first frame at which the first clip begins. Nothing before the
                key frame in front of it is decoded.
            max_clips: stop after so many.

        Raises:
            VideoError: as `probe`; there is no clip in it; or, after the clips before it, damage.
        """
        asked: dict[str, Any] = {
            "num_frames": num_frames, "side": side, "frames_per_second": frames_per_second,
            "start": start,
        }  # fmt: skip
        if (folder := _folder(video)) is not None:
            with _naming(video):
                yield from islice(folder_clips(folder, **asked, max_pixels=MAX_PIXELS), max_clips)
            return
        with self._child_of_clips() as child:
            yield from islice(_clips(child, video, {"do": "clips", **asked}), max_clips)

    def _ask(self, video: Media, request: dict[str, Any]) -> Answer:
        with self._child() as child:
            return _ask(child, video, request)

    @contextmanager
    def _child(self) -> Iterator[Child]:
        child = self._idle.get()
        try:
            yield child
        finally:
            self._idle.put(child)

    @contextmanager
    def _child_of_clips(self) -> Iterator[Child]:
        try:
            child = self._of_clips.pop()
        except IndexError:
            child = Child(_CHILD, self._limits)
            self._children.append(child)
        try:
            yield child
        finally:
            self._of_clips.append(child)


def _clips(child: Child, video: Media, request: dict[str, Any]) -> Iterator[VideoFrames]:
    while not (answer := _ask(child, video, request))[0]["end"]:
        request = {"do": "next"}
        if "shape" in answer[0]:
            yield _frames(video, *answer)


def _folder(video: Media) -> Path | None:
    """The folder of frames that a video is."""
    return video.path if video.path is not None and video.path.is_dir() else None


@contextmanager
def _naming(video: Media) -> Iterator[None]:
    try:
        yield
    except VideoFault as fault:
        raise VideoError(f"{video.name} {fault}") from None


def _ask(child: Child, video: Media, request: dict[str, Any]) -> Answer:
    content = b""
    if request["do"] != "next":
        content = video.content or b""
        request = {**request, "max_pixels": MAX_PIXELS}
        if video.content is None:
            request |= {"path": str(video.path), "offset": video.offset, "size": video.size}
    try:
        said, pixels = child.ask(request, content)
    except ChildFailed as error:
        raise VideoError(f"{video.name} {error}: leave it out") from None
    if "error" in said:
        raise VideoError(f"{video.name} {said['error']}")
    return said, pixels


def _frames(video: Media, said: dict[str, Any], pixels: bytes | bytearray) -> VideoFrames:
    shape = said["shape"]
    if len(pixels) != int(np.prod(shape)):
        raise VideoError(f"{video.name} gave {len(pixels):,} bytes for frames of {shape}")
    return np.frombuffer(pixels, np.uint8).reshape(shape)
