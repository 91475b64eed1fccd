"""Kept pairs as WebDataset tar files whose bytes depend on nothing but the pairs.

Each pair is `{number}.json` (caption, id, original caption, measures, what the source said) and the
undecoded picture as it was, `{number}.png` or what it is; `kind: webdataset` reads them again.
"""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from genvlm.errors import DataError
from genvlm.nn.file_system import DISK, FileSystem
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.nn.whole_files import hash_file, make_folders, storage_errors, write_whole

_FORMAT = 1
_PLAN = "plan.json"
# Beginnings of the formats that `decode_image` reads, with their suffixes.
_BEGINNINGS = (
    (b"\x89PNG", "png"), (b"\xff\xd8\xff", "jpg"), (b"GIF8", "gif"), (b"BM", "bmp"),
    (b"II*\0", "tif"), (b"MM\0*", "tif"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class KeptPair:
    """A pair as it is written."""

    record: Mapping[str, Any]
    """The JSON beside the picture."""
    content: bytes


class ShardWriter:
    """Writes pairs into a folder of shards; one that was finished before is left as it is.

    Args:
        identities: of each pair, in order: whatever decides about its bytes.

    A shard is on the disk before `plan.json` names it with its hash. One that is not named there,
    or is another file by now, is written again. Where the folder holds shards of another plan, they
    are deleted.
    """

    def __init__(
        self,
        folder: Path,
        identities: Sequence[object],
        per_shard: int,
        *,
        disk: FileSystem = DISK,
    ) -> None:
        self._folder, self._total, self._per_shard = folder, len(identities), per_shard
        self._disk = disk
        self._plan = fingerprint_of([_FORMAT, per_shard, list(identities)])
        make_folders(folder, disk=disk)
        finished = self._finished()
        if finished is None:
            for path in folder.glob("*.tar*"):
                disk.remove(path)
        self._rows = finished or {}
        self._write_plan()

    def _finished(self) -> dict[int, dict[str, Any]] | None:
        """Rows of the shards that are whole, by number; None: the folder has another plan."""
        try:
            plan = json.loads((self._folder / _PLAN).read_text("utf-8"))
            if plan["plan"] != self._plan:
                return None
            named = {int(number): dict(row) for number, row in plan["shards"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return {
            number: row
            for number, row in named.items()
            if self._path(number).is_file() and hash_file(self._path(number)) == row.get("sha256")
        }

    def wants(self, place: int) -> bool:
        """Whether the pair at this place among the kept ones is yet to be written."""
        return place // self._per_shard not in self._rows

    def write(self, pairs: Iterable[tuple[int, KeptPair]]) -> None:
        """Write all pairs that it wants, each with its place, in order.

        Raises:
            StorageError: the disk is full, read-only or gone; earlier shards are whole.
        """
        temporary = self._folder / "writing.tar.tmp"
        for number, shard in groupby(pairs, lambda placed: placed[0] // self._per_shard):
            path = self._path(number)
            with storage_errors(path, "the shards before it are whole"):
                num_pairs = _write_tar(temporary, shard)
                self._disk.sync(temporary)
                row = {
                    "path": path.name,
                    "pairs": num_pairs,
                    "bytes": temporary.stat().st_size,
                    "sha256": hash_file(temporary),
                }
                self._disk.rename(temporary, path)
                self._disk.sync(self._folder)
            self._rows[number] = row
            self._write_plan()

    def summary(self) -> list[dict[str, Any]]:
        """Name, pairs, bytes and hash of each shard, when all are written."""
        return [self._rows[number] for number in range(-(-self._total // self._per_shard))]

    def _write_plan(self) -> None:
        shards = {str(number): self._rows[number] for number in sorted(self._rows)}
        plan = json.dumps({"plan": self._plan, "shards": shards})
        write_whole(self._folder / _PLAN, plan, disk=self._disk)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.tar"


def suffix_of(content: bytes) -> str:
    """Of a picture's file, by its first bytes. Raises DataError: none of the known formats."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    for beginning, suffix in _BEGINNINGS:
        if content.startswith(beginning):
            return suffix
    raise DataError(f"a picture that begins with {content[:8]!r} is of no known format")


def _write_tar(path: Path, pairs: Iterable[tuple[int, KeptPair]]) -> int:
    """How many pairs it holds."""
    num_pairs = 0
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for place, pair in pairs:
            record = json.dumps(pair.record, ensure_ascii=False, sort_keys=True, indent=1)
            _add(archive, f"{place:09d}.json", f"{record}\n".encode())
            _add(archive, f"{place:09d}.{suffix_of(pair.content)}", pair.content)
            num_pairs += 1
    return num_pairs


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # mode 0644, owner 0, time 0
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
