"""Sources of training documents: shipped or rendered, or read from a user's files.

Pictures and clips are numbered together and called visuals.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from genvlm.config.data import (
    CameraSource,
    DrawnSource,
    EditsSource,
    EmojiSource,
    FileSource,
    GlossesSource,
    MovingEmojiSource,
    PhysicsSource,
    ScenesSource,
    SequencesSource,
    StoriesSource,
    TextsSource,
    VideosSource,
)
from genvlm.config.schema import to_plain
from genvlm.data.augment import augment_drawings
from genvlm.data.camera import sample_camera_clips
from genvlm.data.clips import read_clips
from genvlm.data.edits import sample_edits
from genvlm.data.emoji import Concept, Vendor, class_concepts, load_drawings, split_concepts
from genvlm.data.frame_folders import frame_paths
from genvlm.data.glosses import load_glosses
from genvlm.data.images import RGBImage, decode_image, load_image
from genvlm.data.layouts.open import open_source
from genvlm.data.moving_emoji import sample_moving_emoji
from genvlm.data.physics.scenes import sample_clips
from genvlm.data.raw import Media, RawDocument
from genvlm.data.scenes import Scene, render_scene, sample_scenes
from genvlm.data.sequences import sample_sequences
from genvlm.data.skipping import SkipBudget
from genvlm.data.stories import sample_stories
from genvlm.data.video_containers import VideoFault
from genvlm.data.videos import VideoFrames
from genvlm.errors import DataError
from genvlm.nn.safetensors_folder import fingerprint_of

# Part of the key of whatever is kept of a source: raise it when one renders differently from the
# same settings.
RENDERING = 5
_NUM_STATES = 10_000
Kind = Literal["pair", "edit", "document"]
NumberedSource = tuple[int, DrawnSource | FileSource]
"""A source and its place in the configuration, which is part of its samples' ids."""
Visual = np.ndarray
"""A picture (height, width, 3), or a clip, which has frames in front; uint8."""


@dataclass(frozen=True)
class Sample:
    """One document: texts and numbers of visuals.

    A `pair` is one text and one visual, an `edit` a picture, an instruction and a picture.
    """

    id: str
    segments: tuple[str | int, ...]
    kind: Kind
    loss: tuple[bool, ...] | None = None


class Reading(NamedTuple):
    """A sample whose visuals are rendered or decoded when they are asked for."""

    sample: Sample
    """Its numbers of visuals count from 0 within it."""
    visuals: Callable[[], Sequence[Visual]]


def read_source(
    source: DrawnSource | FileSource, prefix: str, skips: SkipBudget | None = None
) -> Iterator[Reading]:
    """All samples of a source, always in one order; their ids begin with `prefix`.

    Args:
        skips: counts what a reader finds damaged; who asks for visuals counts the rest.

    Raises:
        DataError: a file is missing or does not fit; of a visual, when it is asked for.
    """
    match source:
        case ScenesSource():
            scenes = sample_scenes(
                source.num, source.seed, three=source.three, counts=source.counts
            )
            for i, scene in enumerate(scenes):
                sample = Sample(f"{prefix}-{i}", (scene.caption, 0), "pair")
                yield Reading(sample, partial(_render, [scene], _vendor(source.vendors, i)))
        case EmojiSource():
            yield from _read_emoji(source, prefix)
        case StoriesSource():
            for i, story in enumerate(sample_stories(source.num, source.seed)):
                segments = [s for k, text in enumerate(story.sentences) for s in (text, k)]
                sample = Sample(f"{prefix}-{i}", tuple(segments), "document")
                yield Reading(sample, partial(story.render, _vendor(source.vendors, i)))
        case EditsSource():
            for i, edit in enumerate(sample_edits(source.num, source.seed)):
                sample = Sample(f"{prefix}-{i}", (0, edit.instruction, 1), "edit")
                scenes_of = [edit.before, edit.after]
                yield Reading(sample, partial(_render, scenes_of, _vendor(source.vendors, i)))
        case SequencesSource():
            sequences = sample_sequences(source.num, source.seed, max_length=source.max_length)
            for i, sequence in enumerate(sequences):
                segments = [s for k, label in enumerate(sequence.labels) for s in (label, k)]
                sample = Sample(f"{prefix}-{i}", tuple(segments), "document")
                yield Reading(sample, partial(sequence.render, _vendor(source.vendors, i)))
        case PhysicsSource():
            simulated = sample_clips(source.num, source.seed, source.num_frames)
            for i, clip in enumerate(simulated):
                yield _clip(f"{prefix}-{i}", clip.caption, clip.render)
        case MovingEmojiSource():
            moving = sample_moving_emoji(source.num, source.seed, source.num_frames)
            for i, drawing in enumerate(moving):
                render = partial(drawing.render, _vendor(source.vendors, i))
                yield _clip(f"{prefix}-{i}", drawing.caption, render)
        case CameraSource():
            filmed = sample_camera_clips(
                source.num, source.seed, source.num_frames, vendors=source.vendors
            )
            for i, shot in enumerate(filmed):
                yield _clip(f"{prefix}-{i}", shot.caption, shot.render)
        case TextsSource():
            for reading in read_source(source.of, prefix):
                texts = tuple(s for s in reading.sample.segments if isinstance(s, str))
                yield _text_only(reading.sample.id, texts)
        case GlossesSource():
            for gloss in load_glosses(held_out=False):
                yield _text_only(f"{prefix}-{gloss.id}", (gloss.text,))
        case VideosSource():
            for cut in read_clips(source, skips or SkipBudget()):
                yield _clip(f"{prefix}-{cut.id}", cut.caption, partial(_same, cut.frames))
        case _:
            for document in open_source(source, skips):
                yield _reading(document, prefix)


