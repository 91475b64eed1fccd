"""Captions of COCO and Karpathy's splits: one JSON file that names pictures in a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genvlm.config.data import CocoSource, KarpathySource
from genvlm.data.images import picture_path
from genvlm.data.layouts.samples import (
    documents_of,
    image_file,
    image_pair,
    int_field,
    list_field,
    others,
)
from genvlm.data.raw import RawDocument
from genvlm.data.rows import read_json, text_field
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError

_Row = dict[str, Any]


def read_coco(source: CocoSource, skips: SkipBudget) -> Iterator[RawDocument]:
    """One pair for each caption, by file name and annotation id: `139-287`.

    Layout: {"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "caption"}]}
    (cocodataset.org/#format-data).
    """
    path, folder = Path(source.annotations), Path(source.images)
    content = read_json(path)
    images: dict[int, _Row] = {}
    for where, row in _objects(content, "images", str(path)):
        if images.setdefault(int_field(row, "id", where), row) is not row:
            raise DataError(f"{where}: the image id {row['id']} stands twice: make ids unique")
        text_field(row, "file_name", where)
    captions: dict[int, tuple[str, _Row]] = {}
    for where, row in _objects(content, "annotations", str(path)):
        if "caption" not in row:
            raise DataError(f"{where}: no 'caption': give captions_*.json, not instances_*.json")
        if int_field(row, "image_id", where) not in images:
            raise DataError(f"{where}: no image has the id {row['image_id']}")
        if int_field(row, "id", where) in captions:
            raise DataError(f"{where}: the annotation id {row['id']} stands twice")
        captions[row["id"]] = (where, row)
    if not captions:
        raise DataError(f"{path} holds no captions")

    def pair(where: str, row: _Row) -> list[RawDocument]:
        image = images[row["image_id"]]
        media = image_file(picture_path(folder, image["file_name"], where))
        text = text_field(row, "caption", where).strip()
        extra = others(image, "id") | others(row, "id", "caption")
        return [image_pair(f"{row['image_id']}-{row['id']}", text, media, extra)]

    def place(item: tuple[str, _Row]) -> tuple[str, int]:
        return images[item[1]["image_id"]]["file_name"], item[1]["id"]

    return documents_of(sorted(captions.values(), key=place), pair, skips)


def read_karpathy(source: KarpathySource, skips: SkipBudget) -> Iterator[RawDocument]:
    """One pair for each sentence of the images of the splits, by file name: `imgid-sentid`.

    Layout: {"images": [{"imgid", "filepath"?, "filename", "split", "sentences": [{"sentid",
    "raw"}]}]} (Karpathy and Fei-Fei 2015).
    """
    path, folder = Path(source.annotations), Path(source.images)
    rows = list(_objects(read_json(path), "images", str(path)))
    splits = {text_field(row, "split", where) for where, row in rows}
    chosen = [(where, row) for where, row in rows if row["split"] in source.splits]
    if not chosen:
        raise DataError(
            f"{path} has no image of the splits {', '.join(source.splits)}, only of "
            f"{', '.join(sorted(splits))}"
        )
    seen: set[str] = set()
    named: list[tuple[str, str, _Row]] = []
    for where, row in chosen:
        name = f"{row.get('filepath', '')}/{text_field(row, 'filename', where)}".lstrip("/")
        named.append((name, where, row))
        for sentence in _sentences(row, where):
            sample_id = _sentence_id(row, sentence, where)
            if sample_id in seen:
                raise DataError(f"{where}: the sentence {sample_id} stands twice: make ids unique")
            seen.add(sample_id)
    named.sort(key=lambda item: item[0])

    def pair(where: str, item: tuple[str, _Row, _Row]) -> list[RawDocument]:
        name, row, sentence = item
        media = image_file(picture_path(folder, name, where))
        text = text_field(sentence, "raw", where).strip()
        extra = others(row, "sentences", "sentids")
        return [image_pair(_sentence_id(row, sentence, where), text, media, extra)]

    sentences = ((w, (name, row, s)) for name, w, row in named for s in _sentences(row, w))
    return documents_of(sentences, pair, skips)


def _objects(content: _Row, key: str, path: str) -> Iterator[tuple[str, _Row]]:
    for number, row in enumerate(list_field(content, key, path)):
        where = f"{path}, {key}[{number}]"
        if not isinstance(row, dict):
            raise DataError(f"{where} must be a JSON object")
        yield where, row


def _sentences(row: _Row, where: str) -> list[_Row]:
    sentences = list_field(row, "sentences", where)
    if not all(isinstance(sentence, dict) for sentence in sentences):
        raise DataError(f"{where}: 'sentences' must hold JSON objects")
    return sentences


def _sentence_id(row: _Row, sentence: _Row, where: str) -> str:
    return f"{int_field(row, 'imgid', where)}-{int_field(sentence, 'sentid', where)}"
