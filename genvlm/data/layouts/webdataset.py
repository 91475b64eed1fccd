"""WebDataset: members of a tar that share a key, the name up to its first dot, are one sample."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from genvlm.config.data import WebDatasetSource
from genvlm.data.layouts.file_lists import list_files
from genvlm.data.layouts.samples import documents_of, image_pair
from genvlm.data.raw import Media, RawDocument
from genvlm.data.readers import PICTURE_SUFFIXES
from genvlm.data.rows import checked_text, text_field
from genvlm.data.skipping import SkipBudget
from genvlm.data.tar_members import walk_tar
from genvlm.data.video_containers import VIDEO_SUFFIXES
from genvlm.errors import DataError

_MAX_TEXT = 1 << 24
"""Bytes of a caption's member."""
# Of the webdataset package: a folder may have dots in its name, a hidden file has no key.
_KEY = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)$")
_META = re.compile(r"__[^/]*__($|/)")


@dataclass(frozen=True)
class TarPart:
    """Where a member's bytes lie in its archive."""

    offset: int
    size: int


@dataclass(frozen=True)
class TarSample:
    """Members of one key, by their suffix in lower case."""

    key: str
    parts: dict[str, TarPart] = field(default_factory=dict)


def read_webdataset(source: WebDatasetSource, skips: SkipBudget) -> Iterator[RawDocument]:
    """Pairs of a picture or clip and a caption: `.txt`, else "caption" of `.json`.

    Ids are the archive's name and the key. Raises DataError as `group_members`, and as `walk_tar`.
    """
    for name, path in list_files(source.paths):
        with path.open("rb") as file:
            samples = ((f"{path}, {s.key}", s) for s in group_members(file, str(path)))
            yield from documents_of(samples, partial(_pair, name, path, file), skips)


def group_members(file: IO[bytes], name: str) -> Iterator[TarSample]:
    """Samples of an archive in its order, grouped as the webdataset package does.

    Raises:
        DataError: a key whose members do not stand side by side, or two members of one suffix;
            what `walk_tar` refuses.
    """
    current: TarSample | None = None
    finished: set[str] = set()
    for member in walk_tar(file, name):
        match = _KEY.match(member.name)
        if not member.isreg() or match is None or _META.match(member.name):
            continue
        key, suffix = match[1], match[2].lower()
        if current is None or key != current.key:
            if current is not None:
                finished.add(current.key)
                yield current
            if key in finished:
                raise DataError(
                    f"{name}: {member.name!r} does not stand beside the other members of {key!r}: "
                    "pack it with tar --sort=name"
                )
            current = TarSample(key)
        if suffix in current.parts:
            raise DataError(f"{name} has two members named {member.name!r}: pack it again")
        current.parts[suffix] = TarPart(member.offset_data, member.size)
    if current is not None:
        yield current


def _pair(
    name: str, path: Path, file: IO[bytes], where: str, sample: TarSample
) -> list[RawDocument]:
    media = _media(sample, path, where)
    said = _json(file, sample.parts["json"], where) if "json" in sample.parts else {}
    if "txt" in sample.parts:
        text = _text(file, sample.parts["txt"], f"{where}.txt").strip()
        extra = said
    else:
        if "caption" not in said:
            raise DataError(f"{where} has no caption: add a .txt, or a .json with 'caption'")
        text = text_field(said, "caption", f"{where}.json")
        extra = {key: value for key, value in said.items() if key != "caption"}
    text = checked_text(text, "the caption", where)
    return [image_pair(f"{name}/{sample.key}", text, media, extra)]


def _media(sample: TarSample, path: Path, where: str) -> Media:
    found = [s for s in sample.parts if f".{s}" in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES)]
    if len(found) != 1:
        which = f"{len(found)} pictures or clips ({', '.join(found)})" if found else "no picture"
        raise DataError(f"{where} has {which}, only {', '.join(sample.parts)}: keep one a sample")
    suffix, part = found[0], sample.parts[found[0]]
    return Media(
        kind="image" if f".{suffix}" in PICTURE_SUFFIXES else "video",
        name=f"{path}, {sample.key}.{suffix}",
        path=path,
        offset=part.offset,
        size=part.size,
    )


def _text(file: IO[bytes], part: TarPart, where: str) -> str:
    if part.size > _MAX_TEXT:
        raise DataError(f"{where} has more than {_MAX_TEXT >> 20} MB: is it a caption?")
    file.seek(part.offset)
    try:
        return file.read(part.size).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not valid UTF-8 (byte {error.start})") from None


def _json(file: IO[bytes], part: TarPart, where: str) -> dict[str, Any]:
    try:
        content = json.loads(_text(file, part, f"{where}.json"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}.json is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{where}.json must hold a JSON object")
    return content
