"""Damage to files of pictures and videos: cut, flipped, overwritten, spliced, of a wrong size."""

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image

from genvlm.testing.videos import CONTAINERS, video_bytes

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
_SIZES = (0, 1, 2, 7, 255, 256, 8191, 32767, 65535, 1 << 24, (1 << 31) - 1, (1 << 32) - 1)


@functools.cache
def whole_pictures(file_format: str) -> tuple[bytes, ...]:
    """Pictures of a format in its modes and compressions."""
    rng = np.random.default_rng(5)
    noise = Image.fromarray(rng.integers(0, 256, (18, 27, 4), np.uint8), "RGBA")
    smooth = Image.radial_gradient("L").resize((61, 40)).convert("RGB")
    rgb, frames = noise.convert("RGB"), [noise.convert("RGB").rotate(90 * n) for n in range(3)]
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation
    exif[0x010E] = "a picture"
    many = {"save_all": True, "append_images": frames}
    options: dict[str, list[tuple[Image.Image, dict[str, object]]]] = {
        "PNG": [
            (noise, {}), (smooth, {"exif": exif}), (rgb.convert("P"), {"transparency": 3}),
            (rgb.convert("1"), {}), (rgb.convert("L"), {"transparency": 9}), (frames[0], many),
            (Image.fromarray(rng.integers(0, 1 << 16, (9, 9), np.uint16)), {}),
        ],
        "JPEG": [
            (rgb, {}), (smooth, {"exif": exif, "icc_profile": b"profile" * 50}),
            (rgb.convert("L"), {"progressive": True}), (rgb.convert("CMYK"), {}),
            (smooth, {"progressive": True, "subsampling": 2}),
        ],
        "WEBP": [
            (noise, {"lossless": True}), (smooth, {"exif": exif}), (noise, {}), (frames[0], many),
        ],
        "GIF": [(rgb, {}), (frames[0], many), (noise, {}), (smooth, {"interlace": True})],
        "BMP": [(rgb, {}), (rgb.convert("P"), {}), (rgb.convert("1"), {}), (noise, {})],
        "TIFF": [
            (rgb, {}), (smooth, {"compression": "tiff_lzw"}), (noise, {"exif": exif}),
            (rgb, {"compression": "tiff_adobe_deflate"}), (smooth, {"compression": "jpeg"}),
            (rgb.convert("1"), {"compression": "group4"}), (frames[0], many),
            (smooth, {"compression": "packbits"}),
            (Image.fromarray(rng.integers(0, 1 << 16, (9, 9), np.uint16)), {}),
        ],
    }  # fmt: skip
    return tuple(_encode(image, file_format, extra) for image, extra in options[file_format])


def _encode(image: Image.Image, file_format: str, options: dict[str, object]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def mutate_image(rng: np.random.Generator) -> tuple[str, bytes]:
    """A format, and a damaged file of it."""
    file_format = FORMATS[rng.integers(len(FORMATS))]
    kinds = whole_pictures(file_format)
    content = kinds[rng.integers(len(kinds))]
    damage = (
        _cut, _flip, _flip, _overwrite, _overwrite, _insert, _remove, _splice_pictures, _number,
        _wrong_size, _only_magic,
    )  # fmt: skip
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = damage[rng.integers(len(damage))](content, rng)
    if file_format == "PNG" and rng.random() < 0.7:
        content = mend_checksums(content)
    return file_format, content


def mutate_video(rng: np.random.Generator) -> tuple[str, bytes]:
    """A container, and a damaged file of it."""
    suffix = tuple(CONTAINERS)[rng.integers(len(CONTAINERS))]
    content = video_bytes(suffix, num_frames=(1, 12)[rng.integers(2)])
    # Another length is refused before anything is decoded: most damage keeps it.
    same_length = (_flip, _flip, _overwrite, _overwrite, _number)
    damage = (*same_length, *same_length, _cut, _insert, _remove)
    for _ in range(rng.choice((1, 1, 2, 3))):
        content = damage[rng.integers(len(damage))](content, rng)
    if rng.random() < 0.1:
        other = video_bytes(tuple(CONTAINERS)[rng.integers(len(CONTAINERS))])
        start = _place(content, rng)
        content = content[:start] + other[min(start, _place(other, rng)) :]
    return suffix, content


def _place(content: bytes, rng: np.random.Generator) -> int:
    """Anywhere; half of the time among the headers."""
    end = len(content) if rng.random() < 0.5 else min(len(content), 96)
    return int(rng.integers(end + 1))


def _cut(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: _place(content, rng)]


def _flip(content: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 20))):
        if changed:
            changed[min(_place(content, rng), len(changed) - 1)] ^= 1 << rng.integers(8)
    return bytes(changed)


def _overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    start, length = _place(content, rng), int(rng.integers(1, 40))
    filling = (b"\0" * length, b"\xff" * length, rng.bytes(length))[rng.integers(3)]
    return content[:start] + filling + content[start + length :]


def _insert(content: bytes, rng: np.random.Generator) -> bytes:
    start, other = _place(content, rng), _place(content, rng)
    piece = (rng.bytes(int(rng.integers(1, 64))), content[other : other + 64])[rng.integers(2)]
    return content[:start] + piece + content[start:]


def _remove(content: bytes, rng: np.random.Generator) -> bytes:
    start = _place(content, rng)
    return content[:start] + content[start + int(rng.integers(1, 64)) :]


def _number(content: bytes, rng: np.random.Generator) -> bytes:
    """A length or size that is none, in either order of bytes."""
    start = _place(content, rng)
    order = (">I", "<I", ">H", "<H")[rng.integers(4)]
    size = _SIZES[rng.integers(len(_SIZES))]
    number = struct.pack(order, size & (0xFFFFFFFF if "I" in order else 0xFFFF))
    return content[:start] + number + content[start + len(number) :]


def _splice_pictures(content: bytes, rng: np.random.Generator) -> bytes:
    """The begin of this file and the end of another, of any format."""
    others = whole_pictures(FORMATS[rng.integers(len(FORMATS))])
    other = others[rng.integers(len(others))]
    start = _place(content, rng)
    return content[:start] + other[min(start, _place(other, rng)) :]


def _only_magic(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(2, 16))] + rng.bytes(int(rng.integers(0, 300)))


def _wrong_size(content: bytes, rng: np.random.Generator) -> bytes:
    """Another width or height where the format keeps them, or any number elsewhere."""
    size = _SIZES[rng.integers(len(_SIZES))]
    places = {
        b"\x89P": ((16, ">I"), (20, ">I")),
        b"BM": ((18, "<I"), (22, "<I")),
        b"GI": ((6, "<H"), (8, "<H")),
        b"RI": ((24, "<H"), (26, "<H"), (26, "<I")),
    }.get(content[:2], ())
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    if content[:2] == b"\xff\xd8" and frame > 0:
        places = ((frame + 5, ">H"), (frame + 7, ">H"))
    if not places or rng.random() < 0.3:
        return _number(content, rng)
    start, order = places[rng.integers(len(places))]
    number = struct.pack(order, size & (0xFFFFFFFF if "I" in order else 0xFFFF))
    return content[:start] + number + content[start + len(number) :]


def mend_checksums(png: bytes) -> bytes:
    """The PNG with checksums that are right, so that damage is met behind them."""
    result, place = bytearray(png[:8]), 8
    while place + 12 <= len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        if place + 12 + length > len(png):
            break
        body = png[place + 4 : place + 8 + length]
        result += png[place : place + 4] + body + zlib.crc32(body).to_bytes(4, "big")
        place += 12 + length
    return bytes(result) + png[place:]
