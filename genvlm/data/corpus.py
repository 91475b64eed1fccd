"""A corpus of tokenised samples: token shards, in memory or mapped from disk.

What is drawn anew each epoch (which part of a pair comes first, whether the condition is dropped)
is keyed by (seed, epoch, sample id).
"""

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from jaxtyping import Int

from genvlm.config.data import DataConfig, RetrievalConfig, ShardsSource
from genvlm.config.schema import to_plain
from genvlm.data.retrieval import Hit, Retriever, TfIdfRetriever, drop_words, words_of
from genvlm.data.sharding import tokenise_in_memory, write_shards
from genvlm.data.shards import KINDS, SCHEMA, Shard, SourceCount, open_shards
from genvlm.data.sources import NumberedSource, Sample, hash_sources
from genvlm.data.tokenising import Tokenizers, check_clips
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.tokenization.document import Document, Segment, Text

# Hits that a retriever is asked for at first.
_HITS = 64


@dataclass(frozen=True)
class Corpus:
    """Samples of all sources; those of one shard may share a picture or clip."""

    shards: Sequence[Shard]
    prefixes: Sequence[str]
    """What stands in front of the ids of each shard."""
    sources: Sequence[range]
    """Which samples are of which source, in the order of the configuration."""
    origins: Sequence[dict[str, Any]]
    """Settings of all sources, also of those that were sharded before."""

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def num_pictures(self) -> int:
        """Distinct pictures of each shard, added up."""
        return sum(shard.num_visuals - shard.num_videos for shard in self.shards)

    @property
    def num_videos(self) -> int:
        """Distinct clips of each shard, added up."""
        return sum(shard.num_videos for shard in self.shards)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over samples and tokens: what a run must find again to go on."""
        return fingerprint_of(
            [[p, s.sha256] for p, s in zip(self.prefixes, self.shards, strict=True)]
        )

    @property
    def samples(self) -> "Samples":
        """Samples as their sources gave them, each read when it is asked for."""
        return Samples(self)

    @property
    def codes(self) -> Int[np.ndarray, "pictures rows columns"]:
        """Codes of all pictures, read into memory; of corpora whose pictures have one size."""
        found = [codes for s in self.shards if len(codes := s.codes_of_pictures())]
        return np.concatenate(found) if found else np.zeros((0, 0, 0), np.int64)

    def id(self, index: int) -> str:
        """Of a sample; unique in the corpus."""
        number, shard, place = self._place(index)
        return self.prefixes[number] + shard.id(place)

    def token_lengths(self, *, sized: bool) -> Int[np.ndarray, " samples"]:
        """Tokens of each sample when nothing of it is dropped."""
        return np.concatenate([s.token_lengths(sized=sized) for s in self.shards])

    @cached_property
    def rough_lengths(self) -> Int[np.ndarray, " samples"]:
        """Lengths by which documents are sorted."""
        return np.concatenate([s.rough_lengths() for s in self.shards])

    def check_there(self, indices: Sequence[int] | Int[np.ndarray, " documents"]) -> None:
        """Raises DataError: a shard that holds some of these samples is gone or shorter."""
        for number in {bisect_right(self._starts, int(i)) - 1 for i in indices}:
            self.shards[number].check_there()

    def document(self, index: int, config: DataConfig, seed: int, epoch: int) -> Document:
        """The document of one sample in one epoch: a pure function of its arguments."""
        _, shard, place = self._place(index)
        name, kind, segments = self.id(index), shard.kind(place), shard.segments(place)
        if kind == "document":
            return Document(id=name, segments=segments, loss=shard.learned(place))
        rng = np.random.default_rng([seed, epoch, zlib.crc32(name.encode())])
        image_first, dropped = rng.random() < config.image_first, rng.random()
        if kind == "edit":
            before, instruction, after = segments
            p = config.condition_dropout
            given = [] if dropped < p * p else [before] if dropped < p else [before, instruction]
            loss = [*[False] * len(given), True]
            return Document(id=name, segments=[*given, after], loss=loss)
        if image_first == isinstance(segments[0], Text):
            segments.reverse()
        unconditional = dropped < config.condition_dropout
        if unconditional:
            segments = segments[1:]
        if config.retrieval is None or unconditional:  # what is retrieved is a condition too
            return Document(id=name, segments=segments)
        retrieved = self._retrieve(index, config.retrieval, rng)
        text_first = isinstance(segments[0], Text)
        context = [s for pair in retrieved for s in (pair if text_first else pair[::-1])]
        loss = [*[False] * len(context), *[True] * len(segments)]
        return Document(id=name, segments=[*context, *segments], loss=loss)

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *accumulate(len(shard) for shard in self.shards)]

    def _place(self, index: int) -> tuple[int, Shard, int]:
        """Number of a sample's shard, the shard, and the sample's place in it."""
        number = bisect_right(self._starts, index) - 1
        return number, self.shards[number], index - self._starts[number]

    def _sample(self, index: int) -> Sample:
        number, shard, place = self._place(index)
        first_visual = sum(s.num_visuals for s in self.shards[:number])
        sample = shard.sample(place, first_visual)
        return replace(sample, id=self.prefixes[number] + sample.id)

    @cached_property
    def _pairs(self) -> Int[np.ndarray, " pairs"]:
        kinds = np.concatenate([s.arrays["kinds"] for s in self.shards])
        return np.flatnonzero(kinds == KINDS.index("pair"))

    @cached_property
    def _retriever(self) -> Retriever:
        return TfIdfRetriever([self._caption(i) for i in self._pairs.tolist()])

    def _caption(self, index: int) -> str:
        _, shard, place = self._place(index)
        return shard.caption(place)

    def _codes(self, index: int) -> np.ndarray:
        """Of the picture or clip of a pair."""
        _, shard, place = self._place(index)
        return shard.codes(shard.first_visual(place))

    def _hits(self, query: str) -> Iterator[Hit]:
        """All hits, best first, asked for as they are needed: most often the first ones will do."""
        told, num = 0, _HITS
        while told < num:
            hits = self._retriever(query, num)
            yield from hits[told:]
            told, num = num, 8 * num if len(hits) == num else num

    def _retrieve(
        self, index: int, config: RetrievalConfig, rng: np.random.Generator
    ) -> list[list[Segment]]:
        """Like pairs, text first: never the pair itself, its caption, its picture or near to it."""
        caption, codes = self._caption(index), self._codes(index)
        query = drop_words(caption, config.query_dropout, rng)
        too_like = takewhile(
            lambda hit: hit.similarity > config.max_similarity, self._hits(caption)
        )
        duplicates = {hit.number for hit in too_like}
        found: list[list[Segment]] = []
        for hit in self._hits(query):
            other = int(self._pairs[hit.number])
            near = (
                hit.number in duplicates
                or sorted(words_of(self._caption(other))) == sorted(words_of(caption))
                or _equal_share(self._codes(other), codes) > config.max_similarity
            )
            if near:
                continue
            found.append(self._pair(other))
            if len(found) == config.num_documents:
                break
        return found

    def _pair(self, index: int) -> list[Segment]:
        _, shard, place = self._place(index)
        return shard.segments(place)


class Samples(Sequence[Sample]):
    """A view of the samples of a corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def __len__(self) -> int:
        return len(self._corpus)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        inside = range(len(self))[index]
        if isinstance(inside, range):
            return [self._corpus._sample(i) for i in inside]
        return self._corpus._sample(inside)


