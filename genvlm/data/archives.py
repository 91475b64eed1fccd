"""Unpacks tar and zip archives of strangers: all of a good one, nothing of a bad one."""

import gzip
import itertools
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from genvlm.data.tar_members import is_inner_name, walk_tar
from genvlm.errors import DataError
from genvlm.nn.whole_files import publish_folder

_CHUNK = 1 << 20
_ENCRYPTED = 0x1
_LOCAL_HEADER = 30
"""Bytes in front of a name and the data of a zip's member."""


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What a user's archive may become."""

    members: int = 1_000_000
    total: int = 1 << 40
    """Bytes of all members, unpacked."""
    ratio: int = 100
    """Bytes unpacked for each packed one; photographs have 1, texts up to 20."""
    harmless: int = 1 << 26
    """Bytes that are unpacked whatever their ratio."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    entry: tarfile.TarInfo | zipfile.ZipInfo


def extract_archive(
    path: Path, folder: Path, limits: ArchiveLimits = ArchiveLimits()
) -> list[Path]:
    """Unpack a `.tar`, `.tar.gz` or `.zip` into a folder that does not exist yet.

    The folder appears when all of the archive is in it. Permissions, owners and times are left out.

    Returns:
        The files, sorted.

    Raises:
        DataError: damaged, encrypted or too large; a member that is no plain file or folder, leads
            out of the archive or stands twice. There is no folder then.
    """
    if folder.exists():
        raise DataError(f"{folder} exists: name a new folder to unpack {path} into")
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    content = temporary / "content"
    try:
        with _damage_named(path):
            content.mkdir(parents=True)
            kind = _kind(path)
            if kind == "zip":
                _extract_zip(path, content, limits)
            elif kind == "gzip":
                tar = _decompress(path, temporary / "tar", limits)
                _extract_tar(tar, path, content, limits)
            else:
                _extract_tar(path, path, content, limits)
            publish_folder(content, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return sorted(file for file in folder.rglob("*") if file.is_file())


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{path} cannot be unpacked ({why}): nothing of it was kept") from None
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OverflowError,
        RuntimeError, struct.error,
    ) as error:  # fmt: skip
        raise DataError(f"{path} is damaged ({error}): fetch it again") from None


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        magic = file.read(6)
    if not magic:
        raise DataError(f"{path} is empty (0 bytes): fetch it again")
    if magic[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    if magic[:3] in (b"BZh", b"\xfd7z"):
        raise DataError(f"{path} is packed with bzip2 or xz: pack it as .tar, .tar.gz or .zip")
    return "gzip" if magic[:2] == b"\x1f\x8b" else "tar"


def _most(path: Path, limits: ArchiveLimits) -> int:
    """Bytes that an archive of this size may unpack to."""
    return min(limits.total, max(limits.harmless, limits.ratio * path.stat().st_size))


def _decompress(path: Path, tar: Path, limits: ArchiveLimits) -> Path:
    most, written = _most(path, limits), 0
    with gzip.open(path) as packed, tar.open("wb") as file:
        while chunk := packed.read(_CHUNK):
            written += len(chunk)
            if written > most:
                raise _bomb(path, most)
            file.write(chunk)
    return tar


def _bomb(path: Path, most: int) -> DataError:
    return DataError(
        f"{path} ({path.stat().st_size:,} bytes) would unpack to more than {most:,} bytes: do not "
        "use it, or unpack it by hand"
    )


def _extract_tar(tar: Path, path: Path, folder: Path, limits: ArchiveLimits) -> None:
    """Args: path: how it is called."""
    with tar.open("rb") as file:
        members = []
        for info in walk_tar(file, str(path)):
            members.append(_Member(info.name, 0 if info.isdir() else info.size, info))
            _check_count(len(members), path, limits)
        _check(members, path, limits)
        for member in members:
            assert isinstance(member.entry, tarfile.TarInfo)
            if member.entry.isdir():
                (folder / member.name).mkdir(parents=True, exist_ok=True)
                continue
            file.seek(member.entry.offset_data)
            _write(file, folder / member.name, member, path)


def _extract_zip(path: Path, folder: Path, limits: ArchiveLimits) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        _check_count(len(entries), path, limits)
        for entry in entries:
            _check_entry(entry, path)
        _check_overlaps(entries, path)
        members = [_Member(entry.filename, entry.file_size, entry) for entry in entries]
        _check(members, path, limits)
        for member in members:
            assert isinstance(member.entry, zipfile.ZipInfo)
            if member.entry.is_dir():
                (folder / member.name).mkdir(parents=True, exist_ok=True)
                continue
            with archive.open(member.entry) as file:
                _write(file, folder / member.name, member, path)


def _check_entry(entry: zipfile.ZipInfo, path: Path) -> None:
    """What `walk_tar` checks of a tar's member."""
    if not is_inner_name(entry.orig_filename):
        raise DataError(
            f"{path} has a member named {entry.orig_filename[:200]!r}, which leads out of it: do "
            "not use it"
        )
    if entry.flag_bits & _ENCRYPTED:
        raise DataError(f"{path}: {entry.filename!r} is encrypted: unpack it by hand")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind == stat.S_IFLNK:
        raise DataError(f"{path}: {entry.filename!r} is a link: pack files alone")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"{path}: {entry.filename!r} is a device or pipe: pack files alone")


def _check_overlaps(entries: list[zipfile.ZipInfo], path: Path) -> None:
    """Members that share their bytes: the densest bombs (Fifield 2019)."""
    inner = sorted(entries, key=lambda entry: entry.header_offset)
    for first, second in itertools.pairwise(inner):
        if first.header_offset + _LOCAL_HEADER + first.compress_size > second.header_offset:
            raise DataError(
                f"{path}: {first.filename!r} and {second.filename!r} share their bytes: do not use "
                "it"
            )


def _check_count(num_members: int, path: Path, limits: ArchiveLimits) -> None:
    if num_members > limits.members:
        raise DataError(f"{path} has more than {limits.members:,} members: do not use it")


def _check(members: list[_Member], path: Path, limits: ArchiveLimits) -> None:
    """Before anything is written: sizes as declared, and names that cannot all be files."""
    most = _most(path, limits)
    if sum(member.size for member in members) > most:
        raise _bomb(path, most)
    files: set[PurePosixPath] = set()
    folders: set[PurePosixPath] = set()
    for member in members:
        name = PurePosixPath(member.name)
        folders.update(name.parents)
        if member.name.endswith("/") or getattr(member.entry, "isdir", lambda: False)():
            folders.add(name)
        elif name in files:
            raise DataError(f"{path} has two members named {member.name!r}: pack it again")
        else:
            files.add(name)
    both = min(files & folders, default=None)
    if both is not None:
        raise DataError(f"{path}: {str(both)!r} is both a file and a folder: pack it again")


def _write(source: IO[bytes], target: Path, member: _Member, path: Path) -> None:
    """Copy exactly the declared bytes; a zip's checksum is read with the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.size
    with target.open("xb") as file:
        while left and (chunk := source.read(min(left, _CHUNK))):
            file.write(chunk)
            left -= len(chunk)
    if left or (isinstance(member.entry, zipfile.ZipInfo) and source.read(1)):
        raise DataError(f"{path}: {member.name!r} is not of the size that it declares")
