"""What sources hold, counted in one pass: sizes, captions, scripts, damage, duplicates."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genvlm.config.data import (
    CaptionsSource,
    FileSource,
    FolderSource,
    ParquetSource,
    VideosSource,
    WebDatasetSource,
)
from genvlm.data.curation.captions import plain, scripts_of, words_of
from genvlm.data.curation.clips import Clips
from genvlm.data.curation.curate import THUMBNAIL, thumbnail
from genvlm.data.curation.looks import Alike, LookIndex
from genvlm.data.curation.measures import PictureMeasures, measure_picture
from genvlm.data.curation.percentiles import percentiles
from genvlm.data.curation.tar_writer import suffix_of
from genvlm.data.frame_folders import is_frame_folder
from genvlm.data.hashed import hash_rank
from genvlm.data.images import RGBImage, decode_image
from genvlm.data.layouts.folders import loose_pictures, read_folder
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media, RawDocument
from genvlm.data.readers import PICTURE_SUFFIXES
from genvlm.data.skipping import SkipBudget
from genvlm.data.tar_members import walk_tar
from genvlm.data.video_containers import VIDEO_SUFFIXES
from genvlm.errors import ConfigError, ImageError

ARCHIVE_SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar")
SAMPLE = 60
"""Pictures that are shown."""
_MOST_FREQUENT = 20
# As the defaults of a curation's rules.
_ALIKE = Alike(max_distance=6, max_colour=16, mirrored=False)
_BLANK_CONTRAST = 16


@dataclass
class Inspection:
    """What was found so far."""

    counts: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    """Why each of these pictures cannot be decoded."""
    clips: Clips = field(default_factory=Clips)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    text_lengths: list[tuple[int, int]] = field(default_factory=list)
    """Characters and words."""
    texts: Counter[str] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    """Texts by the script of most of their letters."""
    sample: list[tuple[str, str, RGBImage]] = field(default_factory=list)
    """Id, text and thumbnail of some pictures and first frames, by the hash of their ids."""
    _digests: set[str] = field(default_factory=set)
    _looks: LookIndex = field(default_factory=lambda: LookIndex(_ALIKE))
    _best: list[tuple[int, str, str, RGBImage]] = field(default_factory=list)

    def add_text(self, text: str) -> None:
        """Count one text."""
        words = words_of(text)
        self.counts["texts"] += 1
        self.text_lengths.append((len(text), len(words)))
        self.texts[plain(text)] += 1
        self.words.update(words)
        letters = scripts_of(text)
        most = max(sorted(letters), key=lambda script: letters[script], default="no letters")
        self.scripts[most] += 1

    def add_media(self, media: Media, key: str, text: str) -> None:
        """Count one picture or clip; `key` and `text` are shown with it."""
        if media.kind == "video":
            self.counts["bytes"] += _bytes_of(media)
            frame = self.clips.add(media, THUMBNAIL)
            if frame is not None:
                self._show(key, text, frame)
            return
        content = media.read()
        self.counts["bytes"] += len(content)
        try:
            image = decode_image(content, media.name)
        except ImageError as error:
            self.damaged.append(str(error))
            return
        self.counts["pictures"] += 1
        self.formats[suffix_of(content)] += 1
        self._add_picture(measure_picture(image))
        self._show(key, text, image)

    def _show(self, key: str, text: str, image: RGBImage) -> None:
        # The smallest ranks are kept: a heap of their negatives.
        rank = -int(hash_rank(key)[:15], 16)
        if len(self._best) < SAMPLE:
            heapq.heappush(self._best, (rank, key, text, thumbnail(image)))
        elif rank > self._best[0][0]:
            heapq.heapreplace(self._best, (rank, key, text, thumbnail(image)))

    def _add_picture(self, picture: PictureMeasures) -> None:
        self.sizes.append((picture.width, picture.height))
        self.counts["blank"] += picture.contrast < _BLANK_CONTRAST
        if picture.digest in self._digests:
            self.counts["exact_duplicates"] += 1
            return
        self._digests.add(picture.digest)
        if next(self._looks.find(picture.look), None) is not None:
            self.counts["near_duplicates"] += 1
        else:
            self._looks.add(len(self.sizes), picture.look)

    def finish(self) -> None:
        """Order what is shown."""
        self.sample = [(key, text, small) for _, key, text, small in sorted(self._best)[::-1]]

    def leave_out(self, folder: str) -> None:
        """Name damaged files without the folder above them."""
        for said in (self.damaged, self.clips.damaged):
            said[:] = [text.replace(folder, "") for text in said]

    def to_json(self) -> dict[str, Any]:
        """Everything but pictures."""
        sides = np.array(self.sizes or np.empty((0, 2)), float)
        aspects = sides.max(1) / sides.min(1) if len(sides) else np.empty(0)
        lengths = np.array(self.text_lengths or np.empty((0, 2)), float)
        return {
            "documents": self.counts["documents"],
            "pairs": self.counts["pairs"],
            "pictures": self.counts["pictures"],
            "videos": len(self.clips.infos),
            "bytes": self.counts["bytes"],
            "formats": dict(self.formats.most_common()),
            "damaged": {
                "pictures": len(self.damaged),
                "videos": len(self.clips.damaged),
                "examples": self.damaged[:_MOST_FREQUENT] + self.clips.damaged[:_MOST_FREQUENT],
            },
            "skipped_by_readers": self.counts["skipped"],
            "width": percentiles(sides[:, 0]),
            "height": percentiles(sides[:, 1]),
            "longer_side_to_shorter": percentiles(aspects),
            "blank": self.counts["blank"],
            "exact_duplicates": self.counts["exact_duplicates"],
            "near_duplicates": self.counts["near_duplicates"],
            **self.clips.to_json(),
            "texts": self.counts["texts"],
            "distinct_texts": len(self.texts),
            "characters": percentiles(lengths[:, 0]),
            "words": percentiles(lengths[:, 1]),
            "scripts": dict(self.scripts.most_common()),
            "most_frequent_texts": dict(_most_common(self.texts)),
            "most_frequent_words": dict(_most_common(self.words)),
        }


def inspect_sources(
    sources: Sequence[FileSource],
    progress: Callable[[int, int | None], None],
    limit: int | None = None,
    *,
    guessed: bool = False,
) -> Inspection:
    """Read all documents of some sources, or the first `limit` of each.

    Damage is counted, whatever its share.

    Args:
        guessed: by `guess_sources`; what is a video of a folder is no picture of it too.

    Raises:
        DataError: a source is missing or not of its layout, or there are clips and no PyAV.
    """
    inspection = Inspection()
    skips = SkipBudget(max_share=1.0)
    with inspection.clips:
        for number, source in enumerate(sources):
            if guessed and len(sources) > 1 and isinstance(source, FolderSource):
                documents = read_folder(source, skips, loose=True)
            else:
                documents = open_source(source, skips)
            for place, document in enumerate(documents):
                if place == limit:
                    break
                _add(inspection, document, f"{number}/{document.id}")
                progress(inspection.counts["documents"], None)
    inspection.counts["skipped"] = skips.num_skipped
    inspection.finish()
    return inspection


def _add(inspection: Inspection, document: RawDocument, key: str) -> None:
    inspection.counts["documents"] += 1
    inspection.counts["pairs"] += document.kind == "pair"
    texts = [segment for segment in document.segments if isinstance(segment, str)]
    for text in texts:
        inspection.add_text(text)
    for place, segment in enumerate(document.segments):
        if isinstance(segment, Media):
            inspection.add_media(segment, f"{key}/{place}", texts[0] if texts else "")


def _bytes_of(media: Media) -> int:
    """0 where the file is gone."""
    if media.content is not None:
        return len(media.content)
    if media.size is not None:
        return media.size
    path = media.path
    if path is None or not path.exists():
        return 0
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.is_file()]
    return sum(file.stat().st_size for file in files)


def guess_sources(path: Path) -> list[FileSource]:
    """The sources that a folder or file is, by what lies in it.

    A folder of videos is one with a video file, or with a subfolder of frames and its caption
    beside it. There, GIFs and all subfolders of frames are videos, as `kind: videos` reads them;
    elsewhere they are pictures.

    Raises:
        ConfigError: nothing that a reader takes.
    """
    names = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if path.is_dir() and path / "captions.jsonl" in names:
        return [CaptionsSource(path=str(path))]
    tars, parquets = ([str(p) for p in names if p.suffix == s] for s in (".tar", ".parquet"))
    if tars:
        return [WebDatasetSource(paths=tuple(tars))]
    if parquets:
        return [ParquetSource(paths=tuple(parquets))]
    found: list[FileSource] = []
    pictures = _of(names, PICTURE_SUFFIXES)
    has_videos = path.is_dir() and _holds_videos(names)
    if has_videos and pictures:
        pictures = [path / name for name in loose_pictures(path)]
    if path.is_dir() and pictures:
        beside = all(picture.with_suffix(".txt") in names for picture in pictures)
        found.append(FolderSource(path=str(path), captions="sidecar" if beside else "file_name"))
    if has_videos:
        found.append(VideosSource(path=str(path)))
    if not found and path.is_file():
        raise ConfigError(
            f"{path} is no archive, Parquet file or YAML: name one of these, or a folder"
        )
    if not found:
        raise ConfigError(
            f"{path} holds neither captions.jsonl nor tar files, Parquet files, pictures or "
            "videos: name a YAML whose `sources` say what there is"
        )
    return found


def _holds_videos(names: Sequence[Path]) -> bool:
    texts = [path.with_suffix("") for path in _of(names, [".txt"])]
    return bool(_of(names, VIDEO_SUFFIXES)) or any(
        path.is_dir() and is_frame_folder(path) for path in texts
    )


def to_unpack(path: Path) -> bool:
    """Whether a file is an archive to be unpacked: a tar of WebDataset is read as it is.

    Raises:
        DataError: a tar that is damaged, or has members that are no plain files.
    """
    name = path.name.lower()
    if not path.is_file() or not name.endswith(ARCHIVE_SUFFIXES):
        return False
    return not name.endswith(".tar") or not _is_webdataset(path)


def _is_webdataset(tar: Path) -> bool:
    """Whether a picture or clip has a text of the same name beside it."""
    media: set[str] = set()
    texts: set[str] = set()
    with tar.open("rb") as file:
        for member in walk_tar(file, str(tar)):
            stem, dot, suffix = member.name.rpartition(".")
            if f"{dot}{suffix.lower()}" in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES):
                media.add(stem)
            elif suffix.lower() in ("txt", "json"):
                texts.add(stem)
            if stem in media and stem in texts:
                return True
    return False


def _of(paths: Iterable[Path], suffixes: Sequence[str]) -> list[Path]:
    return [path for path in paths if path.suffix.lower() in suffixes]


def _most_common(counts: Counter[str]) -> list[tuple[str, int]]:
    """Ties in the order of the alphabet."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_MOST_FREQUENT]
