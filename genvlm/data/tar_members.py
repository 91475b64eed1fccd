"""Members of a tar that somebody else made: refused unless every one is a plain file or folder."""

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

from genvlm.errors import DataError

_MAX_HEADER = 1 << 20
"""Bytes of one header: a name of gigabytes is no name."""


def walk_tar(file: IO[bytes], name: str) -> Iterator[tarfile.TarInfo]:
    """Plain files and folders of an uncompressed tar, in its order; their data is not read.

    Args:
        file: read and moved; whoever reads data in between may move it too.
        name: of the archive, for errors.

    Raises:
        DataError: damaged or cut short; a member that is a link, a device or sparse, whose name
            leads out of the archive or stands twice.
    """
    seen: set[str] = set()
    headers: Any = _Headers(file)
    with _refusals(name), tarfile.open(fileobj=headers, mode="r:") as tar:
        while (member := tar.next()) is not None:
            tar.members.clear()  # type: ignore[attr-defined]  # it would keep all
            check_member(member, name)
            key = PurePosixPath(member.name).as_posix()
            if key in seen and not member.isdir():
                raise DataError(f"{name} has two members named {member.name!r}: pack it again")
            seen.add(key)
            yield member
        _check_end(file, tar.offset, name)


def check_member(member: tarfile.TarInfo, name: str) -> None:
    """Raises DataError: no plain file or folder, or its name leads out of the archive."""
    if not is_inner_name(member.name):
        raise DataError(
            f"{name} has a member named {member.name[:200]!r}, which leads out of it: do not use it"
        )
    try:
        member.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{name}: the name {member.name!r} is not UTF-8: pack it again") from None
    if member.issym() or member.islnk():
        raise DataError(f"{name}: {member.name!r} is a link: pack files alone")
    if member.issparse():
        raise DataError(f"{name}: {member.name!r} is a sparse file: pack it without --sparse")
    if not (member.isreg() or member.isdir()):
        raise DataError(f"{name}: {member.name!r} is a device or pipe: pack files alone")
    if member.size < 0:
        raise DataError(f"{name}: {member.name!r} has a negative size: it is damaged")


def is_inner_name(member: str) -> bool:
    """Whether a member's name leads nowhere but down, on any system."""
    parts = member.replace("\\", "/").split("/")
    return bool(
        member.strip("/. ")
        and not member.startswith(("/", "\\"))
        and ".." not in parts
        and ":" not in parts[0]  # a drive
        and "\0" not in member
    ) or member in (".", "./")


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        raise DataError(f"{name} is damaged or no tar ({error}): fetch it again") from None
    except RecursionError:
        raise DataError(f"{name} has headers of headers without end: do not use it") from None


def _check_end(file: IO[bytes], offset: int, name: str) -> None:
    """tarfile takes a damaged header for the end, and overlooks what stands behind it."""
    file.seek(offset)
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            raise DataError(
                f"{name} goes on behind its last member (byte {offset}): it is damaged, or several "
                "archives were joined"
            )


class _Headers:
    """What tarfile reads of an archive whose data it is not asked for: headers."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()
