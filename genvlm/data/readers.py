"""A user's own files: captioned pictures, interleaved documents, pairs to score, class lists.

Every reader checks each line against its schema and names file and line when one does not fit.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from genvlm.data.rows import inner_path_field, read_rows, read_text_file, text_field
from genvlm.errors import DataError

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture file and a text."""

    id: str
    image: Path
    text: str


@dataclass(frozen=True, kw_only=True)
class LabelledFile:
    """A picture file and its class."""

    key: str
    """The path as it is written in the file or below the folder, with `/`: no machine's own."""
    image: Path
    label: str


@dataclass(frozen=True)
class GapFile:
    """What is missing from a document: a text, a picture, or the masked part of one."""

    kind: Literal["text", "image", "mask"]
    image: Path | None = None
    mask: Path | None = None
    """A picture of its size, white where it is to be drawn."""


@dataclass(frozen=True)
class VideoFile:
    """A video, of which the first so many frames are meant; None: all of them."""

    path: Path
    num_frames: int | None


DocumentPart = str | Path | GapFile | VideoFile
"""A text, the path of a picture, or, in prompts, a gap or a video."""


@dataclass(frozen=True, kw_only=True)
class DocumentFile:
    """An interleaved document."""

    id: str
    segments: Sequence[DocumentPart]
    loss: Sequence[bool] | None


def read_captions(folder: Path) -> list[Pair]:
    """`captions.jsonl` of a folder: {"id"?, "image": path inside the folder, "text"} a line."""
    if not folder.is_dir():
        raise DataError(
            f"no folder of captioned pictures at {folder}: check the path (openclipart and "
            "tuxpaint come by scripts/fetch_pictures)"
        )
    return read_pairs(folder / "captions.jsonl")


def read_pairs(path: Path) -> list[Pair]:
    """A JSONL file of {"id"?, "image", "text"} lines.

    Image paths are relative to the file and stay inside its folder, links too.
    """
    pairs = []
    seen: set[str] = set()
    for number, row in read_rows(path):
        where = f"{path} line {number}"
        image = inner_path_field(row, where, path.parent)
        pair = Pair(
            id=text_field(row, "id", where) if "id" in row else image,
            image=path.parent / image,
            text=text_field(row, "text", where),
        )
        if "id" in row:
            if pair.id in seen:
                raise DataError(f"{where}: the id {pair.id!r} stands twice: make ids unique")
            seen.add(pair.id)
        pairs.append(pair)
    return pairs


def read_documents(path: Path, *, prompts: bool = False) -> list[DocumentFile]:
    """A JSONL file of {"id", "segments": [{"text"} | {"image"}], "loss"?: [bool]} lines.

    Args:
        prompts: a segment may also be {"gap": "text"}, {"gap": "image"}, {"image", "mask"} or
            {"video", "frames"?}.
    """
    documents: list[DocumentFile] = []
    seen: set[str] = set()
    for number, row in read_rows(path):
        where = f"{path} line {number}"
        listed = row.get("segments")
        if not isinstance(listed, list) or not listed:
            raise DataError(f"{where}: 'segments' must be a list of at least one segment")
        segments = [_read_segment(segment, where, path.parent, prompts) for segment in listed]
        loss = row.get("loss")
        if loss is not None and (
            not isinstance(loss, list)
            or len(loss) != len(segments)
            or not all(isinstance(x, bool) for x in loss)
        ):
            raise DataError(f"{where}: 'loss' must hold one true or false for each segment")
        document = DocumentFile(id=text_field(row, "id", where), segments=segments, loss=loss)
        if document.id in seen:
            raise DataError(f"{where}: the id {document.id!r} stands twice: make ids unique")
        seen.add(document.id)
        documents.append(document)
    return documents


def _read_segment(segment: object, where: str, folder: Path, prompts: bool) -> DocumentPart:
    content = segment if isinstance(segment, dict) else {}
    kinds = set(content)
    if kinds == {"text"}:
        return text_field(content, "text", where)
    if kinds == {"image"}:
        return folder / inner_path_field(content, where, folder)
    if prompts and kinds == {"gap"} and content["gap"] in ("text", "image"):
        return GapFile(content["gap"])
    if prompts and kinds == {"image", "mask"}:
        image, mask = (
            folder / inner_path_field(content, where, folder, key) for key in ("image", "mask")
        )
        return GapFile("mask", image, mask)
    if prompts and kinds in ({"video"}, {"video", "frames"}):
        num_frames = content.get("frames")
        if num_frames is None or (type(num_frames) is int and num_frames > 0):
            video = inner_path_field(content, where, folder, "video")
            return VideoFile(folder / video, num_frames)
    more = (
        ', {"gap": "text" or "image"}, {"image": path, "mask": path}, '
        '{"video": path, "frames"?: how many}'
    )
    raise DataError(
        f'{where}: a segment is {{"text": ...}} or {{"image": path}}{more if prompts else ""}, got '
        f"{json.dumps(segment, ensure_ascii=False)[:80]}"
    )


