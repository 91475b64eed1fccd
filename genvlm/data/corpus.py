"""From sources to a tokenised corpus: every picture is encoded once, its codes kept in one file.

A corpus holds samples (text and references to codes); what is drawn anew each epoch (which part of
a pair comes first, whether the condition is dropped) is keyed by (seed, epoch, sample id).
"""

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path

import numpy as np
from jaxtyping import Int

from genvlm.config.data import DataConfig, RetrievalConfig
from genvlm.data.images import RGBImage
from genvlm.data.retrieval import Hit, Retriever, TfIdfRetriever, drop_words, words_of
from genvlm.data.sources import Encoding, Sample, encode_sources, samples_json
from genvlm.tokenization.document import Document, Image, Segment, Text
from genvlm.tokenization.image import ImageTokenizer

# Hits that a retriever is asked for at first.
_HITS = 64


@dataclass(frozen=True)
class Corpus:
    """Samples with the codes of their pictures; samples may share a picture."""

    samples: Sequence[Sample]
    codes: Int[np.ndarray, "images rows columns"]
    """-1 beyond the rows and columns of a picture that is smaller (layout `sized`)."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over samples and codes: what a run must find again to go on."""
        digest = hashlib.sha256(samples_json(self.samples))
        digest.update(np.ascontiguousarray(self.codes).tobytes())
        return digest.hexdigest()

    def document(self, index: int, config: DataConfig, seed: int, epoch: int) -> Document:
        """The document of one sample in one epoch: a pure function of its arguments."""
        sample = self.samples[index]
        segments = [self._segment(s) for s in sample.segments]
        if sample.kind == "document":
            return Document(id=sample.id, segments=segments, loss=sample.loss)
        rng = np.random.default_rng([seed, epoch, zlib.crc32(sample.id.encode())])
        image_first, dropped = rng.random() < config.image_first, rng.random()
        if sample.kind == "edit":
            before, instruction, after = segments
            p = config.condition_dropout
            given = [] if dropped < p * p else [before] if dropped < p else [before, instruction]
            loss = [*[False] * len(given), True]
            return Document(id=sample.id, segments=[*given, after], loss=loss)
        if image_first == isinstance(segments[0], Text):
            segments.reverse()
        unconditional = dropped < config.condition_dropout
        if unconditional:
            segments = segments[1:]
        if config.retrieval is None or unconditional:  # what is retrieved is a condition too
            return Document(id=sample.id, segments=segments)
        retrieved = self._retrieve(index, config.retrieval, rng)
        picture_first = isinstance(segments[0], Image)
        context = [s for pair in retrieved for s in (pair[::-1] if picture_first else pair)]
        loss = [*[False] * len(context), *[True] * len(segments)]
        return Document(id=sample.id, segments=[*context, *segments], loss=loss)

    def _segment(self, segment: str | int) -> Segment:
        if isinstance(segment, str):
            return Text(segment)
        codes = self.codes[segment]
        rows, columns = int((codes[:, 0] >= 0).sum()), int((codes[0] >= 0).sum())
        return Image(codes[:rows, :columns])

    @cached_property
    def _pairs(self) -> list[int]:
        return [i for i, s in enumerate(self.samples) if s.kind == "pair"]

    @cached_property
    def _retriever(self) -> Retriever:
        return TfIdfRetriever([self._caption(i) for i in self._pairs])

    def _caption(self, index: int) -> str:
        return next(s for s in self.samples[index].segments if isinstance(s, str))

    def _number(self, index: int) -> int:
        return next(s for s in self.samples[index].segments if isinstance(s, int))

    def _picture(self, index: int) -> np.ndarray:
        return self.codes[self._number(index)]

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
        caption, picture = self._caption(index), self._picture(index)
        query = drop_words(caption, config.query_dropout, rng)
        too_like = takewhile(
            lambda hit: hit.similarity > config.max_similarity, self._hits(caption)
        )
        duplicates = {hit.number for hit in too_like}
        found: list[list[Segment]] = []
        for hit in self._hits(query):
            other = self._pairs[hit.number]
            near = (
                hit.number in duplicates
                or sorted(words_of(self._caption(other))) == sorted(words_of(caption))
                or _equal_share(self._picture(other), picture) > config.max_similarity
            )
            if near:
                continue
            found.append([Text(self._caption(other)), self._segment(self._number(other))])
            if len(found) == config.num_documents:
                break
        return found


def _equal_share(first: np.ndarray, second: np.ndarray) -> float:
    """Share of codes that two pictures have in common, of all that either has."""
    there = (first >= 0) | (second >= 0)
    return float((first == second)[there].mean())


def build_corpus(
    config: DataConfig,
    tokenizer: ImageTokenizer,
    cache: Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    max_side: int = 0,
) -> Corpus:
    """Render or read every source and encode its pictures; `cache` is a folder for the result.

    Args:
        max_side: most rows and columns of codes of a picture that keeps its shape; 0: all become
            the tokenizer's square.

    Raises:
        DataError: a source is empty or a file of it does not fit.
    """
    encoding = Encoding(
        "codes",
        (tokenizer.fingerprint, max_side),
        lambda picture: tokenizer.fit(picture, max_side),
        lambda pictures: _encode(tokenizer, pictures, max_side),
    )
    return Corpus(*encode_sources(config.sources, encoding, cache, progress))


def _encode(tokenizer: ImageTokenizer, pictures: Sequence[RGBImage], max_side: int) -> np.ndarray:
    if not max_side:
        return tokenizer.encode(pictures).astype(np.int32)
    padded = np.full((len(pictures), max_side, max_side), -1, np.int32)
    for row, codes in zip(padded, tokenizer.encode_sized(pictures, max_side), strict=True):
        row[: codes.shape[0], : codes.shape[1]] = codes
    return padded
