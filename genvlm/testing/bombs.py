"""Small files that would need gigabytes, or minutes, if they were believed."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from genvlm.testing.files import picture_bytes
from genvlm.testing.videos import video_bytes

MEMORY = 64 << 20
"""Bytes beyond its imports that a process may need to refuse one, or to read its first frames."""


@dataclass(frozen=True)
class Bomb:
    """A file, made when it is asked for, and what must come of it."""

    name: str
    kind: Literal["image", "video"]
    make: Callable[[], bytes]
    refused: str
    """A part of the refusal; "": the first frame is small and is read."""


def bombs() -> tuple[Bomb, ...]:
    """All of them, each of at most 3 MB."""
    many = "megapixels|damaged|not a picture"
    images: dict[str, tuple[Callable[[], bytes], str]] = {
        "13,000 x 13,000 pixels in 20 KB": (lambda: _png(13_000, 13_000), "13000x13000 pixels"),
        "PNG of 2^31 pixels a side": (lambda: _png(2**31 - 1, 2**31 - 1, rows=1), many),
        "PNG with a text of 256 MB": (_png_text, "damaged"),
        "PNG with a colour profile of 256 MB": (_png_profile, "damaged"),
        "GIF of 100,000 frames": (lambda: _gif(100_000), ""),
        "GIF of 65,535 pixels a side": (lambda: _sized_gif(65_535, 65_535), "64 megapixels"),
        "GIF whose frame is larger than it": (_wide_frame_gif, many),
        "animated WebP of 16,384 pixels a side": (lambda: _webp_canvas(16_384), "64 megapixels"),
        "JPEG of 65,500 pixels a side": (lambda: _sized_jpeg(65_500, 65_500), "64 megapixels"),
        "TIFF with a tag of 4 GB": (lambda: _tiff_tag(270, 2, 2**32 - 1), ""),
        "TIFF with 2^31 strips": (lambda: _tiff_tag(273, 4, 2**31), many),
        "TIFF of 2^31 pixels a side": (lambda: _tiff_tag(256, 4, 1, 2**31 - 1), many),
        "BMP of 2^31 pixels a side": (lambda: _sized_bmp(2**31 - 1), many),
    }
    videos: dict[str, tuple[Callable[[], bytes], str]] = {
        "8K": (lambda: _sized_gif(7_680, 4_320), "7680x4320 pixels"),
        "65,535 pixels a side": (
            lambda: _sized_gif(65_535, 65_535),
            "pixels|damaged|size of its frames",
        ),
        "100,000 frames": (lambda: _gif(100_000), ""),
        "MP4 with a table of 2^30 frames": (lambda: _mp4_table(2**30), "damaged|no frame|needs"),
    }
    return (
        *(Bomb(name, "image", make, why) for name, (make, why) in images.items()),
        *(Bomb(name, "video", make, why) for name, (make, why) in videos.items()),
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    check = zlib.crc32(name + body).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + name + body + check


def _png(width: int, height: int, rows: int | None = None, extra: bytes = b"") -> bytes:
    """One bit a pixel, all of them black."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    body = b"".join(
        packer.compress(bytes(1 + (width + 7) // 8 if rows is None else 1))
        for _ in range(rows or height)
    )
    body += packer.flush()
    chunks = _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _zeros() -> bytes:
    """256 MB, packed."""
    packer = zlib.compressobj(1)
    zeros = bytes(1 << 24)
    return b"".join(packer.compress(zeros) for _ in range(16)) + packer.flush()


def _png_text() -> bytes:
    return _png(2, 2, extra=_chunk(b"zTXt", b"Comment\0\0" + _zeros()))


def _png_profile() -> bytes:
    return _png(2, 2, extra=_chunk(b"iCCP", b"profile\0\0" + _zeros()))


def _gif(num_frames: int) -> bytes:
    """Frames of one pixel."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return screen + frame * num_frames + b";"


def _sized_gif(width: int, height: int) -> bytes:
    content = _gif(1)
    return content[:6] + struct.pack("<HH", width, height) + content[10:]


def _wide_frame_gif() -> bytes:
    content = _gif(1)
    place = content.index(b",")
    return content[: place + 5] + struct.pack("<HH", 65_535, 65_535) + content[place + 9 :]


def _webp_canvas(side: int) -> bytes:
    """An extended header with a canvas of its own, and one small frame."""
    frame = picture_bytes(9, "WEBP", (4, 4))[12:]
    size = (side - 1).to_bytes(3, "little")
    extended = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + size + size
    animation = b"ANIM" + struct.pack("<I", 6) + bytes(6)
    body = bytes(6) + (3).to_bytes(3, "little") * 2 + b"\x64\0\0\0" + frame
    animation += b"ANMF" + struct.pack("<I", len(body)) + body
    content = b"WEBP" + extended + animation
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _sized_jpeg(width: int, height: int) -> bytes:
    content = picture_bytes(9, "JPEG")
    place = content.index(b"\xff\xc0")
    return content[: place + 5] + struct.pack(">HH", height, width) + content[place + 9 :]


def _sized_bmp(side: int) -> bytes:
    content = picture_bytes(9, "BMP")
    return content[:18] + struct.pack("<ii", side, side) + content[26:]


def _tiff_tag(tag: int, kind: int, count: int, value: int = 8) -> bytes:
    """A TIFF in which one tag is another one; a tag that it lacks takes the place of its last."""
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, "TIFF", tiffinfo={305: "software that wrote it"})
    content = bytearray(buffer.getvalue())
    start = int.from_bytes(content[4:8], "little")
    number = int.from_bytes(content[start : start + 2], "little")
    entries = {
        int.from_bytes(content[p : p + 2], "little"): p
        for p in range(start + 2, start + 2 + 12 * number, 12)
    }
    place = entries.get(tag, entries[305])
    content[place : place + 12] = struct.pack("<HHII", tag, kind, count, value)
    return bytes(content)


def _mp4_table(num_frames: int) -> bytes:
    """The table of the sizes of its frames says that there are so many."""
    content = bytearray(video_bytes("mp4"))
    place = content.index(b"stsz")
    content[place + 12 : place + 16] = struct.pack(">I", num_frames)
    return bytes(content)