def count_visuals(source: DrawnSource | FileSource) -> int:
    """How many visuals a source is known to have before it is read; 0: not known."""
    match source:
        case ScenesSource() | PhysicsSource() | MovingEmojiSource() | CameraSource():
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


def hash_files(source: DrawnSource | FileSource, max_bad_share: float) -> str:
    """sha256 of names, sizes and times of a user's files: a changed picture makes another.

    Only of the files that the source names: a run may write beside them. Raises DataError as
    `read_source`.
    """
    digest = hashlib.sha256()
    if isinstance(source, FileSource):
        state = lru_cache(_NUM_STATES)(_file_state)  # many pictures lie in one archive
        for document in open_source(source, SkipBudget(max_bad_share)):
            row: list[object] = [document.id, document.kind, document.loss]
            for segment in document.segments:
                if isinstance(segment, str):
                    row.append(segment)
                elif segment.content is not None:
                    row.append(hashlib.sha256(segment.content).hexdigest())
                else:
                    row += [segment.name, segment.offset, segment.size, state(segment.path)]
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()


def hash_sources(sources: Iterable[NumberedSource], max_bad_share: float) -> str:
    """sha256 of settings and files, by which what was made of sources is known again.

    Args:
        sources: with their places in the configuration.
        max_bad_share: most of the samples that readers may find damaged.

    Raises:
        DataError: as `read_source`.
    """
    states = [[n, to_plain(source), hash_files(source, max_bad_share)] for n, source in sources]
    return fingerprint_of([RENDERING, states])


def _read_emoji(source: EmojiSource, prefix: str) -> Iterator[Reading]:
    concepts = _concepts(source)
    index = [c.index for c in concepts]
    for vendor in source.vendors:
        for copy in range(source.augmented_copies + 1):
            # Drawn when the first of them is asked for: who reads texts alone never asks.
            pictures = cache(partial(_draw_copy, source, vendor, index, copy))
            for place, concept in enumerate(concepts):
                others = concept.captions if source.texts == "captions" else ()
                captions = (concept.label, *others)
                sample_id = f"{prefix}-{vendor}-{concept.id}-{copy}"
                sample = Sample(sample_id, (captions[copy % len(captions)], 0), "pair")
                yield Reading(sample, partial(_pick, pictures, place))


def _draw_copy(source: EmojiSource, vendor: Vendor, index: Sequence[int], copy: int) -> RGBImage:
    drawings = load_drawings(vendor)[index]
    if not copy:
        return drawings
    return augment_drawings(drawings, seed=source.seed * 1000 + copy, config=source.augment)


def _pick(pictures: Callable[[], RGBImage], place: int) -> list[RGBImage]:
    return [pictures()[place]]


def _concepts(source: EmojiSource) -> Sequence[Concept]:
    return class_concepts() if source.concepts == "classes" else split_concepts(held_out=False)


def _text_only(sample_id: str, texts: tuple[str, ...]) -> Reading:
    return Reading(Sample(sample_id, texts, "document"), list)


def _clip(sample_id: str, caption: str | None, render: Callable[[], VideoFrames]) -> Reading:
    """A pair, or a document of the clip alone."""
    if caption is None:
        return Reading(Sample(sample_id, (0,), "document"), lambda: [render()])
    return Reading(Sample(sample_id, (caption, 0), "pair"), lambda: [render()])


def _same(frames: VideoFrames) -> VideoFrames:
    return frames


def _vendor(vendors: Sequence[Vendor], number: int) -> Vendor:
    return vendors[number % len(vendors)]


def _render(scenes: Sequence[Scene], vendor: Vendor) -> list[RGBImage]:
    return [render_scene(scene, vendor) for scene in scenes]


def _reading(document: RawDocument, prefix: str) -> Reading:
    media = [s for s in document.segments if isinstance(s, Media)]
    numbers = iter(range(len(media)))
    segments = tuple(s if isinstance(s, str) else next(numbers) for s in document.segments)
    sample = Sample(f"{prefix}-{document.id}", segments, document.kind, document.loss)
    return Reading(sample, partial(_decode, media))


def _decode(media: Sequence[Media]) -> list[RGBImage]:
    for one in media:
        if one.kind == "video":
            raise DataError(f"{one.name} is a video: read videos with a source of kind videos")
    return [
        load_image(m.path)
        if m.path is not None and m.size is None
        else decode_image(m.read(), m.name)
        for m in media
    ]


def _file_state(path: Path | None) -> list[int]:
    """Of a folder of frames, that of its frames: what else is written there is no matter."""
    if path is not None and path.is_dir():
        try:
            frames = frame_paths(path)
        except VideoFault:  # reading it says what is wrong
            frames = []
        return [number for frame in frames for number in _file_state(frame)]
    try:
        state = path.stat() if path is not None else None
    except OSError:  # as above
        state = None
    return [] if state is None else [state.st_size, state.st_mtime_ns]


def samples_json(samples: Sequence[Sample]) -> bytes:
    """Samples as bytes, for files and fingerprints."""
    return json.dumps([[s.id, list(s.segments), s.kind, s.loss] for s in samples]).encode()
