"""From sources to token shards, in memory that does not grow with the sources.

Each shard is a function of the samples in it alone, so that a run that was cut off goes on behind
the last whole one, and the same sources give the same bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from genvlm.config.schema import to_plain
from genvlm.data.distinct import CHUNK, DistinctVisuals
from genvlm.data.shard_columns import ShardColumns
from genvlm.data.shards import (
    INDEX_FILE,
    SCHEMA,
    UNFINISHED_FILE,
    Shard,
    ShardFile,
    ShardIndex,
    SourceCount,
    parse_index,
    shard_bytes,
    verify_shard,
)
from genvlm.data.skipping import SkipBudget
from genvlm.data.sources import (
    NumberedSource,
    Reading,
    Sample,
    Visual,
    count_visuals,
    hash_sources,
    read_source,
    samples_json,
)
from genvlm.data.tokenising import Tokenizers, check_clips
from genvlm.errors import DataError, StorageError, TokenError
from genvlm.nn.whole_files import hold_folder, write_whole

SAMPLES_PER_SHARD = 2**17
# Pieces and codes at which a shard ends too: it is held in memory while it grows.
_MOST_TOKENS = 2**24
Progress = Callable[[int, int], None]


class Read(NamedTuple):
    """What was read for a shard."""

    sha256: str
    """Of ids and texts, by which resuming knows its source again."""
    num: int
    """Samples, damaged ones too."""
    skipped: tuple[int, ...]
    """Places of the damaged among them."""


class Filled(NamedTuple):
    """A shard that was just made."""

    shard: Shard
    read: Read


def tokenise(
    walk: "Walk", tokenizers: Tokenizers, samples_per_shard: int = SAMPLES_PER_SHARD
) -> Iterator[Filled]:
    """Shards of all samples that are left to read.

    Raises:
        DataError: more samples are damaged than the walk allows; one is named.
        TokenError: a text that the tokenizer does not take.
    """
    growing = _Growing(tokenizers, walk)
    for reading in walk.readings:
        growing.add(reading)
        columns = growing.columns
        if len(columns) == samples_per_shard or columns.num_tokens >= _MOST_TOKENS:
            yield growing.finish()
            growing = _Growing(tokenizers, walk)
    if len(growing.columns):
        yield growing.finish()


def tokenise_in_memory(
    sources: Sequence[NumberedSource],
    tokenizers: Tokenizers,
    max_bad_share: float,
    progress: Progress,
) -> tuple[list[SourceCount], list[Shard]]:
    """All sources as shards that are written nowhere. Raises as `write_shards`."""
    walk = Walk(sources, max_bad_share, progress)
    shards = [filled.shard for filled in tokenise(walk, tokenizers)]
    return walk.finish(), shards


def write_shards(
    sources: Sequence[NumberedSource],
    tokenizers: Tokenizers,
    folder: Path,
    *,
    samples_per_shard: int = SAMPLES_PER_SHARD,
    max_bad_share: float = 0.0,
    state: str | None = None,
    wait: bool = False,
    progress: Progress = lambda done, total: None,
) -> ShardIndex:
    """Tokenise all sources into `folder`, or what is left of them.

    Args:
        max_bad_share: most of the samples that may be damaged, which are left out and counted.
        state: of the sources, by `hash_sources`, where that is known already.
        wait: for another process that writes there, rather than refuse.
        progress: told pictures and clips read, and in all as far as that is known.

    Raises:
        ConfigError: sources of clips that the tokenizers do not take.
        DataError: a source is empty, does not fit, or is not what it was when the shards were
            written; the folder holds other shards.
        TokenError: a text that the tokenizer does not take.
        StorageError: another process writes there, or nothing can be written.
    """
    check_clips(sources, tokenizers)
    walk = Walk(sources, max_bad_share, progress)
    state = state or hash_sources(sources, max_bad_share)
    with hold_folder(folder, wait=wait):
        index = ShardIndex(
            schema=SCHEMA,
            whose=tokenizers.whose,
            samples_per_shard=samples_per_shard,
            sources=walk.plain,
            state=state,
            skipped=0,
            shards=(),
        )
        if (folder / INDEX_FILE).is_file():
            written = _known(folder / INDEX_FILE, index)
            if written.state != state:
                raise _changed(folder / INDEX_FILE)
            return written
        if (folder / UNFINISHED_FILE).is_file():
            index = replace(index, shards=_known(folder / UNFINISHED_FILE, index).shards)
        try:
            for file in index.shards:
                _pass_over(walk, file, folder)
            for filled in tokenise(walk, tokenizers, samples_per_shard):
                file = _write(filled, folder / f"shard-{len(index.shards):05d}.safetensors")
                index = replace(index, shards=(*index.shards, file))
                _write_index(index, folder / UNFINISHED_FILE)
            index = replace(index, sources=tuple(walk.finish()), skipped=walk.skips.num_skipped)
        except (DataError, TokenError, StorageError) as error:
            if not index.shards:
                raise
            how = "mend this and run the same again, and it goes on behind them"
            if walk.skips.num_skipped:
                how += "; samples that were damaged are taken in when the folder is deleted first"
            raise type(error)(
                f"{error}; {len(index.shards)} shards in {folder} are whole: {how}"
            ) from None
        _write_index(index, folder / INDEX_FILE)
        (folder / UNFINISHED_FILE).unlink(missing_ok=True)
    return index


class Walk:
    """Reads sources one after another, and counts."""

    def __init__(
        self, sources: Sequence[NumberedSource], max_bad_share: float, progress: Progress
    ) -> None:
        self._sources, self._progress = sources, progress
        self._place, self._kept = 0, [0] * len(sources)
        self._total, self._done = sum(count_visuals(s) for _, s in sources), 0
        self.skips = SkipBudget(max_bad_share)
        self.readings = self._readings()

    @property
    def plain(self) -> tuple[SourceCount, ...]:
        """The sources before they are counted."""
        return tuple(SourceCount(source=to_plain(s), samples=0) for _, s in self._sources)

    def keep(self) -> None:
        """Count a good sample of the source that is being read."""
        self._kept[self._place] += 1
        self.skips.keep()

    def skip(self, sample: Sample, reason: str) -> None:
        """Count a damaged one. Raises DataError: there are too many."""
        self.skips.skip(sample.id, reason)

    def encoded(self, num: int) -> None:
        """Count pictures and clips."""
        self._done += num
        self._progress(self._done, max(self._total, self._done))

    def finish(self) -> list[SourceCount]:
        """Samples of each source, once all are read. Raises DataError: one is empty."""
        self.skips.finish()
        if not any(self._kept):
            raise DataError("the data sources hold no documents")
        for (number, source), num in zip(self._sources, self._kept, strict=True):
            if not num:
                raise DataError(
                    f"data.sources.{number}, of kind {source.kind}, holds no documents: fill it or "
                    "leave it out"
                )
        return [
            replace(plain, samples=num) for plain, num in zip(self.plain, self._kept, strict=True)
        ]

    def _readings(self) -> Iterator[Reading]:
        for place, (number, source) in enumerate(self._sources):
            self._place = place
            yield from read_source(source, f"{number}-{source.kind}", self.skips)


class _Growing:
    """A shard that takes in samples."""

    def __init__(self, tokenizers: Tokenizers, walk: Walk) -> None:
        self._tokenizers, self._walk = tokenizers, walk
        self.columns = ShardColumns(
            text_size=tokenizers.text.size, codebook_size=tokenizers.codebook_size
        )
        self._visuals = DistinctVisuals()
        self._num_read_since = 0  # visuals, since some were encoded
        self._digest, self._num_read, self._skipped = hashlib.sha256(), 0, list[int]()

    def add(self, reading: Reading) -> None:
        """Take in one sample, or count it as damaged. Raises as `tokenise`."""
        sample = reading.sample
        self._digest.update(samples_json([sample]))
        self._num_read += 1
        try:
            fitted = [self._fit(visual, sample) for visual in reading.visuals()]
            pieces = [self._pieces(s, sample) for s in sample.segments if isinstance(s, str)]
        except (DataError, TokenError) as error:
            if not self._walk.skips.max_share:
                raise
            self._skipped.append(self._num_read - 1)
            self._walk.skip(sample, str(error))
            return
        self.columns.add(sample, pieces, [self._visuals.number(visual) for visual in fitted])
        self._walk.keep()
        self._num_read_since += len(fitted)
        self._encode(self._visuals.take(CHUNK))

    def finish(self) -> Filled:
        """The shard."""
        self._encode(self._visuals.take())
        self._walk.encoded(self._num_read_since)  # those that equal earlier ones too
        read = Read(self._digest.hexdigest(), self._num_read, tuple(self._skipped))
        return Filled(Shard(self.columns.arrays()), read)

    def _pieces(self, text: str, sample: Sample) -> list[int]:
        try:
            return self._tokenizers.text.encode(text)
        except TokenError as error:
            raise TokenError(f"document {sample.id!r}: {error}") from None

    def _fit(self, visual: Visual, sample: Sample) -> Visual:
        try:
            return self._tokenizers.fit(visual)
        except DataError as error:
            raise DataError(f"document {sample.id!r}: {error}") from None

    def _encode(self, visuals: Sequence[Visual]) -> None:
        if not visuals:
            return
        for codes in self._tokenizers.encode(visuals):
            self.columns.add_visual(codes)
        self._walk.encoded(self._num_read_since)
        self._num_read_since = 0


def _write(filled: Filled, path: Path) -> ShardFile:
    shard, content = filled.shard, shard_bytes(filled.shard.arrays)
    write_whole(path, content)
    return ShardFile(
        name=path.name,
        samples=len(shard),
        pictures=shard.num_visuals - shard.num_videos,
        videos=shard.num_videos,
        pieces=len(shard.arrays["pieces"]),
        codes=len(shard.arrays["codes"]),
        num_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        num_read=filled.read.num,
        read_sha256=filled.read.sha256,
        skipped=filled.read.skipped,
    )


def _write_index(index: ShardIndex, path: Path) -> None:
    write_whole(path, json.dumps(to_plain(index), indent=1) + "\n")


def _pass_over(walk: Walk, file: ShardFile, folder: Path) -> None:
    """Read the samples of a written shard again, but not their pictures and clips.

    Raises:
        DataError: they are others, or the shard is damaged.
    """
    verify_shard(folder / file.name, file)
    digest = hashlib.sha256()
    skipped = set(file.skipped)
    for place, reading in enumerate(islice(walk.readings, file.num_read)):
        digest.update(samples_json([reading.sample]))
        if place in skipped:
            walk.skip(reading.sample, f"{reading.sample.id} was damaged when it was first read")
        else:
            walk.keep()
    if digest.hexdigest() != file.read_sha256:
        raise _changed(folder / file.name)
    walk.encoded(file.pictures + file.videos)


def _changed(path: Path) -> DataError:
    return DataError(
        f"a source is not what it was when {path} was written: bring it back, or delete "
        f"{path.parent} and begin anew"
    )


def _known(path: Path, wanted: ShardIndex) -> ShardIndex:
    """What is written already. Raises DataError: it is of other settings."""
    index = parse_index(path)
    settings = [
        (i.whose, i.samples_per_shard, [s.source for s in i.sources]) for i in (index, wanted)
    ]
    if settings[0] != settings[1]:
        raise DataError(
            f"{path.parent} holds shards of other sources, tokenizers or sizes: choose another "
            "folder or delete it"
        )
    return index
