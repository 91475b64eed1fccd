"""The process in which videos are decoded (`videos.py`).

The container is found by its first bytes and given to FFmpeg, which would else follow a playlist
to other files and hosts; only decoders of common codecs are opened.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from genvlm.data.child import Answer, serve
from genvlm.data.clipper import (
    Clipper,
    as_fraction,
    centre_square,
    fitted_sides,
    square_sides,
)
from genvlm.data.video_containers import BytesFile, FilePart, VideoFault, container_of

_CODECS = (
    "h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "gif",
)  # fmt: skip
_MAX_PACKETS = 2000
"""Without a frame among them; for each further frame, as many again."""
_PATIENCE = 2.0
"""Seconds after which the parent hears that there is no clip yet: its limits are of one answer."""


class VideoAnswers:
    """Answers requests; a video whose clips are asked for one by one stays open in between."""

    def __init__(self) -> None:
        self._clips: Iterator[np.ndarray | None] | None = None

    def __call__(self, request: dict[str, Any], content: bytes) -> Answer:
        """Probe, decode, or give a clip; "error" ends a sentence that begins with its name."""
        import av

        try:
            if request["do"] == "next":
                return self._next()
            self._clips = None  # closes what is open
            if request["do"] == "clips":
                self._clips = _clips(request, content)
                return self._next()
            with _opened(request, content) as (video, stream):
                if request["do"] == "probe":
                    return _info(video, stream), b""
                shape, pixels = _decode(video, stream, request["max_frames"], request["max_side"])
            return {"shape": shape}, pixels
        except VideoFault as fault:
            return {"error": str(fault)}, b""
        except OSError as error:  # av's errors of the system, too
            if isinstance(error, av.FFmpegError):
                return {"error": f"is damaged ({_words(error)}): replace it"}, b""
            return {"error": f"cannot be read ({error.strerror}): check the path"}, b""
        except MemoryError:
            raise
        except Exception as error:  # av.FFmpegError is also ValueError, EOFError and more
            return {"error": f"is damaged ({_words(error)}): replace it"}, b""

    def _next(self) -> Answer:
        if self._clips is None:
            raise VideoFault("was closed while its clips were read")
        clip = next(self._clips, "end")
        if isinstance(clip, str):
            return {"end": True}, b""
        if clip is None:
            return {"end": False}, b""
        return {"end": False, "shape": list(clip.shape)}, clip.tobytes()


def _words(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]


@contextmanager
def _opened(request: dict[str, Any], content: bytes) -> Iterator[tuple[Any, Any]]:
    """The container and its first stream of pictures."""
    import av

    file: BytesFile = (
        FilePart(Path(request["path"]), request["offset"], request["size"])
        if "path" in request
        else io.BytesIO(content)
    )
    with file, av.open(file, format=container_of(file), metadata_errors="replace") as video:
        yield video, _stream(video, request["max_pixels"])


def _stream(video: Any, max_pixels: int) -> Any:
    """The first stream of pictures, whose decoder is set up but has decoded nothing."""
    if not video.streams.video:
        sound = " but of sound" if video.streams.audio else ""
        raise VideoFault(f"has no stream of pictures{sound}: leave it out")
    stream = video.streams.video[0]
    context = stream.codec_context
    name = _codec(context)
    if name not in _CODECS:
        raise VideoFault(f"has the codec {name}: convert it to one of {', '.join(_CODECS)}")
    if context.width < 1 or context.height < 1:
        raise VideoFault("says nothing of the size of its frames: replace it")
    if context.width * context.height > max_pixels:
        raise VideoFault(
            f"has frames of {context.width}x{context.height} pixels, more than the limit of "
            f"{max_pixels / 1e6:.1f} megapixels: scale it down first"
        )
    context.thread_count = 1
    context.options = {"max_pixels": str(max_pixels)}  # a later header may say another size
    return stream


def _codec(context: Any) -> str:
    """The codec's own name, which is not that of what decodes it: AV1 is decoded by libdav1d."""
    name: str = "unknown" if context is None else context.codec.canonical_name
    return name


def _info(video: Any, stream: Any) -> dict[str, Any]:
    rate = stream.average_rate
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (video.duration or 0) / 1e6
    return {
        "container": video.format.name,
        "codec": _codec(stream.codec_context),
        "width": stream.codec_context.width,
        "height": stream.codec_context.height,
        "num_frames": max(stream.frames, 0),
        "frames_per_second": float(rate) if rate else 0.0,
        "seconds": max(seconds, 0.0),
    }


