"""The process in which videos are decoded (`videos.py`).

The container is found by its first bytes and given to FFmpeg, which would else follow a playlist
to other files and hosts; only decoders of common codecs are opened.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np

from genvlm.data.child import Answer, serve

_CODECS = (
    "h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "gif",
)  # fmt: skip
_CONTAINERS = "MP4, MOV, WebM, MKV, AVI, GIF"
_MAX_PACKETS = 2000
"""Without a frame among them; for each further frame, as many again."""


class VideoFault(Exception):  # noqa: N818  its text ends a sentence: "clip.mp4 is empty"
    """What is wrong with a video."""


class FilePart(io.RawIOBase):
    """A part of a file as a file, for FFmpeg."""

    def __init__(self, path: Path, offset: int, size: int | None) -> None:
        self._file = path.open("rb")
        end = self._file.seek(0, io.SEEK_END)
        self._offset, self._size = offset, end - offset if size is None else size
        if offset + self._size > end:
            raise VideoFault(f"is cut short: copy {path} again")
        self.seek(0)

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._size - self.tell(), 0)
        return self._file.read(left if size is None or size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self._size}[whence]
        return self._file.seek(self._offset + max(start + offset, 0)) - self._offset

    def tell(self) -> int:
        return self._file.tell() - self._offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def answer(request: dict[str, Any], content: bytes) -> Answer:
    """Probe or decode one video; "error" ends a sentence that begins with its name."""
    import av

    try:
        file = _open_file(request, content)
        with av.open(file, format=_container(file), metadata_errors="replace") as video:
            stream = _stream(video, request["max_pixels"])
            if request["do"] == "probe":
                return _info(video, stream), b""
            frames = _decode(video, stream, request["max_frames"], request["max_side"])
        return {"shape": list(frames.shape)}, frames.tobytes()
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


def _words(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]


def _open_file(request: dict[str, Any], content: bytes) -> io.RawIOBase | io.BytesIO:
    if "path" in request:
        return FilePart(Path(request["path"]), request["offset"], request["size"])
    return io.BytesIO(content)


def _container(file: io.RawIOBase | io.BytesIO) -> str:
    """FFmpeg's name of the container."""
    start = file.read(12) or b""
    file.seek(0)
    if not start:
        raise VideoFault("is empty (0 bytes): replace it or remove it from the list")
    if start[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide"):
        return "mov"
    if start[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "avi"
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    raise VideoFault(f"is not a video that can be read ({_CONTAINERS})")


def _stream(video: Any, max_pixels: int) -> Any:
    """The first stream of pictures, whose decoder is set up but has decoded nothing."""
    if not video.streams.video:
        raise VideoFault("has no stream of pictures")
    stream = video.streams.video[0]
    context = stream.codec_context
    if context is None or context.name not in _CODECS:
        name = "unknown" if context is None else context.name
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


def _info(video: Any, stream: Any) -> dict[str, Any]:
    rate = stream.average_rate
    if stream.duration is not None and stream.time_base is not None:
        seconds = float(stream.duration * stream.time_base)
    else:
        seconds = (video.duration or 0) / 1e6
    return {
        "container": video.format.name,
        "codec": stream.codec_context.name,
        "width": stream.codec_context.width,
        "height": stream.codec_context.height,
        "num_frames": max(stream.frames, 0),
        "frames_per_second": float(rate) if rate else 0.0,
        "seconds": max(seconds, 0.0),
    }


def _decode(video: Any, stream: Any, max_frames: int, max_side: int) -> np.ndarray:
    """Frames (T, H, W, 3). Raises VideoFault: there is none."""
    frames: list[np.ndarray] = []
    size: tuple[int, int] | None = None
    for number, packet in enumerate(video.demux(stream)):
        if number > _MAX_PACKETS * (1 + len(frames)):
            raise VideoFault(f"has no frame in {number} packets: replace it")
        for frame in packet.decode():
            size = size or _fitted(frame.width, frame.height, max_side)
            picture = frame.reformat(width=size[0], height=size[1], format="rgb24")
            frames.append(picture.to_ndarray())
            if len(frames) == max_frames:
                return np.stack(frames)
    if not frames:
        raise VideoFault("has no frame that can be decoded: replace it")
    return np.stack(frames)


def _fitted(width: int, height: int, max_side: int) -> tuple[int, int]:
    scale = min(1.0, max_side / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


if __name__ == "__main__":
    import av  # noqa: F401  before the limits are set: they are of one video

    serve(answer)