def _equal_share(first: np.ndarray, second: np.ndarray) -> float:
    """Share of codes that two pictures or clips have in common, of all places that either has."""
    if first.ndim != second.ndim:
        return 0.0
    both = tuple(slice(min(sides)) for sides in zip(first.shape, second.shape, strict=True))
    equal = first[both] == second[both]
    return int(equal.sum()) / (first.size + second.size - equal.size)


def build_corpus(
    config: DataConfig,
    tokenizers: Tokenizers,
    cache: Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Corpus:
    """Tokenise all sources but those that are shards already, which are verified and mapped.

    Args:
        cache: a folder in which shards are kept, and found again for the same sources and
            tokenizers; None keeps them in memory.
        progress: told pictures and clips encoded, and in all.

    Raises:
        ConfigError: sources of clips that the tokenizers do not take.
        DataError: a source is empty, or a file of it does not fit.
        TokenError: a text that the tokenizer does not take.
    """
    numbered = list(enumerate(config.sources))
    raw = [(n, s) for n, s in numbered if not isinstance(s, ShardsSource)]
    check_clips(raw, tokenizers)
    parts: list[_Part] = []
    if raw:
        counts, shards = _tokenised(raw, config.max_bad_share, tokenizers, cache, progress)
        parts.append(_Part([n for n, _ in raw], counts, shards, ""))
    for number, source in numbered:
        if isinstance(source, ShardsSource):
            index, shards = open_shards(Path(source.path), tokenizers.whose)
            # A folder that is the only source gives the very documents of its own sources.
            prefix = "" if len(numbered) == 1 else f"{number}-shards-"
            parts.append(_Part([number] * len(index.sources), index.sources, shards, prefix))
    return _joined(parts, len(numbered))


class _Part(NamedTuple):
    """Shards that were written together."""

    numbers: Sequence[int]
    """Place in the configuration of each of their sources."""
    counts: Sequence[SourceCount]
    shards: Sequence[Shard]
    prefix: str


def _joined(parts: Sequence[_Part], num_sources: int) -> Corpus:
    """One corpus; a folder of shards counts as one source whatever it was made of."""
    ranges = [range(0)] * num_sources
    start = 0
    for part in parts:
        for number, count in zip(part.numbers, part.counts, strict=True):
            begun = ranges[number].start if ranges[number] else start
            start += count.samples
            ranges[number] = range(begun, start)
    return Corpus(
        [shard for part in parts for shard in part.shards],
        [part.prefix for part in parts for _ in part.shards],
        ranges,
        [count.source for part in parts for count in part.counts],
    )


def _tokenised(
    sources: Sequence[NumberedSource],
    max_bad_share: float,
    tokenizers: Tokenizers,
    cache: Path | None,
    progress: Callable[[int, int], None],
) -> tuple[Sequence[SourceCount], Sequence[Shard]]:
    if cache is None:
        return tokenise_in_memory(sources, tokenizers, max_bad_share, progress)
    state = hash_sources(sources, max_bad_share)
    key = fingerprint_of([SCHEMA, state, max_bad_share, to_plain(tokenizers.whose)])
    folder = cache / f"tokens-{key[:16]}"
    # All processes of a run come here: the first one writes, the others wait and find it done.
    write_shards(
        sources,
        tokenizers,
        folder,
        max_bad_share=max_bad_share,
        state=state,
        wait=True,
        progress=progress,
    )
    index, shards = open_shards(folder, tokenizers.whose)
    return index.sources, shards
