"""Folders of frames: pictures in the order of their names, which are one video without times."""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genvlm.data.clipper import Clipper, centre_square, fitted_sides, square_sides
from genvlm.data.images import RGBImage, load_image
from genvlm.data.video_containers import VIDEO_SUFFIXES, VideoFault
from genvlm.errors import DataError, ImageError

FRAME_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
"""Of pictures that are frames: a GIF is a video of its own."""


def is_frame_folder(folder: Path) -> bool:
    """Whether it holds pictures and nothing else: no text, no folder; hidden files aside.

    Raises:
        DataError: it cannot be read.
    """
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error.strerror})") from None
    return bool(inside) and all(
        path.suffix.lower() in FRAME_SUFFIXES and path.is_file() for path in inside
    )


def frame_paths(folder: Path) -> list[Path]:
    """Its pictures in natural order: `2.png` before `10.png`.

    Raises:
        VideoFault: there is none, or the folder cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise VideoFault(f"cannot be read ({error.strerror}): check the path") from None
    paths = [path for path in files if path.suffix.lower() in FRAME_SUFFIXES]
    for path in paths:
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise VideoFault(f"has a frame that is a link out of it: copy {path.name} there")
    if not paths:
        videos = sorted(p.name for p in files if p.suffix.lower() in (*VIDEO_SUFFIXES, ".gif"))
        if videos:
            raise VideoFault(
                f"is a folder of videos, not of frames: name a file in it, such as {videos[0]}"
            )
        raise VideoFault(f"is a folder without frames ({', '.join(FRAME_SUFFIXES)})")
    return sorted(paths, key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Runs of digits by their number; the name itself where two names have the same ones."""
    runs = re.findall(r"[0-9]+|[^0-9]+", path.name)
    return [(int(run), "") if run[0] in "0123456789" else (-1, run) for run in runs], path.name


def load_frames(folder: Path, max_pixels: int) -> Iterator[RGBImage]:
    """Frames, one at a time.

    Raises:
        VideoFault: one cannot be decoded, has more pixels than allowed, or another size than the
            first.
    """
    size: tuple[int, ...] | None = None
    for path in frame_paths(folder):
        try:
            frame: np.ndarray = load_image(path)
        except ImageError as error:
            raise VideoFault(f"has a damaged frame: {error}") from None
        height, width = frame.shape[:2]
        if height * width > max_pixels:
            raise VideoFault(
                f"has frames of {width}x{height} pixels, more than the limit of "
                f"{max_pixels / 1e6:.1f} megapixels: scale them down first"
            )
        size = size or frame.shape
        if frame.shape != size:
            raise VideoFault(
                f"has frames of {size[1]}x{size[0]} pixels, but {path.name} has {width}x{height}: "
                "are they of two videos?"
            )
        yield frame


def folder_clips(
    folder: Path,
    *,
    num_frames: int,
    side: int,
    frames_per_second: float | None,
    start: float,
    max_pixels: int,
) -> Iterator[np.ndarray]:
    """Clips as of a file.

    Raises:
        VideoFault: as `load_frames`; there is no clip; or times are asked for.
    """
    if frames_per_second is not None or start:
        asked = "start" if frames_per_second is None else "frames_per_second"
        raise VideoFault(f"is a folder of frames, which have no times: leave {asked} out")
    clipper = Clipper(num_frames)
    for number, frame in enumerate(load_frames(folder, max_pixels)):
        height, width = np.asarray(frame).shape[:2]
        scaled = _scaled(frame, square_sides(width, height, side))
        yield from clipper.add(Fraction(number), centre_square(scaled, side))
    yield from clipper.finish()


def _scaled(frame: RGBImage, size: tuple[int, int]) -> np.ndarray:
    resized = Image.fromarray(np.asarray(frame)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resized)


def describe_folder(folder: Path, max_pixels: int) -> dict[str, Any]:
    """Fields of `VideoInfo`. Raises VideoFault as `load_frames`."""
    paths = frame_paths(folder)
    height, width = np.asarray(next(load_frames(folder, max_pixels))).shape[:2]
    return {
        "container": "folder",
        "codec": paths[0].suffix[1:].lower(),
        "width": width,
        "height": height,
        "num_frames": len(paths),
        "frames_per_second": 0.0,
        "seconds": 0.0,
    }


def scaled_frames(folder: Path, *, max_frames: int, max_side: int, max_pixels: int) -> np.ndarray:
    """The first frames, no side of them longer than `max_side`. Raises VideoFault as above."""
    frames: list[np.ndarray] = []
    for frame in load_frames(folder, max_pixels):
        height, width = np.asarray(frame).shape[:2]
        frames.append(_scaled(frame, fitted_sides(width, height, max_side)))
        if len(frames) == max_frames:
            break
    return np.stack(frames)
