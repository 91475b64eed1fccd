"""Containers of videos by their first bytes, and whether a file is as long as it says."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

VIDEO_SUFFIXES = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v")
"""Of files that are videos wherever they lie; a GIF is one in a folder of videos alone."""
_READ = "MP4, MOV, WebM, MKV, AVI, GIF"
_BOXES = (
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp",
    b"uuid", b"meta", b"udta",
)  # fmt: skip
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")
_SEGMENT = b"\x18\x53\x80\x67"

BytesFile = io.RawIOBase | io.BytesIO


class VideoFault(Exception):  # noqa: N818  its text ends a sentence: "clip.mp4 is empty"
    """What is wrong with a video."""


class FilePart(io.RawIOBase):
    """A part of a file as a file, for FFmpeg."""

    def __init__(self, path: Path, offset: int, size: int | None) -> None:
        self._file = path.open("rb")
        end = self._file.seek(0, io.SEEK_END)
        self._offset, self._size = offset, end - offset if size is None else size
        if offset + self._size > end:
            self.close()
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

    def close(self) -> None:
        if hasattr(self, "_file"):  # also called where there was none to open
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def container_of(file: BytesFile) -> str:
    """FFmpeg's name of the container; the file is at its begin before and after.

    Raises:
        VideoFault: empty, none of those that are read, or shorter than it says of itself.
    """
    start = file.read(12) or b""
    if not start:
        raise VideoFault("is empty (0 bytes): replace it or remove it from the list")
    name = _name(start)
    size = file.seek(0, io.SEEK_END)
    said = _said_size(name, file, size)
    if said > size:
        raise VideoFault(f"is cut short (it has {size:,} of {said:,} bytes): copy it again")
    file.seek(0)
    return name


def _name(start: bytes) -> str:
    if start[4:8] in _FIRST_BOXES:
        return "mov"
    if start[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return "avi"
    if start[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    raise VideoFault(f"is not a video that can be read ({_READ})")


def _said_size(name: str, file: BytesFile, size: int) -> int:
    """Bytes that the file should have; 0 where it does not say. FFmpeg plays what is there."""
    match name:
        case "mov":
            return max(_ends_of_boxes(file, size))
        case "matroska":
            return _end_of_segment(file)
        case "avi":
            file.seek(4)
            return int.from_bytes(file.read(4) or b"", "little") + 8
        case _:  # a GIF ends in a semicolon, and in nothing else but padding
            file.seek(max(size - 64, 0))
            return 0 if (file.read(64) or b"").rstrip(b"\0").endswith(b";") else size + 1


def _ends_of_boxes(file: BytesFile, size: int) -> Iterator[int]:
    """Ends of the outermost boxes, until what stands there is none."""
    place = 0
    while place < size:
        file.seek(place)
        header = (file.read(16) or b"").ljust(16, b"\0")
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = struct.unpack(">Q", header[8:])[0]
        if header[4:8] not in _BOXES or length < 8:  # 0: to the end of the file
            break
        place += length
        yield place
    yield 0


def _end_of_segment(file: BytesFile) -> int:
    """End of a Matroska file's one segment; 0: it was written without knowing it."""
    file.seek(0)
    start = file.read(128) or b""
    header, place = _vint(start, 4)
    place += header
    if start[place : place + 4] != _SEGMENT:
        return 0
    length, begin = _vint(start, place + 4)
    unknown = (1 << 7 * (begin - place - 4)) - 1
    return 0 if length == unknown else begin + length


def _vint(content: bytes, place: int) -> tuple[int, int]:
    """A number of EBML (RFC 8794), and the place behind it; 0 where there is none."""
    if place >= len(content) or content[place] == 0:
        return 0, place
    width = 9 - content[place].bit_length()
    number = int.from_bytes(content[place : place + width], "big")
    return number & ((1 << 7 * width) - 1), place + width
