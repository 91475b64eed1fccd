"""From sources to a tokenised corpus: every picture is encoded once, its codes kept in one file.

A corpus holds samples (text and references to codes); what is drawn anew each epoch (which part of
a pair comes first, whether the condition is dropped) is keyed by (seed, epoch, sample id).
"""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from genvlm.config.data import (
    CaptionsSource,
    DataConfig,
    DocumentsSource,
    EditsSource,
    EmojiSource,
    RetrievalConfig,
    ScenesSource,
    SequencesSource,
    Source,
    StoriesSource,
)
from genvlm.config.schema import to_plain
from genvlm.data.augment import augment_drawings
from genvlm.data.edits import sample_edits
from genvlm.data.emoji import Concept, class_concepts, load_drawings, split_concepts
from genvlm.data.images import RGBImage, load_image
from genvlm.data.readers import read_captions, read_documents
from genvlm.data.retrieval import Hit, Retriever, TfIdfRetriever, drop_words, words_of
from genvlm.data.scenes import render_scene, sample_scenes
from genvlm.data.sequences import sample_sequences
from genvlm.data.stories import sample_stories
from genvlm.errors import DataError
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.tokenization.document import Document, Image, Segment, Text
from genvlm.tokenization.image import ImageTokenizer

# Part of the cache's key: raise it when a source renders differently from the same settings.
_RENDERING = 4
_CHUNK = 512
# Hits that a retriever is asked for at first.
_HITS = 64


Kind = Literal["pair", "edit", "document"]


@dataclass(frozen=True)
class Sample:
    """One document: texts and numbers of pictures.

    A `pair` is one text and one picture, an `edit` a picture, an instruction and a picture.
    """

    id: str
    segments: tuple[str | int, ...]
    kind: Kind
    loss: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class Corpus:
    """Samples with the codes of their pictures; samples may share a picture."""

    samples: Sequence[Sample]
    codes: Int[np.ndarray, "images rows columns"]
    """-1 beyond the rows and columns of a picture that is smaller (layout `sized`)."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over samples and codes: what a run must find again to go on."""
        digest = hashlib.sha256(_samples_json(self.samples))
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
    path = None
    if cache is not None:
        path = cache / f"codes-{_cache_key(config, tokenizer, max_side)[:16]}.npz"
        if path.is_file():
            return _load(path)
    total = sum(_count_pictures(source) for source in config.sources)
    samples: list[Sample] = []
    codes: list[np.ndarray] = []
    waiting: list[RGBImage] = []
    numbers: dict[bytes, int] = {}  # of pictures by their bytes: equal ones are encoded once
    num_read = 0

    def number_of(picture: RGBImage) -> int:
        digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        if digest not in numbers:
            numbers[digest] = len(numbers)
            waiting.append(picture)
        return numbers[digest]

    def encode() -> None:
        if waiting:
            codes.append(_encode(tokenizer, waiting, max_side))
            waiting.clear()
            progress(num_read, max(total, num_read))

    for number, source in enumerate(config.sources):
        for sample, pictures in _read_source(source, f"{number}-{source.kind}"):
            own = [number_of(tokenizer.fit(picture, max_side)) for picture in pictures]
            segments = tuple(own[s] if isinstance(s, int) else s for s in sample.segments)
            samples.append(Sample(sample.id, segments, sample.kind, sample.loss))
            num_read += len(pictures)
            if len(waiting) >= _CHUNK:
                encode()
    encode()
    if not samples:
        raise DataError("the data sources hold no documents")
    sides = (max_side, max_side) if max_side else tokenizer.grid
    codes.append(np.zeros((0, *sides), np.int32))  # documents may hold no picture
    corpus = Corpus(samples, np.concatenate(codes))
    if path is not None:
        _save(corpus, path)
    return corpus


def _encode(tokenizer: ImageTokenizer, pictures: list[RGBImage], max_side: int) -> np.ndarray:
    if not max_side:
        return tokenizer.encode(pictures).astype(np.int32)
    padded = np.full((len(pictures), max_side, max_side), -1, np.int32)
    for row, codes in zip(padded, tokenizer.encode_sized(pictures, max_side), strict=True):
        row[: codes.shape[0], : codes.shape[1]] = codes
    return padded


