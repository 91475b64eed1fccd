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
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.nn.whole_files import hash_file, write_whole

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

    A shard appears whole. Where the folder holds shards of another plan, they are deleted.
    """

    def __init__(self, folder: Path, identities: Sequence[object], per_shard: int) -> None:
        self._folder, self._total, self._per_shard = folder, len(identities), per_shard
        plan = json.dumps({"plan": fingerprint_of([_FORMAT, per_shard, list(identities)])})
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / _PLAN).is_file() or (folder / _PLAN).read_text("utf-8") != plan:
            for path in folder.glob("*.tar*"):
                path.unlink()
            write_whole(folder / _PLAN, plan)
        self._finished = {
            number for number in range(self.num_shards) if self._path(number).is_file()
        }

    @property
    def num_shards(self) -> int:
        """All shards that there will be."""
        return -(-self._total // self._per_shard)

    def wants(self, place: int) -> bool:
        """Whether the pair at this place among the kept ones is yet to be written."""
        return place // self._per_shard not in self._finished

    def write(self, pairs: Iterable[tuple[int, KeptPair]]) -> None:
        """Write all pairs that it wants, each with its place, in order."""
        temporary = self._folder / "writing.tar.tmp"
        for number, shard in groupby(pairs, lambda placed: placed[0] // self._per_shard):
            with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
                for place, pair in shard:
                    record = json.dumps(pair.record, ensure_ascii=False, sort_keys=True, indent=1)
                    _add(archive, f"{place:09d}.json", f"{record}\n".encode())
                    _add(archive, f"{place:09d}.{suffix_of(pair.content)}", pair.content)
            temporary.replace(self._path(number))

    def summary(self) -> list[dict[str, Any]]:
        """Name, pairs, bytes and hash of each shard."""
        rows = []
        for number in range(self.num_shards):
            path = self._path(number)
            num_pairs = min(self._per_shard, self._total - number * self._per_shard)
            rows.append(
                {
                    "path": path.name,
                    "pairs": num_pairs,
                    "bytes": path.stat().st_size,
                    "sha256": hash_file(path),
                }
            )
        return rows

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


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # mode 0644, owner 0, time 0
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
