"""Token shards on disk: tokenised samples in files that are read through a memory map.

A folder holds `shard-00000.safetensors`, ... and, once all are there, `index.json`: whose tokens
they are, how many, and the sha256 of each file. Arrays of a shard, with S samples, G segments, X
texts and P visuals, which are pictures and clips numbered together (`offsets` have one number more
than what they cut, and begin with 0):

- `ids` and `text`, UTF-8 bytes, cut by `id_offsets` (S) and `text_offsets` (X);
- `kinds` (S): 0 pair, 1 edit, 2 document; `segment_offsets` (S);
- `is_visual`, `learned` and `refs` (G): the number of a text or of a visual;
- `pieces`, cut by `piece_offsets` (X); `codes`, cut by `code_offsets` (P); `shapes` (P, 3): latent
  frames (0 for a picture), rows and columns.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Int

from genvlm.config.schema import Count, parse_config, strict
from genvlm.data.sources import Kind, Sample
from genvlm.errors import ConfigError, DataError
from genvlm.nn.whole_files import hash_file
from genvlm.tokenization.document import Image, Segment, Text, Video

SCHEMA = 3
INDEX_FILE, UNFINISHED_FILE = "index.json", "unfinished.json"
KINDS: tuple[Kind, ...] = get_args(Kind)
_DTYPES = {"U8": np.uint8, "U16": np.uint16, "I32": np.int32, "I64": np.int64}
_NAMES = (
    "ids", "id_offsets", "kinds", "segment_offsets", "is_visual", "learned", "refs", "text",
    "text_offsets", "pieces", "piece_offsets", "codes", "code_offsets", "shapes",
)  # fmt: skip


@strict
@dataclass(frozen=True, kw_only=True)
class ShardFile:
    """What the index says of one file."""

    name: str
    samples: Count
    pictures: Count
    videos: Count
    pieces: Count
    codes: Count
    num_bytes: Count
    sha256: str
    num_read: Count
    """Samples of the sources that went into it, with the damaged ones."""
    read_sha256: str
    """Of their ids and texts, by which resuming knows its source again."""
    skipped: tuple[Count, ...]
    """Places of the damaged ones among them."""


@strict
@dataclass(frozen=True, kw_only=True)
class Whose:
    """The tokenizers whose pieces and codes are in shards."""

    text_tokenizer: str
    """Fingerprint."""
    image_tokenizer: str
    video_tokenizer: str | None = None
    """None: nothing in them is a clip."""
    max_side: Count
    """`syntax.max_side` of the run."""


@strict
@dataclass(frozen=True, kw_only=True)
class SourceCount:
    """One source and how many samples it gave."""

    source: dict[str, Any]
    samples: Count


@strict
@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """`index.json` of a folder."""

    schema: Count
    whose: Whose
    samples_per_shard: Count
    """Most; a shard of many tokens ends before."""
    sources: tuple[SourceCount, ...]
    """In the order of their samples."""
    state: str
    """Of the sources, by `hash_sources`, when the writing began or last went on."""
    skipped: Count
    """Damaged samples, known when all is read: also those that no shard tells of."""
    shards: tuple[ShardFile, ...]

    @property
    def num_samples(self) -> int:
        """Over all shards."""
        return sum(s.samples for s in self.shards)

    def summary(self) -> dict[str, int]:
        """Totals over all shards; `skipped` are damaged samples."""
        names = ("samples", "pictures", "videos", "pieces", "codes")
        return {
            **{name: sum(getattr(s, name) for s in self.shards) for name in names},
            "skipped": self.skipped,
            "shards": len(self.shards),
            "bytes": sum(s.num_bytes for s in self.shards),
        }


class Shard:
    """The samples of one shard.

    Args:
        arrays: as at the top of this module, mapped or in memory.
        path: where they are mapped from, and `num_bytes` of it.
    """

    def __init__(
        self, arrays: Mapping[str, np.ndarray], path: Path | None = None, num_bytes: int = 0
    ) -> None:
        self.arrays = arrays
        self._path, self._num_bytes = path, num_bytes

    def __len__(self) -> int:
        return len(self.arrays["kinds"])

    @property
    def num_visuals(self) -> int:
        """Distinct pictures and clips."""
        return len(self.arrays["shapes"])

    @property
    def num_videos(self) -> int:
        """Distinct clips."""
        return int((self.arrays["shapes"][:, 0] > 0).sum())

    @cached_property
    def sha256(self) -> str:
        """Of the file that these arrays make."""
        return hashlib.sha256(shard_bytes(self.arrays)).hexdigest()

    def check_there(self) -> None:
        """Reading a map behind the end of its file would kill the process.

        Raises:
            DataError: the file is gone or shorter.
        """
        if self._path is None:
            return
        try:
            there = self._path.stat().st_size
        except OSError:
            there = -1
        if there != self._num_bytes:
            what = "is gone" if there < 0 else f"has {there:,} of {self._num_bytes:,} bytes"
            raise DataError(f"{self._path} {what}, while it is being read: bring it back")

    def id(self, number: int) -> str:
        """Of a sample."""
        return self._string("ids", "id_offsets", number)

    def kind(self, number: int) -> Kind:
        """Of a sample."""
        return KINDS[self.arrays["kinds"][number]]

    def segments(self, number: int) -> list[Segment]:
        """Texts with their pieces, pictures and clips."""
        return [
            _segment(self.codes(ref)) if is_visual else self.text(ref)
            for is_visual, ref in self._refs(number)
        ]

    def learned(self, number: int) -> tuple[bool, ...]:
        """Which segments of a sample are learned."""
        return tuple(self.arrays["learned"][self._range("segment_offsets", number)].astype(bool))

    def caption(self, number: int) -> str:
        """The first text of a sample."""
        return next(self.text(ref).text for is_visual, ref in self._refs(number) if not is_visual)

    def first_visual(self, number: int) -> int:
        """Number of the first picture or clip of a sample."""
        return next(ref for is_visual, ref in self._refs(number) if is_visual)

    def text(self, ref: int) -> Text:
        """A text by its number."""
        pieces = self.arrays["pieces"][self._range("piece_offsets", ref)]
        return Text(self._string("text", "text_offsets", ref), pieces)

    def codes(self, ref: int) -> np.ndarray:
        """Those of a picture (rows, columns) or clip (frames, rows, columns) by its number."""
        codes = self.arrays["codes"][self._range("code_offsets", ref)]
        frames, *sides = self.arrays["shapes"][ref].tolist()
        return codes.reshape(frames, *sides) if frames else codes.reshape(sides)

    def codes_of_pictures(self) -> Int[np.ndarray, "pictures rows columns"]:
        """Those of all pictures, where these have one size."""
        shapes, sizes = self.arrays["shapes"], np.diff(self.arrays["code_offsets"])
        is_picture = shapes[:, 0] == 0
        codes = self.arrays["codes"][np.repeat(is_picture, sizes)]
        sides = shapes[is_picture][0, 1:].tolist() if is_picture.any() else (1, 1)
        return codes.reshape(-1, *sides)

    def sample(self, number: int, first_visual: int) -> Sample:
        """A sample as its source gave it; its visuals count from `first_visual` on."""
        segments = tuple(
            ref + first_visual if is_visual else self.text(ref).text
            for is_visual, ref in self._refs(number)
        )
        learned = self.learned(number)
        return Sample(
            self.id(number), segments, self.kind(number), None if all(learned) else learned
        )

    def token_lengths(self, *, sized: bool) -> Int[np.ndarray, " samples"]:
        """Tokens of each sample as a whole document.

        Args:
            sized: pictures tell rows and columns.
        """
        pieces, codes = (np.diff(self.arrays[f"{n}_offsets"]) for n in ("piece", "code"))
        is_video = self.arrays["shapes"][:, 0] > 0
        around = np.where(is_video, 2, 4 if sized else 2)
        return 2 + self._sums(pieces, codes + around)

    def rough_lengths(self) -> Int[np.ndarray, " samples"]:
        """Lengths by which documents are sorted.

        A quarter of the characters, 70 a picture, and the codes of clips, which are of any length.
        """
        begins = (self.arrays["text"] & 0xC0) != 0x80  # of characters in UTF-8
        counted = np.concatenate([[0], np.cumsum(begins)])
        characters = np.diff(counted[self.arrays["text_offsets"]])
        is_video = self.arrays["shapes"][:, 0] > 0
        of_visuals = np.where(is_video, np.diff(self.arrays["code_offsets"]), 70)
        return self._sums(characters // 4, of_visuals)

    def _sums(self, of_texts: np.ndarray, of_visuals: np.ndarray) -> np.ndarray:
        """Sums over the segments of each sample."""
        is_visual, refs = self.arrays["is_visual"].astype(bool), self.arrays["refs"]
        lengths = np.zeros(len(refs) + 1, np.int64)
        lengths[1:][is_visual] = of_visuals[refs[is_visual]]
        lengths[1:][~is_visual] = of_texts[refs[~is_visual]]
        return np.diff(np.cumsum(lengths)[self.arrays["segment_offsets"]])

    def _refs(self, number: int) -> list[tuple[int, int]]:
        inside = self._range("segment_offsets", number)
        return list(
            zip(
                self.arrays["is_visual"][inside].tolist(),
                self.arrays["refs"][inside].tolist(),
                strict=True,
            )
        )

    def _range(self, offsets: str, number: int) -> slice:
        start, stop = self.arrays[offsets][number : number + 2].tolist()
        return slice(start, stop)

    def _string(self, content: str, offsets: str, number: int) -> str:
        return self.arrays[content][self._range(offsets, number)].tobytes().decode()


def _segment(codes: np.ndarray) -> Image | Video:
    return Video(codes) if codes.ndim == 3 else Image(codes)


def shard_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file of a shard: equal for equal arrays."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(arrays[name]) for name in _NAMES})


def map_shard(path: Path) -> Shard:
    """A shard whose arrays stay on disk until they are read.

    Raises:
        DataError: missing, cut short, or no shard.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 1 << 20)))
        # As a plain array: a slice of a `memmap` costs several times as much.
        content = np.memmap(path, np.uint8, "r", offset=8 + length).view(np.ndarray)
        arrays = {}
        for name in _NAMES:
            start, stop = header[name]["data_offsets"]
            array = content[start:stop].view(_DTYPES[header[name]["dtype"]])
            arrays[name] = array.reshape(header[name]["shape"])
    except FileNotFoundError:
        raise DataError(f"{path} is missing: {_MEND}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): {_MEND}") from None
    return Shard(arrays, path, path.stat().st_size)


