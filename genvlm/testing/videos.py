"""Small videos of the containers that are read, made by PyAV."""

import functools
import io
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
        stream.pix_fmt = "gray" if suffix == "gif" else "yuv420p"
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