def _frames(video: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames from where the container stands. Raises VideoFault: too many without one."""
    found = 0
    for number, packet in enumerate(video.demux(stream)):
        if number > _MAX_PACKETS * (1 + found):
            raise VideoFault(f"has no frame in {number} packets: replace it")
        for frame in packet.decode():
            found += 1
            yield frame


def _decode(video: Any, stream: Any, max_frames: int, max_side: int) -> tuple[list[int], bytearray]:
    """Shape of the frames (T, H, W, 3) and their pixels, which are held once.

    Raises:
        VideoFault: there is none, or they are turned in different ways.
    """
    from av.video.reformatter import VideoReformatter

    frames, num = bytearray(), 0
    scaler = VideoReformatter()
    size: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None
    for frame in _frames(video, stream):
        size = size or fitted_sides(frame.width, frame.height, max_side)
        pixels = _pixels(frame, size, scaler)
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise VideoFault("has frames that are turned in different ways: convert it")
        frames += pixels.tobytes()
        num += 1
        if num == max_frames:
            break
    if shape is None:
        raise VideoFault("has no frame that can be decoded: replace it")
    return [num, *shape], frames


def _pixels(frame: Any, size: tuple[int, int], scaler: Any) -> np.ndarray:
    """A frame scaled to a width and height, then turned as its container says: (H, W, 3).

    Args:
        scaler: a VideoReformatter: one for all frames keeps the tables that it makes.
    """
    scaled = scaler.reformat(frame, width=size[0], height=size[1], format="rgb24")
    pixels = scaled.to_ndarray()
    turned: np.ndarray = np.rot90(pixels, round(frame.rotation / 90))
    return turned


def _clips(request: dict[str, Any], content: bytes) -> Iterator[np.ndarray | None]:
    """Clips as they are decoded; None: not yet."""
    from av.video.reformatter import VideoReformatter

    side, start, scaler = request["side"], request["start"], VideoReformatter()
    clipper = Clipper(request["num_frames"], request["frames_per_second"], start)
    with _opened(request, content) as (video, stream):
        found, asked = False, monotonic()
        for time, frame in _frames_from(video, stream, as_fraction(start)):
            found = True
            width, height = square_sides(frame.width, frame.height, side)
            if width * height > request["max_pixels"]:
                raise VideoFault(f"has frames of {frame.width}x{frame.height} pixels: too narrow")
            square = centre_square(_pixels(frame, (width, height), scaler), side)
            for clip in clipper.add(time, square):
                yield clip
                asked = monotonic()
            if monotonic() - asked > _PATIENCE:
                yield None
                asked = monotonic()
        if not found:
            raise VideoFault("has no frame that can be decoded: replace it")
        yield from clipper.finish()


def _frames_from(video: Any, stream: Any, start: Fraction) -> Iterator[tuple[Fraction, Any]]:
    """Frames with their seconds since the first one, from one that is shown at `start` or before.

    A frame behind a key frame is right however it was come by, but for those that stand before the
    key frame in time: they need frames before it.
    """
    frames = _frames(video, stream)
    first = next(frames, None)
    if first is None:
        return
    rate = stream.average_rate or Fraction(25)
    begin = first.pts
    if not start:
        yield Fraction(0), first
    elif begin is None:
        raise VideoFault("has no times, by which its frames could be found: read it from its start")
    else:
        frames = _frames_behind_key(video, stream, begin, start)
    time = Fraction(0)
    for frame in frames:
        # Where a frame has no time, it is shown when the rate says.
        known = frame.pts is not None and begin is not None
        time = (frame.pts - begin) * frame.time_base if known else time + 1 / rate
        yield time, frame


def _frames_behind_key(video: Any, stream: Any, begin: int, start: Fraction) -> Iterator[Any]:
    """Frames from the key frame before `start`; where a seek misses it, from an earlier one."""
    back = Fraction(0)
    while True:
        target = max(start - back, Fraction(0))
        video.seek(begin + int(target / stream.time_base), stream=stream)
        frames = _frames(video, stream)
        for frame in frames:
            if not target or (frame.key_frame and frame.pts is not None):
                break
        else:
            frame = None
        if frame is not None and (not target or (frame.pts - begin) * frame.time_base <= start):
            yield frame
            yield from frames
            return
        if not target:
            return
        back = 4 * back + 1


if __name__ == "__main__":
    import av  # noqa: F401  before the limits are set: they are of one video

    serve(VideoAnswers())
