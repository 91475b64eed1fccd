"""Files and folders that appear whole or not at all, and their hashes."""

import hashlib
import os
import shutil
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file as UTF-8; an earlier one stays until this one is complete."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def publish_folder(temporary: Path, final: Path) -> None:
    """Flush a finished folder to disk and move it into place; what stood there goes last."""
    for path in (*temporary.rglob("*"), temporary):
        _fsync(path)
    replaced = final.with_name(f".{final.name}.{os.getpid()}.old")
    shutil.rmtree(replaced, ignore_errors=True)
    if final.exists():
        final.replace(replaced)
    temporary.replace(final)
    _fsync(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def hash_file(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
