"""The few operations by which files and folders are published; tests put a failing disk here."""

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import Protocol

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


class FileSystem(Protocol):
    """Each raises OSError where the disk refuses."""

    def make_folder(self, path: Path) -> None:
        """A new folder."""
        ...

    def write(self, path: Path, content: str | bytes) -> None:
        """A file; text as UTF-8."""
        ...

    def sync(self, path: Path) -> None:
        """What stands in a file, or which names a folder holds, survives a loss of power."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Move within one file system; a *file* that is `target` is replaced."""
        ...

    def exchange(self, first: Path, second: Path) -> None:
        """Two paths swap what they hold, at one moment."""
        ...

    def remove(self, path: Path) -> None:
        """A file or a folder with all that it holds; nothing where there is none."""
        ...


class Disk:
    """The real one."""

    def make_folder(self, path: Path) -> None:
        """A new folder."""
        path.mkdir()

    def write(self, path: Path, content: str | bytes) -> None:
        """A file; text as UTF-8."""
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def sync(self, path: Path) -> None:
        """fsync; a file also leaves the cache, so that who reads it next reads the disk."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            if path.is_file() and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        """Move within one file system; a *file* that is `target` is replaced."""
        source.replace(target)

    def exchange(self, first: Path, second: Path) -> None:
        """renameat2(2) of Linux, which not every file system knows."""
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "renameat2"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        paths = os.fsencode(first), os.fsencode(second)
        if library.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(first), None, str(second))

    def remove(self, path: Path) -> None:
        """A file or a folder with all that it holds; nothing where there is none."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


DISK = Disk()
