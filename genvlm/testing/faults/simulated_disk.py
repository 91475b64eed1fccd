"""A disk that loses power and fills up: what was not synced may be gone, cut or empty.

It works on a real folder, so that writers which know nothing of it (torch, safetensors) take part:
before each operation it looks at what they did. It is more severe than ext4, whose fsync of a file
also keeps its name: here a name stays only when its folder was synced.
"""

import errno
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from genvlm.nn.file_system import DISK, Disk

Survivors = Literal["synced", "names", "everything", "some"]
"""What a loss of power spares: what was synced alone; all names too, files that were not synced
being empty; everything, as after kill -9; of each folder a random prefix of its changes, files cut
or filled with zeros."""
SURVIVORS: tuple[Survivors, ...] = ("synced", "names", "everything", "some")


class HastyDisk(Disk):
    """The real one without waiting for it: for faults in which no power is lost."""

    def sync(self, path: Path) -> None:
        """Nothing."""


@dataclass(eq=False)
class _Node:
    """A file or folder, as it is and as the disk has it."""

    is_folder: bool
    data: bytes = b""
    synced_data: bytes | None = None
    names: dict[str, "_Node"] = field(default_factory=dict)
    synced_names: dict[str, "_Node"] = field(default_factory=dict)
    pending: list[dict[str, "_Node | None"]] = field(default_factory=list)
    """Changes of names since the last sync, in order; those of one entry happen together."""


class SimulatedDisk:
    """A `FileSystem` over the real folder `top`, which is there already.

    Args:
        before: called before each operation, and in the middle of those that take long.
        exchanges: whether two paths can be swapped.
        space: units that are left: a byte is one, an operation costs `OPERATION`; None: no end.
    """

    OPERATION = 64

    def __init__(
        self,
        top: Path,
        *,
        before: Callable[[], None] = lambda: None,
        exchanges: bool = True,
        space: int | None = None,
    ) -> None:
        self.top, self.space, self.spent = top, space, 0
        self._before, self._exchanges = before, exchanges
        self._root = _Node(is_folder=True)
        self._nodes: dict[int, _Node] = {}
        self._look(together=False)
        self._sync_all(self._root)

    def make_folder(self, path: Path) -> None:
        """A new folder."""
        self._begin()
        DISK.make_folder(path)
        self._look(together=True)

    def write(self, path: Path, content: str | bytes) -> None:
        """A file; text as UTF-8."""
        self._begin()
        self.write_bytes(path, content.encode() if isinstance(content, str) else content)

    def write_bytes(self, path: Path, data: bytes) -> None:
        """For writers that should meet the end of space: a file in two halves."""
        half = len(data) // 2
        with path.open("wb", buffering=0) as file:
            for part in (data[:half], data[half:]):
                room = len(part) if self.space is None else max(0, self.space - self.spent)
                file.write(part[:room])
                self.spent += len(part)
                self._look(together=False)
                if room < len(part):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._before()

    def sync(self, path: Path) -> None:
        """What stands in a file, or which names a folder holds, survives."""
        self._begin()
        node = self._nodes[path.stat().st_ino]
        node.synced_data, node.synced_names = node.data, dict(node.names)
        node.pending.clear()

    def rename(self, source: Path, target: Path) -> None:
        """Move within one folder."""
        self._begin()
        DISK.rename(source, target)
        self._look(together=True)

    def exchange(self, first: Path, second: Path) -> None:
        """Two paths of one folder swap what they hold."""
        self._begin()
        if not self._exchanges:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        DISK.exchange(first, second)
        self._look(together=True)

    def remove(self, path: Path) -> None:
        """Needs no space; entry by entry."""
        if path.is_dir() and not path.is_symlink():
            for inside in sorted(path.iterdir()):
                self.remove(inside)
            self._look(together=False)
            self._before()
            path.rmdir()
        elif path.exists():
            self._look(together=False)
            self._before()
            path.unlink()
        self._look(together=False)

    def leave(self, target: Path, survivors: Survivors, rng: random.Random) -> None:
        """Write what a loss of power at this moment would leave of `top` into a new folder."""
        self._look(together=False)
        _rebuild(self._root, target, survivors, rng)

    def _begin(self) -> None:
        self._look(together=False)
        self._before()
        self.spent += self.OPERATION
        if self.space is not None and self.spent > self.space:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _look(self, *, together: bool) -> None:
        """Take in what changed; `together`: by one operation, so that no half of it can stay."""
        met: dict[int, _Node] = {}
        self._walk(self.top, self._root, met, together)
        self._nodes = met

    def _walk(self, path: Path, node: _Node, met: dict[int, _Node], together: bool) -> None:
        names = {}
        for entry in os.scandir(path):
            is_folder = entry.is_dir(follow_symlinks=False)
            child = self._nodes.get(entry.inode())
            if child is None or child.is_folder != is_folder:
                child = _Node(is_folder)
            names[entry.name] = met[entry.inode()] = child
            if is_folder:
                self._walk(Path(entry.path), child, met, together)
            else:
                child.data = Path(entry.path).read_bytes()
        met[path.stat().st_ino] = node
        changed = {
            name: names.get(name)
            for name in sorted(names.keys() | node.names.keys())
            if names.get(name) is not node.names.get(name)
        }
        if changed:
            node.pending += [changed] if together else [{n: c} for n, c in changed.items()]
        node.names = names

    def _sync_all(self, node: _Node) -> None:
        node.synced_data, node.synced_names = node.data, dict(node.names)
        node.pending.clear()
        for child in node.names.values():
            self._sync_all(child)


def _rebuild(node: _Node, target: Path, survivors: Survivors, rng: random.Random) -> None:
    if not node.is_folder:
        target.write_bytes(_surviving_data(node, survivors, rng))
        return
    target.mkdir(parents=True)
    names: dict[str, _Node | None] = dict(node.synced_names)
    kept = {"synced": 0, "some": rng.randint(0, len(node.pending))}
    for changed in node.pending[: kept.get(survivors, len(node.pending))]:
        names |= changed
    for name, child in names.items():
        if child is not None:
            _rebuild(child, target / name, survivors, rng)


def _surviving_data(node: _Node, survivors: Survivors, rng: random.Random) -> bytes:
    if node.data == node.synced_data or survivors == "everything":
        return node.data
    if survivors != "some":
        return node.synced_data or b""
    length = rng.randint(0, len(node.data))
    zeros = rng.randint(0, len(node.data) - length)
    return rng.choice((node.data[:length] + bytes(zeros), node.data, node.synced_data or b""))
