"""Clips written to be looked at: GIF by Pillow, and MP4 (H.264) where PyAV is installed.

Both are made of clips as `genvlm.data.videos` reads them; what is small is enlarged by nearest
neighbour, so that each pixel of the model is a square on the screen.
"""

import importlib.util
import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from genvlm.data.videos import VideoFrames
from genvlm.errors import VideoError
from genvlm.nn.whole_files import write_whole

FRAMES_PER_SECOND = 8.0
"""Of clips whose own rate is not known."""
_LONGER_SIDE = 256
_BORDER = 2
_NUM_COLOURS = 240
GIVEN, DRAWN = (90, 105, 130), (235, 110, 30)
"""Colours of the border around frames that were given, and around those that a model has drawn."""


def write_gif(
    frames: VideoFrames, path: Path, *, frames_per_second: float = FRAMES_PER_SECOND
) -> None:
    """Write a GIF that plays for ever, enlarged to about 256 pixels.

    Raises:
        VideoError: not a clip.
        StorageError: the disk refuses it.
    """
    write_whole(path, gif_bytes(enlarge(frames), frames_per_second=frames_per_second))


def gif_bytes(frames: VideoFrames, *, frames_per_second: float = FRAMES_PER_SECOND) -> bytes:
    """A GIF of the frames as they are; one palette serves all of them, undithered.

    Exact up to 240 colours. Pauses are whole hundredths of a second, at least 2 and at most 65,535.
    Raises VideoError: not a clip.
    """
    _check(frames)
    places, palette = _with_twins(*_reduced(frames))
    first, *others = (Image.fromarray(frame, "P") for frame in places)
    for image in (first, *others):
        image.putpalette(palette)
    buffer = io.BytesIO()
    # Browsers play shorter ones slowly; longer ones do not go into the file.
    pause = 10 * round(min(max(2, 100 / frames_per_second), 65_535))
    first.save(
        buffer, "GIF", save_all=True, append_images=others, duration=pause, loop=0, optimize=False
    )
    return buffer.getvalue()


def _reduced(frames: VideoFrames) -> tuple[UInt8[np.ndarray, "frames height width"], list[int]]:
    """Places in a palette, and the palette."""
    tall = Image.fromarray(np.ascontiguousarray(frames.reshape(-1, *frames.shape[2:])))
    # Median cut, the default, is off by half as much again.
    reduced = tall.quantize(_NUM_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    places = np.array(reduced).reshape(frames.shape[:3])
    return places, (reduced.getpalette() or [])[: 3 * (int(places.max()) + 1)]


def _with_twins(
    places: UInt8[np.ndarray, "frames height width"], palette: list[int]
) -> tuple[UInt8[np.ndarray, "frames height width"], list[int]]:
    """The same pictures, no two in a row with the same places.

    Pillow would leave out a frame that equals the one before, and who reads the file would find
    fewer frames: so one pixel has, in turn, a second place of the same colour.
    """
    palette, twins, changed = list(palette), dict[int, int](), places.copy()
    for number in range(1, len(places)):
        if np.array_equal(changed[number], changed[number - 1]):
            place = int(places[number, 0, 0])
            if place not in twins and len(palette) < 3 * 256:
                twins[place] = len(palette) // 3
                palette += palette[3 * place : 3 * place + 3]
            for row, column in np.argwhere(np.isin(places[number], list(twins)))[:1]:
                changed[number, row, column] = twins[int(places[number, row, column])]
    return changed, palette


def can_write_mp4() -> bool:
    """Whether PyAV is installed."""
    return importlib.util.find_spec("av") is not None


def write_mp4(
    frames: VideoFrames, path: Path, *, frames_per_second: float = FRAMES_PER_SECOND
) -> None:
    """Write H.264 in MP4, enlarged to about 256 pixels, with sides made even by their last pixels.

    Raises:
        VideoError: not a clip, or PyAV is missing.
        StorageError: the disk refuses it.
    """
    _check(frames)
    if not can_write_mp4():
        raise VideoError("MP4 needs PyAV: pip install 'genvlm[video]', or write GIF")
    import av

    large = enlarge(frames)
    odd = [(0, side % 2) for side in large.shape[1:3]]
    large = np.pad(large, [(0, 0), *odd, (0, 0)], mode="edge")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as video:
        rate = Fraction(frames_per_second).limit_denominator(1000)
        stream: Any = video.add_stream("libx264", rate=rate)
        stream.height, stream.width = large.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18"}
        for frame in large:
            pixels = np.ascontiguousarray(frame)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        video.mux(stream.encode())
    write_whole(path, buffer.getvalue())


def enlarge(frames: VideoFrames) -> VideoFrames:
    """Each pixel as a square, of the size that brings the longer side nearest to 256."""
    times = max(1, round(_LONGER_SIDE / max(frames.shape[1:3])))
    return frames.repeat(times, 1).repeat(times, 2)


def mark_given(frames: VideoFrames, num_given: int) -> VideoFrames:
    """A border around every frame: blue-grey where it was given, orange where it was drawn."""
    _check(frames)
    num, height, width, _ = frames.shape
    marked = np.empty((num, height + 2 * _BORDER, width + 2 * _BORDER, 3), np.uint8)
    marked[:num_given], marked[num_given:] = GIVEN, DRAWN
    marked[:, _BORDER:-_BORDER, _BORDER:-_BORDER] = frames
    return marked


def _check(frames: VideoFrames) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise VideoError(
            f"expected a clip, uint8 of shape (frames, height, width, 3), got {frames.dtype} of "
            f"shape {frames.shape}"
        )
