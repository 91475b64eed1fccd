"""The pairs of a curation's sources, read as often as needed, and always in the same order."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from genvlm.config.curation import EvaluationPicturesRule
from genvlm.config.data import FileSource
from genvlm.data.curation.measures import caption_and_media
from genvlm.data.emoji import TRAINING_VENDORS, UNSEEN_VENDOR, load_concepts, load_drawings
from genvlm.data.images import RGBImage, load_image
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media
from genvlm.data.readers import PICTURE_SUFFIXES
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError


class Pair(NamedTuple):
    """One document of the sources."""

    id: str
    """Unique among all sources: with several of them the number of the source stands in front."""
    caption: str
    media: Media
    extra: dict[str, Any]


@dataclass(frozen=True)
class SourcePairs:
    """All pairs of some sources."""

    sources: Sequence[FileSource]
    max_unreadable: float

    def read(self, skips: SkipBudget | None = None) -> Iterator[Pair]:
        """Pairs in order.

        Args:
            skips: counts samples that a reader finds damaged; None where they were counted before.

        Raises:
            DataError: a source holds documents that are no pairs, or too many are damaged.
        """
        skips = skips or SkipBudget(max_share=self.max_unreadable)
        for number, source in enumerate(self.sources):
            prefix = f"{number}/" if len(self.sources) > 1 else ""
            for document in open_source(source, skips):
                caption, media = caption_and_media(document, f"source {number} ({source.kind})")
                yield Pair(prefix + document.id, caption, media, dict(document.extra))

    def read_some(self, ids: Sequence[str], wanted: Collection[int]) -> Iterator[tuple[int, Pair]]:
        """Those of the numbers `wanted`, with their number.

        Args:
            ids: of all pairs when they were measured.

        Raises:
            DataError: the sources hold other pairs now.
        """
        number = -1
        for number, pair in enumerate(self.read()):
            if number >= len(ids) or pair.id != ids[number]:
                raise DataError(
                    f"the sources have changed since they were measured: {pair.id!r} is new; "
                    "curate into another folder"
                )
            if number in wanted:
                yield number, pair
        if number + 1 != len(ids):
            raise DataError(
                f"the sources have changed since they were measured: {ids[number + 1]!r} is gone; "
                "curate into another folder"
            )


def evaluation_pictures(rule: EvaluationPicturesRule) -> Iterator[tuple[str, RGBImage]]:
    """Name and pixels of each picture that a rule keeps out.

    Raises:
        DataError: a folder is missing, or holds no pictures. ImageError: one cannot be decoded.
    """
    for folder in rule.folders:
        paths = sorted(
            path for path in Path(folder).rglob("*")
            if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
        )  # fmt: skip
        if not paths:
            raise DataError(f"evaluation_pictures: no pictures in {folder}: check the path")
        for path in paths:
            yield str(path), load_image(path)
    if rule.emoji:
        for vendor in (*TRAINING_VENDORS, UNSEEN_VENDOR):
            drawings = load_drawings(vendor)
            for concept in load_concepts():
                if vendor == UNSEEN_VENDOR or concept.held_out:
                    yield f"{vendor}: {concept.label}", drawings[concept.index]
