"""Small checkpoints whose every byte follows from a tag, so that a wrong one is seen."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from genvlm.testing.faults.row import demand

_SIZES = {"model/weights": 900, "optimizer": 1500, "random": 200, "nothing": 0}


def _bytes_of(tag: str, name: str) -> bytes:
    block = hashlib.sha256(f"{tag}/{name}".encode()).digest()
    return (block * (_SIZES[name] // len(block) + 1))[: _SIZES[name]]


def plain_write(path: Path, data: bytes) -> None:
    """As any writer that knows nothing of disks."""
    path.write_bytes(data)


def writer_of(
    tag: str, write_bytes: Callable[[Path, bytes], None] = plain_write
) -> Callable[[Path], None]:
    """What `save_checkpoint` and `publish_model_folder` call."""

    def write(folder: Path) -> None:
        (folder / "model").mkdir()
        for name in _SIZES:
            write_bytes(folder / name, _bytes_of(tag, name))
        write_bytes(folder / "tag", tag.encode())

    return write


def tag_of(folder: Path) -> str:
    """The tag of a folder, of which every byte is compared."""
    tag = (folder / "tag").read_text()
    for name in _SIZES:
        demand((folder / name).read_bytes() == _bytes_of(tag, name), f"{folder / name} is spoilt")
    return tag
