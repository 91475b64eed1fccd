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
from pathlib import Path

import numpy as np
from jaxtyping import Int

from genvlm.config.data import (
    CaptionsSource,
    DataConfig,
    DocumentsSource,
    EmojiSource,
    ScenesSource,
    Source,
    StoriesSource,
)
from genvlm.config.schema import to_plain
from genvlm.data.augment import augment_drawings
from genvlm.data.emoji import load_drawings, split_concepts
from genvlm.data.images import RGBImage, load_image
from genvlm.data.readers import read_captions, read_documents
from genvlm.data.scenes import render_scene, sample_scenes
from genvlm.data.stories import sample_stories
from genvlm.errors import DataError
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.tokenization.document import Document, Image, Segment, Text
from genvlm.tokenization.image import ImageTokenizer

# Part of the cache's key: raise it when a source renders differently from the same settings.
_RENDERING = 4
_CHUNK = 512


@dataclass(frozen=True)
class Sample:
    """One document: texts and numbers of pictures. A `pair` is one text and one picture."""

    id: str
    segments: tuple[str | int, ...]
    pair: bool
    loss: tuple[bool, ...] | None = None


@dataclass(frozen=True)
class Corpus:
    """Samples with the codes of their pictures; samples may share a picture."""

    samples: Sequence[Sample]
    codes: Int[np.ndarray, "images rows columns"]

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
        if not sample.pair:
            return Document(id=sample.id, segments=segments, loss=sample.loss)
        rng = np.random.default_rng([seed, epoch, zlib.crc32(sample.id.encode())])
        image_first, dropped = rng.random() < config.image_first, rng.random()
        if image_first == isinstance(segments[0], Text):
            segments.reverse()
        if dropped < config.condition_dropout:
            segments = segments[1:]
        return Document(id=sample.id, segments=segments)

    def _segment(self, segment: str | int) -> Segment:
        return Text(segment) if isinstance(segment, str) else Image(self.codes[segment])


def build_corpus(
    config: DataConfig,
    tokenizer: ImageTokenizer,
    cache: Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Corpus:
    """Render or read every source and encode its pictures; `cache` is a folder for the result.

    Raises:
        DataError: a source is empty or a file of it does not fit.
    """
    path = None
    if cache is not None:
        path = cache / f"codes-{_cache_key(config, tokenizer)[:16]}.npz"
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
            codes.append(tokenizer.encode(waiting).astype(np.int32))
            waiting.clear()
            progress(num_read, max(total, num_read))

    for number, source in enumerate(config.sources):
        for sample, pictures in _read_source(source, f"{number}-{source.kind}"):
            own = [number_of(tokenizer.fit(picture)) for picture in pictures]
            segments = tuple(own[s] if isinstance(s, int) else s for s in sample.segments)
            samples.append(Sample(sample.id, segments, sample.pair, sample.loss))
            num_read += len(pictures)
            if len(waiting) >= _CHUNK:
                encode()
    encode()
    if not samples:
        raise DataError("the data sources hold no documents")
    codes.append(np.zeros((0, *tokenizer.grid), np.int32))  # documents may hold no picture
    corpus = Corpus(samples, np.concatenate(codes))
    if path is not None:
        _save(corpus, path)
    return corpus


def _read_source(source: Source, prefix: str) -> Iterator[tuple[Sample, list[RGBImage]]]:
    """Samples whose picture numbers count from 0 within the sample."""
    match source:
        case ScenesSource():
            scenes = sample_scenes(
                source.num, source.seed, three=source.three, counts=source.counts
            )
            for i, scene in enumerate(scenes):
                picture = render_scene(scene, source.vendors[i % len(source.vendors)])
                yield Sample(f"{prefix}-{i}", (scene.caption, 0), True), [picture]
        case EmojiSource():
            yield from _read_emoji(source, prefix)
        case StoriesSource():
            for i, story in enumerate(sample_stories(source.num, source.seed)):
                pictures = story.render(source.vendors[i % len(source.vendors)])
                segments = [s for k, text in enumerate(story.sentences) for s in (text, k)]
                yield Sample(f"{prefix}-{i}", tuple(segments), False), pictures
        case CaptionsSource():
            for pair in read_captions(Path(source.path)):
                yield Sample(f"{prefix}-{pair.id}", (pair.text, 0), True), [load_image(pair.image)]
        case DocumentsSource():
            for document in read_documents(Path(source.path)):
                paths = [s for s in document.segments if isinstance(s, Path)]
                numbers = iter(range(len(paths)))
                segments = [s if isinstance(s, str) else next(numbers) for s in document.segments]
                loss = tuple(document.loss) if document.loss is not None else None
                sample = Sample(f"{prefix}-{document.id}", tuple(segments), False, loss)
                yield sample, [load_image(p) for p in paths]


def _read_emoji(source: EmojiSource, prefix: str) -> Iterator[tuple[Sample, list[RGBImage]]]:
    concepts = split_concepts(held_out=False)
    index = [c.index for c in concepts]
    for vendor in source.vendors:
        drawings = load_drawings(vendor)[index]
        for copy in range(source.augmented_copies + 1):
            seed = source.seed * 1000 + copy
            pictures = drawings if copy == 0 else augment_drawings(drawings, seed=seed)
            for concept, picture in zip(concepts, pictures, strict=True):
                captions = (concept.label, *concept.captions)
                sample_id = f"{prefix}-{vendor}-{concept.id}-{copy}"
                yield Sample(sample_id, (captions[copy % len(captions)], 0), True), [picture]


def _count_pictures(source: Source) -> int:
    match source:
        case ScenesSource():
            return source.num
        case StoriesSource():
            return source.num * 3
        case EmojiSource():
            concepts = len(split_concepts(held_out=False))
            return concepts * len(source.vendors) * (1 + source.augmented_copies)
        case _:
            return 0


def _cache_key(config: DataConfig, tokenizer: ImageTokenizer) -> str:
    files = [_file_states(source) for source in config.sources]
    payload = [_RENDERING, to_plain(config)["sources"], tokenizer.fingerprint, files]
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
    return json.dumps([[s.id, list(s.segments), s.pair, s.loss] for s in samples]).encode()


def _load(path: Path) -> Corpus:
    try:
        with np.load(path, allow_pickle=False) as file:
            codes, text = file["codes"], file["samples"].tobytes()
        samples = [
            Sample(i, tuple(segments), pair, tuple(loss) if loss is not None else None)
            for i, segments, pair, loss in json.loads(text)
        ]
    except (
        OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile,
        zlib.error,
    ) as error:  # fmt: skip
        raise DataError(f"{path} is damaged ({error}): delete it, it is made again") from None
    return Corpus(samples, codes)