_MEND = "copy it again; or delete its folder, and it is made again"


def read_index(folder: Path) -> ShardIndex:
    """The index of finished shards.

    Raises:
        DataError: no shards there, unfinished ones, or those of another version.
    """
    path = folder / INDEX_FILE
    if not path.is_file():
        if (folder / UNFINISHED_FILE).is_file():
            raise DataError(
                f"the shards in {folder} are not finished: run the command that wrote them again, "
                "and it goes on"
            )
        raise DataError(f"no token shards at {folder}: it lacks {INDEX_FILE}")
    return parse_index(path)


def parse_index(path: Path) -> ShardIndex:
    """An index file, finished or not. Raises DataError: damaged, or of another version."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
            raise DataError(
                f"{path} is of version {content['schema']}, this genvlm reads version {SCHEMA}: "
                "shard the sources again"
            )
        return parse_config(ShardIndex, content, str(path))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{path} is damaged ({error}): {_MEND}") from None


def open_shards(
    folder: Path, whose: Whose, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[ShardIndex, list[Shard]]:
    """All shards of a folder, each with its hash verified: a read of all its bytes.

    Args:
        whose: the tokenizers of the run.
        progress: told bytes verified and in all.

    Raises:
        DataError: shards of another tokenizer; one that is missing, cut short or damaged.
    """
    index = read_index(folder)
    if index.whose != whose:
        raise DataError(f"{folder} was written with another {_other(index.whose, whose)}")
    total, done = sum(file.num_bytes for file in index.shards), 0
    shards = []
    for file in index.shards:
        path = folder / file.name
        verify_shard(path, file)
        shard = map_shard(path)
        shard.sha256 = file.sha256
        shards.append(shard)
        done += file.num_bytes
        progress(done, total)
    counted = [sum(map(len, shards)), sum(s.samples for s in index.sources)]
    if counted != [index.num_samples] * 2:
        raise DataError(f"{folder / INDEX_FILE} is damaged (its counts do not agree): {_MEND}")
    return index, shards


def verify_shard(path: Path, file: ShardFile) -> None:
    """Raises DataError: a shard is missing, cut short or damaged."""
    if not path.is_file():
        raise DataError(f"{path} is missing: {_MEND}")
    size = path.stat().st_size
    if size != file.num_bytes:
        raise DataError(f"{path} has {size:,} of {file.num_bytes:,} bytes: {_MEND}")
    if hash_file(path) != file.sha256:
        raise DataError(f"{path} is damaged (its sha256 is not that of the index): {_MEND}")


def _other(written: Whose, run: Whose) -> str:
    """What differs, and the mend."""
    again = "run `genvlm data shard` with this configuration"
    if written.image_tokenizer != run.image_tokenizer:
        return f"image tokenizer: {again}, or train with the one it was written with"
    if written.video_tokenizer != run.video_tokenizer:
        if run.video_tokenizer is None:
            return f"video tokenizer: set tokenizers.video to it, or {again}"
        if written.video_tokenizer is None:
            return f"configuration, without a video tokenizer: {again}"
        return f"video tokenizer: {again}, or train with the one it was written with"
    if written.text_tokenizer != run.text_tokenizer:
        return f"text tokenizer: {again}, or train with the one it was written with"
    return f"syntax.max_side ({written.max_side}, and now {run.max_side}): {again}"
