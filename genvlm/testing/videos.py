"""Small videos of the containers that are read, made by PyAV."""

import base64
import functools
import io
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

CONTAINERS = {"mp4": "libx264", "webm": "libvpx-vp9", "gif": "gif"}
"""Suffix and codec."""


@functools.cache
def video_bytes(
    suffix: str = "mp4", num_frames: int = 6, width: int = 64, height: int = 48, codec: str = ""
) -> bytes:
    """A video whose frame n is grey of level 20 n, with a white square that moves."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format={"mkv": "matroska"}.get(suffix, suffix)) as video:
        stream: Any = video.add_stream(codec or CONTAINERS[suffix], rate=10)
        stream.width, stream.height = width, height
        stream.pix_fmt = {"gif": "gray", "mjpeg": "yuvj420p"}.get(stream.codec.name, "yuv420p")
        for number in range(num_frames):
            pixels = frame_pixels(number, width, height)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=stream.pix_fmt)
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    return buffer.getvalue()


def frame_pixels(number: int, width: int = 64, height: int = 48) -> np.ndarray:
    """What frame `number` shows."""
    pixels = np.full((height, width, 3), 20 * number % 256, np.uint8)
    pixels[8:24, 4 * number % width : 4 * number % width + 16] = 255
    return pixels


# Made once: as root, SVT-AV1 takes a real-time priority for its process and for what it starts.
AV1_VIDEO = base64.b64decode(
    "AAAAIGZ0eXBpc29tAAACAGlzb21hdjAxaXNvMm1wNDEAAAAIZnJlZQAAADltZGF0CgoAAAACr/+NXzAIMg8QALCCBRQg"
    "gQAACACV0HoyEjACBAkkkjsYAAACAAAAAAAt5QAAAwVtb292AAAAbG12aGQAAAAAAAAAAAAAAAAAAAPoAAAAyAABAAAB"
    "AAAAAAAAAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "AAAAAAACAAACL3RyYWsAAABcdGtoZAAAAAMAAAAAAAAAAAAAAAEAAAAAAAAAyAAAAAAAAAAAAAAAAAAAAAAAAQAAAAAA"
    "AAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAEAAAAAAQAAAAEAAAAAAACRlZHRzAAAAHGVsc3QAAAAAAAAAAQAAAMgAAAAA"
    "AAEAAAAAAadtZGlhAAAAIG1kaGQAAAAAAAAAAAAAAAAAACgAAAAIAFXEAAAAAAAtaGRscgAAAAAAAAAAdmlkZQAAAAAA"
    "AAAAAAAAAFZpZGVvSGFuZGxlcgAAAAFSbWluZgAAABR2bWhkAAAAAQAAAAAAAAAAAAAAJGRpbmYAAAAcZHJlZgAAAAAA"
    "AAABAAAADHVybCAAAAABAAABEnN0YmwAAACSc3RzZAAAAAAAAAABAAAAgmF2MDEAAAAAAAAAAQAAAAAAAAAAAAAAAAAA"
    "AAAAQABAAEgAAABIAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAY//8AAAAYYXYxQ4EADAAK"
    "CgAAAAKv/4BfAAgAAAAUYnRydAAAAAAAAAeoAAAHqAAAABhzdHRzAAAAAAAAAAEAAAACAAAEAAAAABRzdHNzAAAAAAAA"
    "AAEAAAABAAAAHHN0c2MAAAAAAAAAAQAAAAEAAAACAAAAAQAAABxzdHN6AAAAAAAAAAAAAAACAAAAHQAAABQAAAAUc3Rj"
    "bwAAAAAAAAABAAAAMAAAAGJ1ZHRhAAAAWm1ldGEAAAAAAAAAIWhkbHIAAAAAAAAAAG1kaXJhcHBsAAAAAAAAAAAAAAAA"
    "LWlsc3QAAAAlqXRvbwAAAB1kYXRhAAAAAQAAAABMYXZmNjIuMTIuMTAy"
)
"""An MP4 of two grey frames of 64 x 64, of levels 100 and 120."""
LEVEL = 4
"""Grey levels from one frame of `timed_video_bytes` to the next: no codec loses them."""


@functools.cache
def timed_video_bytes(
    suffix: str = "mp4",
    times: Sequence[int] = tuple(range(0, 2400, 40)),
    *,
    codec: str = "",
    cuts: Sequence[int] = (),
    width: int = 64,
    height: int = 48,
    options: str = "",
) -> bytes:
    """A video whose frame n is shown at `times[n]` ms, a key frame every 12.

    After 64 frames, the last of them white, they begin again with a black one.

    Args:
        cuts: frames at which another shot begins.
        options: of x264.
    """
    import av

    buffer, tick = io.BytesIO(), Fraction(1, 1000)
    with av.open(buffer, "w", format={"mkv": "matroska"}.get(suffix, suffix)) as video:
        extra = {"x264-params": options} if options else {}
        stream: Any = video.add_stream(codec or CONTAINERS[suffix], rate=25, options=extra)
        stream.width, stream.height = width, height
        stream.pix_fmt = {"gif": "gray", "mjpeg": "yuvj420p"}.get(stream.codec.name, "yuv420p")
        stream.codec_context.gop_size = 12
        stream.bit_rate = 4_000_000  # MPEG-4 would else lose single levels
        # Old codecs know no finer times than those of frames.
        stream.codec_context.time_base = Fraction(1, 25) if codec.startswith("mpeg") else tick
        for number, time in enumerate(times):
            pixels = np.full((height, width, 3), LEVEL * number % 256, np.uint8)
            if sum(cut <= number for cut in cuts) % 2:
                pixels[...] = 255 - pixels
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = time, tick
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    return buffer.getvalue()


def numbers_of(clip: np.ndarray) -> list[int]:
    """Which frames of `timed_video_bytes`, without cuts, a clip shows."""
    return [round(float(frame.mean()) / LEVEL) for frame in clip]


@functools.cache
def sound_bytes() -> bytes:
    """An MP4 of half a second of silence, without pictures."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream: Any = file.add_stream("aac", rate=16_000)
        for number in range(8):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 16_000, 1024 * number
            file.mux(stream.encode(silence))
        file.mux(stream.encode())
    return buffer.getvalue()


@functools.cache
def empty_video_bytes(suffix: str = "mp4") -> bytes:
    """A video that says how large its frames are and has none."""
    import av

    buffer = io.BytesIO()
    options = {"movflags": "empty_moov"} if suffix == "mp4" else {}
    with av.open(buffer, "w", format=suffix, options=options) as video:
        stream: Any = video.add_stream(CONTAINERS[suffix], rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        video.start_encoding()
    return buffer.getvalue()


def turned(mp4: bytes) -> bytes:
    """An MP4 whose frames are to be shown a quarter turn clockwise, as a telephone writes it."""
    matrix = mp4.index(b"tkhd") + 4 + 40
    turn = b"".join(int(n * 65536).to_bytes(4, "big", signed=True) for n in (0, 1, 0, -1, 0, 0))
    return mp4[:matrix] + turn + mp4[matrix + len(turn) :]
