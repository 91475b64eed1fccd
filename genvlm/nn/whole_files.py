"""Files and folders that appear whole or not at all, and their hashes."""

import contextlib
import errno
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from genvlm.errors import StorageError
from genvlm.nn.file_system import DISK, FileSystem

LOCK_FILE = ".lock"
"""In a folder that is held, or was."""
# What a file system answers that cannot swap two paths.
_NO_EXCHANGE = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
_MENDS = {
    errno.ENOSPC: "make room there or choose a folder on another disk",
    errno.EDQUOT: "make room there or choose a folder on another disk",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that can be written",
    errno.EPERM: "choose a folder that can be written",
    errno.ENOENT: "the folder has vanished: bring it back or choose another one",
}


def write_whole(path: Path, content: str | bytes, *, disk: FileSystem = DISK) -> None:
    """Write a file, text as UTF-8; an earlier one stays until this one is on the disk.

    Raises:
        StorageError: the disk is full, read-only or gone; the earlier one stands.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with storage_errors(path):
        try:
            disk.write(temporary, content)
            disk.sync(temporary)
            disk.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                disk.remove(temporary)
            raise
        disk.sync(path.parent)


@contextlib.contextmanager
def hold_folder(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder against other processes; the lock dies with this one.

    Args:
        wait: for who holds it, rather than refuse.

    Raises:
        StorageError: another process holds it, the file system knows no locks, or the folder cannot
            be written.
    """
    with storage_errors(folder):
        try:
            make_folders(folder)
        except FileNotFoundError as error:  # as in /proc; nothing has vanished, it never was there
            raise StorageError(
                f"{folder} cannot be made ({error.strerror}): choose a folder that can be written"
            ) from None
        file = (folder / LOCK_FILE).open("w")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise StorageError(
                f"another process is writing into {folder}: wait for it or choose another folder"
            ) from None
        except OSError as error:
            raise StorageError(
                f"{folder} cannot be locked against a second process ({error.strerror}): choose a "
                f"folder on a disk that knows locks"
            ) from None
        yield


def make_folders(path: Path, *, disk: FileSystem = DISK) -> None:
    """A folder and those above it, entered on the disk."""
    missing = [p for p in (path, *path.parents) if not p.is_dir()]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was quicker
            disk.make_folder(folder)
        disk.sync(folder.parent)


def publish_folder(temporary: Path, final: Path, *, disk: FileSystem = DISK) -> None:
    """Flush a finished folder to disk and move it into place; what stood there goes last.

    At every moment `final` is the old folder or the new one. Where the file system cannot swap
    two folders there is a moment with neither, after which `restore_replaced` brings back the old.
    """
    for path in (*temporary.rglob("*"), temporary):
        disk.sync(path)
    replaced = temporary
    if final.exists():
        replaced = _replace(temporary, final, disk)
    else:
        disk.rename(temporary, final)
    disk.sync(final.parent)
    disk.remove(replaced)


def restore_replaced(final: Path, *, disk: FileSystem = DISK) -> None:
    """Bring back a folder that was moved aside for a new one which never came."""
    for replaced in final.parent.glob(f".{final.name}.*.old"):
        if final.exists():
            disk.remove(replaced)
        else:
            disk.rename(replaced, final)


def hash_file(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def storage_errors(path: Path, kept: str = "what was written before is whole") -> Iterator[None]:
    """A disk that refuses what is done inside becomes a sentence.

    Args:
        kept: what is not lost.

    Raises:
        StorageError: names `path`, what the disk said, and what to do.
    """
    try:
        yield
    except Exception as error:
        found = disk_answer(error)
        if found is None:
            raise
        reason, number = found
        mend = _MENDS.get(number, "see to that disk or choose a folder on another one")
        raise StorageError(f"{path} cannot be written ({reason}): {mend}; {kept}") from error


def disk_answer(error: BaseException) -> tuple[str, int] | None:
    """What a disk said and its errno, or None where the error has another cause.

    safetensors wraps the answer of the disk, and torch drops it.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error), error.errno or 0
    if found := re.search(r"I/O error: (.*?) \(os error (\d+)\)", str(error)):
        return found[1], int(found[2])
    if "inline_container" in str(error) or "iostream error" in str(error):
        return "torch could not write a whole file, most often for lack of space", errno.ENOSPC
    return None


def _replace(temporary: Path, final: Path, disk: FileSystem) -> Path:
    """Put one folder in the place of another; returns where that one is now."""
    try:
        disk.exchange(temporary, final)
    except OSError as error:
        if error.errno not in _NO_EXCHANGE:
            raise
        replaced = final.with_name(f".{final.name}.{os.getpid()}.old")
        disk.rename(final, replaced)
        try:
            disk.rename(temporary, final)
        except OSError:
            disk.rename(replaced, final)
            raise
        return replaced
    return temporary