def _read_source(source: Source, prefix: str) -> Iterator[tuple[Sample, list[RGBImage]]]:
    """Samples whose picture numbers count from 0 within the sample."""
    match source:
        case ScenesSource():
            scenes = sample_scenes(
                source.num, source.seed, three=source.three, counts=source.counts
            )
            for i, scene in enumerate(scenes):
                picture = render_scene(scene, source.vendors[i % len(source.vendors)])
                yield Sample(f"{prefix}-{i}", (scene.caption, 0), "pair"), [picture]
        case EmojiSource():
            yield from _read_emoji(source, prefix)
        case StoriesSource():
            for i, story in enumerate(sample_stories(source.num, source.seed)):
                pictures = story.render(source.vendors[i % len(source.vendors)])
                segments = [s for k, text in enumerate(story.sentences) for s in (text, k)]
                yield Sample(f"{prefix}-{i}", tuple(segments), "document"), pictures
        case EditsSource():
            for i, edit in enumerate(sample_edits(source.num, source.seed)):
                vendor = source.vendors[i % len(source.vendors)]
                pictures = [render_scene(s, vendor) for s in (edit.before, edit.after)]
                yield Sample(f"{prefix}-{i}", (0, edit.instruction, 1), "edit"), pictures
        case SequencesSource():
            sequences = sample_sequences(source.num, source.seed, max_length=source.max_length)
            for i, sequence in enumerate(sequences):
                pictures = sequence.render(source.vendors[i % len(source.vendors)])
                segments = [s for k, label in enumerate(sequence.labels) for s in (label, k)]
                yield Sample(f"{prefix}-{i}", tuple(segments), "document"), pictures
        case CaptionsSource():
            for pair in read_captions(Path(source.path)):
                yield (
                    Sample(f"{prefix}-{pair.id}", (pair.text, 0), "pair"),
                    [load_image(pair.image)],
                )
        case DocumentsSource():
            for document in read_documents(Path(source.path)):
                paths = [s for s in document.segments if isinstance(s, Path)]
                numbers = iter(range(len(paths)))
                segments = [s if isinstance(s, str) else next(numbers) for s in document.segments]
                loss = tuple(document.loss) if document.loss is not None else None
                sample = Sample(f"{prefix}-{document.id}", tuple(segments), "document", loss)
                yield sample, [load_image(p) for p in paths]


def _read_emoji(source: EmojiSource, prefix: str) -> Iterator[tuple[Sample, list[RGBImage]]]:
    concepts = _concepts(source)
    index = [c.index for c in concepts]
    for vendor in source.vendors:
        drawings = load_drawings(vendor)[index]
        for copy in range(source.augmented_copies + 1):
            seed = source.seed * 1000 + copy
            pictures = (
                augment_drawings(drawings, seed=seed, config=source.augment) if copy else drawings
            )
            for concept, picture in zip(concepts, pictures, strict=True):
                others = concept.captions if source.texts == "captions" else ()
                captions = (concept.label, *others)
                sample_id = f"{prefix}-{vendor}-{concept.id}-{copy}"
                yield Sample(sample_id, (captions[copy % len(captions)], 0), "pair"), [picture]


def _concepts(source: EmojiSource) -> Sequence[Concept]:
    return class_concepts() if source.concepts == "classes" else split_concepts(held_out=False)


def _count_pictures(source: Source) -> int:
    match source:
        case ScenesSource():
            return source.num
        case StoriesSource():
            return source.num * 3
        case EditsSource():
            return source.num * 2
        case SequencesSource():
            return source.num * (3 + source.max_length) // 2
        case EmojiSource():
            return len(_concepts(source)) * len(source.vendors) * (1 + source.augmented_copies)
        case _:
            return 0


def _cache_key(config: DataConfig, tokenizer: ImageTokenizer, max_side: int) -> str:
    files = [_file_states(source) for source in config.sources]
    payload = [_RENDERING, to_plain(config)["sources"], tokenizer.fingerprint, max_side, files]
    return fingerprint_of(payload)


def _file_states(source: Source) -> list[list[object]]:
    """Names, sizes and times of a user's files: a changed picture makes another key.

    Only of the files that the source names: a run may write beside them.
    """
    match source:
        case CaptionsSource():
            root = Path(source.path)
            paths = [root / "captions.jsonl", *(pair.image for pair in read_captions(root))]
        case DocumentsSource():
            listed = [s for d in read_documents(Path(source.path)) for s in d.segments]
            paths = [Path(source.path), *(s for s in listed if isinstance(s, Path))]
        case _:
            paths = []
    return [[str(path), *_file_state(path)] for path in paths]


def _file_state(path: Path) -> list[int]:
    try:
        state = path.stat()
    except OSError:  # reading it says what is wrong
        return []
    return [state.st_size, state.st_mtime_ns]


def _save(corpus: Corpus, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = np.frombuffer(_samples_json(corpus.samples), np.uint8)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp.npz")
    np.savez_compressed(temporary, codes=corpus.codes, samples=text)
    temporary.replace(path)


def _samples_json(samples: Sequence[Sample]) -> bytes:
    return json.dumps([[s.id, list(s.segments), s.kind, s.loss] for s in samples]).encode()


def _load(path: Path) -> Corpus:
    try:
        # Opened here: numpy leaves a file open whose zip directory is damaged.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            codes, text = file["codes"], file["samples"].tobytes()
        samples = [
            Sample(i, tuple(segments), kind, tuple(loss) if loss is not None else None)
            for i, segments, kind, loss in json.loads(text)
        ]
    except (
        OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile,
        zlib.error,
    ) as error:  # fmt: skip
        raise DataError(f"{path} is damaged ({error}): delete it, it is made again") from None
    return Corpus(samples, codes)
