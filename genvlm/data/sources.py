"""Sources of training documents: rendered or read, and their pictures encoded once each."""

import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from genvlm.config.data import (
    CaptionsSource,
    DocumentsSource,
    EditsSource,
    EmojiSource,
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
from genvlm.data.scenes import render_scene, sample_scenes
from genvlm.data.sequences import sample_sequences
from genvlm.data.stories import sample_stories
from genvlm.errors import DataError
from genvlm.nn.safetensors_folder import fingerprint_of

# Part of a cache's key: raise it when a source renders differently from the same settings, or a
# cache is written otherwise.
_RENDERING = 5
_CHUNK = 512
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


class Encoding(NamedTuple):
    """How pictures become numbers."""

    name: str
    """Of the cache's files."""
    key: tuple[object, ...]
    """Whatever decides about the numbers, beside the pictures."""
    fit: Callable[[RGBImage], RGBImage]
    """Pictures that are equal when fitted are encoded once."""
    encode: Callable[[Sequence[RGBImage]], np.ndarray]
    """Of no pictures, an array without rows."""


def encode_sources(
    sources: Sequence[Source],
    encoding: Encoding,
    cache: Path | None,
    progress: Callable[[int, int], None],
) -> tuple[list[Sample], np.ndarray]:
    """Samples, and their pictures encoded; `cache` is a folder for the result.

    Raises:
        DataError: the sources are empty, or a file of one does not fit.
    """
    path = None
    if cache is not None:
        files = [_file_states(source) for source in sources]
        plain = [to_plain(source) for source in sources]
        key = fingerprint_of([_RENDERING, plain, *encoding.key, files])
        path = cache / f"{encoding.name}-{key[:16]}.npz"
        if path.is_file():
            return _load(path)
    samples, encoded = _encode_sources(sources, encoding, progress)
    if not samples:
        raise DataError("the data sources hold no documents")
    whole = np.concatenate([encoding.encode([]), *encoded])
    if path is not None:
        _save(samples, whole, path)
    return samples, whole


def _encode_sources(
    sources: Sequence[Source], encoding: Encoding, progress: Callable[[int, int], None]
) -> tuple[list[Sample], list[np.ndarray]]:
    """Samples, and their pictures encoded a few hundred at a time."""
    total = sum(_count_pictures(source) for source in sources)
    samples: list[Sample] = []
    encoded: list[np.ndarray] = []
    waiting: list[RGBImage] = []
    numbers: dict[bytes, int] = {}  # of pictures by their shape and bytes
    num_read = 0

    def number_of(picture: RGBImage) -> int:
        digest = hashlib.blake2b(str(picture.shape).encode(), digest_size=16)
        digest.update(picture.tobytes())
        if digest.digest() not in numbers:
            numbers[digest.digest()] = len(numbers)
            waiting.append(picture)
        return numbers[digest.digest()]

    def encode_waiting() -> None:
        if waiting:
            encoded.append(encoding.encode(waiting))
            waiting.clear()
            progress(num_read, max(total, num_read))

    for number, source in enumerate(sources):
        for sample, pictures in _read_source(source, f"{number}-{source.kind}"):
            own = [number_of(encoding.fit(picture)) for picture in pictures]
            segments = tuple(own[s] if isinstance(s, int) else s for s in sample.segments)
            samples.append(Sample(sample.id, segments, sample.kind, sample.loss))
            num_read += len(pictures)
            if len(waiting) >= _CHUNK:
                encode_waiting()
    encode_waiting()
    return samples, encoded


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


def samples_json(samples: Sequence[Sample]) -> bytes:
    """Samples as bytes, for caches and fingerprints."""
    return json.dumps([[s.id, list(s.segments), s.kind, s.loss] for s in samples]).encode()


def _save(samples: Sequence[Sample], encoded: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = np.frombuffer(samples_json(samples), np.uint8)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp.npz")
    np.savez_compressed(temporary, encoded=encoded, samples=text)
    temporary.replace(path)


def _load(path: Path) -> tuple[list[Sample], np.ndarray]:
    try:
        # Opened here: numpy leaves a file open whose zip directory is damaged.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            encoded, text = file["encoded"], file["samples"].tobytes()
        samples = [
            Sample(i, tuple(segments), kind, tuple(loss) if loss is not None else None)
            for i, segments, kind, loss in json.loads(text)
        ]
    except (
        OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile,
        zlib.error,
    ) as error:  # fmt: skip
        raise DataError(f"{path} is damaged ({error}): delete it, it is made again") from None
    return samples, encoded