def read_classes(path: Path) -> list[str]:
    """Class names, one a line. Raises DataError for none, empty lines in between, or duplicates."""
    names = [line.strip() for line in read_text_file(path).split("\n")]
    while names and not names[-1]:
        names.pop()
    if len(names) < 2:
        raise DataError(f"{path} lists {len(names)} classes: give at least two, one a line")
    for number, name in enumerate(names, 1):
        if not name:
            raise DataError(f"{path} line {number} is empty: remove it")
        if name in names[: number - 1]:
            raise DataError(f"{path} line {number}: the class {name!r} stands twice")
    return names


def read_labels(path: Path) -> list[LabelledFile]:
    """Classes of pictures: lines of `picture<TAB>class`, or JSONL of {"image", "class"}.

    Paths of pictures are relative to the file and stay inside its folder.

    Raises:
        DataError: a line that is neither, or a picture that is listed twice.
    """
    rows: Iterator[tuple[int, dict[str, object]]] = (
        read_rows(path) if path.suffix == ".jsonl" else _tab_rows(path, ("image", "class"))
    )
    found: dict[str, LabelledFile] = {}
    for number, row in rows:
        where = f"{path} line {number}"
        image = inner_path_field(row, where, path.parent)
        key = PurePath(image).as_posix()
        if key in found:
            raise DataError(f"{where}: the picture {image!r} stands twice: list it once")
        label = text_field(row, "class", where).strip()
        found[key] = LabelledFile(key=key, image=path.parent / image, label=label)
    return list(found.values())


def read_class_folders(folder: Path) -> list[LabelledFile]:
    """Pictures in a folder of class folders; the name of a class folder is the class.

    Files that bear no suffix of a picture are passed over, and so are hidden ones.

    Raises:
        DataError: no such folder, no class folder, or one without pictures.
    """
    if not folder.is_dir():
        raise DataError(f"no folder at {folder}: check the path")
    classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise DataError(f"{folder} holds no class folders: put the pictures of each class into one")
    found = []
    for of_class in classes:
        pictures = sorted(p for p in of_class.iterdir() if _names_picture(p))
        if not pictures:
            raise DataError(f"the class folder {of_class} holds no picture: remove it")
        found += [
            LabelledFile(key=f"{of_class.name}/{p.name}", image=p, label=of_class.name)
            for p in pictures
        ]
    return found


def read_prior(path: Path, classes: Sequence[str]) -> list[float]:
    """Weights of all classes, in their order, from lines of `class<TAB>weight`.

    Raises:
        DataError: a class that is missing, unknown or given twice, or a weight that is no positive
            number.
    """
    weights: dict[str, float] = {}
    for number, row in _tab_rows(path, ("class", "weight")):
        where = f"{path} line {number}"
        name, text = text_field(row, "class", where).strip(), text_field(row, "weight", where)
        if name not in classes or name in weights:
            fault = "stands twice" if name in weights else "is not in the list of classes"
            raise DataError(f"{where}: the class {name!r} {fault}")
        try:
            weights[name] = float(text)
        except ValueError:
            raise DataError(f"{where}: the weight {text!r} is no number") from None
        if not 0 < weights[name] < math.inf:
            raise DataError(f"{where}: a weight must be positive and finite, got {text}")
    missing = [name for name in classes if name not in weights]
    if missing:
        raise DataError(f"{path} gives no weight of {len(missing)} classes, such as {missing[0]!r}")
    return [weights[name] for name in classes]


def _names_picture(path: Path) -> bool:
    return (
        path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _tab_rows(path: Path, keys: tuple[str, str]) -> Iterator[tuple[int, dict[str, object]]]:
    """Lines of two columns, as the rows of a JSONL file are."""
    lines = read_text_file(path).split("\n")
    if not any(line.strip() for line in lines):
        raise DataError(f"{path} is empty: give {keys[0]}<TAB>{keys[1]} a line")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        cells = line.removesuffix("\r").split("\t")
        if len(cells) != 2:
            raise DataError(
                f"{path} line {number} must be {keys[0]}<TAB>{keys[1]}, got {line[:80]!r}"
            )
        yield number, dict(zip(keys, cells, strict=True))
