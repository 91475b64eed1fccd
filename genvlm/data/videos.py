"""Videos of strangers: decoded in processes that may crash or hang, within limits."""

import importlib.util
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from genvlm.data.child import Answer, Child, ChildFailed, ChildLimits
from genvlm.data.raw import Media
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
        num_children: videos that are decoded at the same time.
        limits: of one video.
    """

    def __init__(self, num_children: int = 1, limits: ChildLimits | None = None) -> None:
        if importlib.util.find_spec("av") is None:
            raise VideoError("videos need PyAV: pip install 'genvlm[video]'")
        children = [Child(_CHILD, limits or ChildLimits()) for _ in range(num_children)]
        self._children = children
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        for child in children:
            self._idle.put(child)

    def __enter__(self) -> "VideoDecoder":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its processes."""
        for child in self._children:
            child.close()

    def probe(self, video: Media) -> VideoInfo:
        """What its container says; no frame is decoded.

        Raises:
            VideoError: missing, not a video that can be read, of over 9 megapixels, or its decoder
                crashed, hung or ate memory.
            DataError: a part of a file that is gone.
        """
        said, _ = self._ask(video, {"do": "probe"})
        return VideoInfo(**said)

    def decode(self, video: Media, *, max_frames: int, max_side: int) -> VideoFrames:
        """The first frames, at least one, scaled down so that no side is longer than `max_side`.

        Raises:
            VideoError: as `probe`, and damaged somewhere in these frames.
        """
        request = {"do": "decode", "max_frames": max_frames, "max_side": max_side}
        said, pixels = self._ask(video, request)
        shape = said["shape"]
        if len(pixels) != int(np.prod(shape)):
            raise VideoError(f"{video.name} gave {len(pixels):,} bytes for frames of {shape}")
        return np.frombuffer(pixels, np.uint8).reshape(shape)

    def _ask(self, video: Media, request: dict[str, Any]) -> Answer:
        content = video.content or b""
        if video.content is None:
            place = {"path": str(video.path), "offset": video.offset, "size": video.size}
            request = {**request, **place}
        try:
            with self._child() as child:
                said, pixels = child.ask({**request, "max_pixels": MAX_PIXELS}, content)
        except ChildFailed as error:
            raise VideoError(f"{video.name} {error}: leave it out") from None
        if "error" in said:
            raise VideoError(f"{video.name} {said['error']}")
        return said, pixels

    @contextmanager
    def _child(self) -> Iterator[Child]:
        child = self._idle.get()
        try:
            yield child
        finally:
            self._idle.put(child)
