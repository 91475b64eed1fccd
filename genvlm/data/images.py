"""Bounded decoding of pictures: size and format are checked before a single pixel is decoded."""

import hashlib
import io
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple, overload

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from genvlm.errors import DataError, ImageError

RGBImage = UInt8[np.ndarray, "height width 3"]
"""One picture as uint8 RGB at its native size."""

MAX_PIXELS = 64_000_000
# Formats whose decoders Pillow ships without calling another program (EPS would start Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
# Not by ImageOps.exif_transpose: it writes the other tags anew, and fails on odd ones.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")


def load_image(path: str | Path) -> RGBImage:
    """Decode one picture file; transparency is laid over white and EXIF orientation applied.

    Raises:
        ImageError: missing, empty, truncated, not a picture, over 64 megapixels, 32-bit grey,
            or a colour mode of which no RGB can be made.
    """
    path = Path(path)
    if not _is_file(path):
        raise ImageError(f"no picture at {path}: check the path")
    if path.stat().st_size == 0:
        raise ImageError(f"{path} is empty (0 bytes): replace it or remove it from the list")
    return _decode(path, str(path))


def decode_image(content: bytes, name: str) -> RGBImage:
    """Decode a picture file that was read, or is a part of another file, as `load_image` does.

    Args:
        name: of the picture, for errors.

    Raises:
        ImageError: as above.
    """
    if not content:
        raise ImageError(f"{name} is empty (0 bytes): replace it or remove it from the list")
    return _decode(io.BytesIO(content), name)


def _decode(file: Path | io.BytesIO, name: str) -> RGBImage:
    try:
        with warnings.catch_warnings():
            # Pillow's are of damaged tags beside the pixels, or of sizes that are refused below.
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ImageError(
                        f"{name} has {width}x{height} pixels, more than the limit of "
                        f"{MAX_PIXELS / 1e6:.0f} megapixels: scale it down first"
                    )
                if image.mode not in (*_MODES, "I", "F") and not image.mode.startswith("I;16"):
                    raise ImageError(f"{name} has the colour mode {image.mode}: save it as RGB")
                if image.mode in ("I", "F"):
                    raise ImageError(
                        f"{name} holds 32-bit grey values, of which none is known to be white: "
                        "save it with 8 or 16 bits"
                    )
                image.load()
                turn = _TURNS.get(image.getexif().get(int(ExifTags.Base.Orientation), 1))
                return _flatten(image if turn is None else image.transpose(turn))
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is not a picture that can be read ({', '.join(FORMATS)})"
        ) from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{name} has more than {MAX_PIXELS / 1e6:.0f} megapixels: scale it down first"
        ) from None
    except MemoryError:
        raise ImageError(f"{name} needs more memory than there is: scale it down first") from None
    except ImageError:
        raise
    except Exception as error:  # parsers of tags raise whatever their arithmetic meets
        why = " ".join(str(error).split())
        raise ImageError(f"{name} is damaged or cut short ({why}): replace it") from None


def image_digest(image: RGBImage) -> str:
    """Equal for equal pictures: of shape and pixels."""
    pixels: np.ndarray = np.ascontiguousarray(image)
    return f"{pixels.shape}|{hashlib.sha256(pixels.tobytes()).hexdigest()}"


def load_mask(path: str | Path) -> Bool[np.ndarray, "height width"]:
    """A mask picture: True where it is lighter than middle grey. Raises ImageError as above."""
    return np.asarray(load_image(path)).mean(-1) >= 128


def stays_inside(name: str) -> bool:
    """Whether a relative path leads nowhere but down."""
    path = PurePath(name)
    return not path.is_absolute() and ".." not in path.parts


def picture_path(folder: Path, name: str, where: object) -> Path:
    """As `inner_path`, of a picture."""
    return inner_path(folder, name, where, "picture")


def inner_path(folder: Path, name: str, where: object, what: str) -> Path:
    """What a file of strangers names: in the folder, or nowhere.

    Args:
        where: what names it, for the error.
        what: is named, in a word.

    Raises:
        DataError: an absolute path, one with "..", or a link that leads out of the folder.
    """
    path = folder / name
    if not stays_inside(name):
        raise DataError(
            f"{where}: the {what} {name!r} must be a path inside {folder}: move the {what} there"
        )
    try:
        inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise DataError(f"{where}: {name!r} is no name of a {what} ({error})") from None
    if not inside:
        raise DataError(
            f"{where}: the {what} {name!r} is a link out of {folder}: copy the {what} there"
        )
    return path


def save_image(image: RGBImage, path: str | Path) -> None:
    """Write one picture as PNG."""
    Image.fromarray(image).save(path, format="PNG")


class Box(NamedTuple):
    """A part of a picture, in pixels from its upper left corner."""

    left: int
    top: int
    width: int
    height: int


class ImageFiles(Sequence[RGBImage]):
    """Pictures on disk, each decoded when it is asked for; none is kept.

    Args:
        paths: one for each picture.
        fetch: what to do when one is missing, for the error.
        boxes: the part of each picture to give, in place of all of it.
    """

    def __init__(
        self, paths: Sequence[Path], fetch: str = "", boxes: Sequence[Box] | None = None
    ) -> None:
        self._paths, self._fetch = tuple(paths), fetch
        self._boxes = None if boxes is None else tuple(boxes)
        if self._boxes is not None and len(self._boxes) != len(self._paths):
            raise ImageError(f"{len(self._paths)} pictures but {len(self._boxes)} boxes")

    @property
    def missing(self) -> list[Path]:
        """Paths at which there is no file."""
        return [path for path in self._paths if not _is_file(path)]

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, index: int) -> RGBImage: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[RGBImage]: ...
    def __getitem__(self, index: int | slice) -> RGBImage | Sequence[RGBImage]:
        """Raises ImageError: the file is missing or no picture, or its box is not within it."""
        if isinstance(index, slice):
            boxes = None if self._boxes is None else self._boxes[index]
            return ImageFiles(self._paths[index], self._fetch, boxes)
        path = self._paths[index]
        if not _is_file(path):
            raise ImageError(f"no picture at {path}" + (f": {self._fetch}" if self._fetch else ""))
        image = load_image(path)
        return image if self._boxes is None else _crop(image, self._boxes[index], path)


def _crop(image: np.ndarray, box: Box, path: Path) -> RGBImage:
    height, width = image.shape[:2]
    inside = 0 <= box.left <= width - box.width and 0 <= box.top <= height - box.height
    if not inside or box.width < 1 or box.height < 1:
        raise ImageError(
            f"{path} has {width}x{height} pixels, and its box (left {box.left}, top {box.top}, "
            f"width {box.width}, height {box.height}) is not within it: is it another picture?"
        )
    part = image[box.top : box.top + box.height, box.left : box.left + box.width]
    return np.ascontiguousarray(part)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than the file system allows
        return False


def _flatten(image: Image.Image) -> RGBImage:
    if image.mode.startswith("I;16"):  # Pillow would clip 16 bits to 255 rather than scale them
        levels = np.asarray(image)
        grey = (levels >> 8).astype(np.uint8)
        grey[levels == image.info.get("transparency", -1)] = 255
        return np.repeat(grey[..., None], 3, axis=-1)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return np.asarray(Image.alpha_composite(white, rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))
