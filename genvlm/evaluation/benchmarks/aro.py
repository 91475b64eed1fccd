"""ARO: relations, attributes and word order (Yuksekgonul et al. 2023).

https://arxiv.org/abs/2210.01936. Nothing ships; files of the official format are read.
"""

import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from genvlm.data.images import Box, ImageFiles, picture_path
from genvlm.errors import DataError
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, check_object, text_field
from genvlm.scoring.ngram import FoldItem
from genvlm.scoring.protocols import Grid

PARTS = ("vg-relation", "vg-attribution", "coco-order", "flickr-order")
_FILES = {
    "vg-relation": "aro/visual_genome_relation.json",
    "vg-attribution": "aro/visual_genome_attribution.json",
    "coco-order": "aro/coco_order.json",
    "flickr-order": "aro/flickr_order.json",
}
_NUM_ORDERS = 5
# Of the n-gram control, by picture.
_NUM_FOLDS = 5
_BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")


class _Row(NamedTuple):
    id: str
    image: str
    box: Box | None
    texts: list[str]
    """The true one first."""
    tags: tuple[str, ...]


def build_aro(data: DataFolder, part: str, images: Path | None) -> Benchmark:
    """One picture an item and its texts, the true one first; scorers see them shuffled.

    Pictures of Visual Genome are cropped to the box of the row.

    Raises:
        DataError: a row without what it needs; file and row are named.
    """
    card = load_card("aro-order" if part.endswith("-order") else f"aro-{part}")
    folder = images or data.root / "aro/images"
    name = _FILES[part]
    items = []
    seen: Counter[str] = Counter()
    for row in _rows(data, part):
        seen[row.id] += 1
        item = row.id if seen[row.id] == 1 else f"{row.id}#{seen[row.id]}"
        boxes = None if row.box is None else [row.box]
        path = picture_path(folder, row.image, f"{data.root / name}: {item!r}")
        grid = Grid(
            item_id=item,
            images=ImageFiles([path], card.fetch, boxes),
            texts=row.texts,
        )
        items.append(Item(grid=grid, group=row.image, target=0, tags=row.tags))
    natural = {
        item.id: FoldItem(
            fold=str(zlib.crc32(item.group.encode()) % _NUM_FOLDS),
            image=item.group,
            texts=item.grid.texts,
            natural=[item.grid.texts[0]],
        )
        for item in items
    }
    options = {"part": (part, "")} if part.endswith("-order") else {}
    version = build_version(card, **options, data=(data.changed([name], card.files), ""))
    return Benchmark(card.name, tuple(items), card, version, natural=natural)


def _rows(data: DataFolder, part: str) -> Iterator[_Row]:
    where = data.root / _FILES[part]
    found = data.json(_FILES[part])
    if not isinstance(found, list):
        raise DataError(f"{where} is no list: expected the official format of ARO")
    for number, row in enumerate(found, start=1):
        place = f"{where}, entry {number}"
        check_object(row, place)
        yield _order(row, place) if part.endswith("-order") else _pair(row, part, place)


def _pair(row: dict[str, Any], part: str, place: str) -> _Row:
    told = [row.get(name) for name in _BOX]
    sides = [side for side in told if isinstance(side, int)]
    if len(sides) != len(_BOX):
        raise DataError(f"{place} needs {', '.join(_BOX)} as whole numbers, got {told}")
    if part == "vg-relation":
        tag = f"relation: {text_field(row, 'relation_name', place)}"
    else:
        attributes = row.get("attributes")
        if not isinstance(attributes, list) or len(attributes) != 2:
            raise DataError(f"{place} needs two attributes, got {attributes!r}")
        tag = f"attributes: {attributes[0]}_{attributes[1]}"
    image = text_field(row, "image_path", place)
    texts = [text_field(row, name, place) for name in ("true_caption", "false_caption")]
    key = f"{image}/{','.join(map(str, sides))}/{texts[0]}"
    return _Row(key, image, Box(*sides), texts, (tag,))


def _order(row: dict[str, Any], place: str) -> _Row:
    told, image = row.get("caption_options"), text_field(row, "image", place)
    texts = [text for text in told if isinstance(text, str)] if isinstance(told, list) else []
    if len(texts) != _NUM_ORDERS or texts != told:
        raise DataError(
            f"{place} needs caption_options, a true caption and four shuffles, got {told!r}"
        )
    return _Row(f"{image}/{texts[0]}", image, None, texts, ())
