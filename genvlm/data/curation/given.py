"""Scores and captions of pictures that a file or a model gives.

What a model gave is kept in a file, a block of pictures a line, so that a resumed run goes on
behind the last whole block. Blocks are cut from the first picture on: a model that computes a
little differently in another batch still gives the same numbers.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from genvlm.data.curation.store import Progress
from genvlm.data.images import RGBImage
from genvlm.data.rows import read_rows
from genvlm.errors import DataError

PairScorer = Callable[[Sequence[RGBImage], Sequence[str]], Sequence[float]]
"""Scores of pictures with their captions; higher is better."""
Captioner = Callable[[Sequence[RGBImage]], Sequence[str]]
"""A caption of each picture; "" where it says nothing."""

BLOCK = 32
Value = TypeVar("Value")


def read_values(path: Path, key: str, kinds: type | tuple[type, ...]) -> dict[str, Any]:
    """The field `key` of a JSONL file by the field `id`.

    Raises:
        DataError: a line lacks one of them, or an id stands twice.
    """
    found: dict[str, Any] = {}
    for number, row in read_rows(path):
        where = f"{path} line {number}"
        document, value = row.get("id"), row.get(key)
        if not isinstance(document, str) or not isinstance(value, kinds) or value is True:
            raise DataError(f'{where}: expected {{"id": text, "{key}": ...}}, got {row}'[:300])
        if document in found:
            raise DataError(f"{where}: the id {document!r} stands twice: make ids unique")
        found[document] = value
    return found


def values_of(given: Mapping[str, Value], ids: Sequence[str], path: Path) -> list[Value]:
    """Values of all ids, in their order. Raises DataError: some have none."""
    missing = [document for document in ids if document not in given]
    if missing:
        raise DataError(
            f"{path} says nothing of {len(missing)} of {len(ids)} documents, such as "
            f"{missing[0]!r}: add them"
        )
    return [given[document] for document in ids]


def compute_values(
    path: Path,
    ids: Sequence[str],
    pictures: Callable[[Sequence[int]], Iterator[tuple[str, RGBImage]]],
    compute: Callable[[Sequence[RGBImage], Sequence[str]], Sequence[Value]],
    progress: Progress,
) -> list[Value]:
    """What a model gives for each picture; `path` keeps it.

    Args:
        ids: of the pictures.
        pictures: reads caption and pixels of those at these places of `ids`, in this order.

    Raises:
        DataError: `path` is of other pictures.
    """
    blocks = [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]
    done = _whole_lines(path)
    values: list[Value] = []
    for number, row in enumerate(done):
        if number >= len(blocks) or row["ids"] != list(blocks[number]):
            raise DataError(f"{path} is of other pictures: delete it, it is made again")
        values += row["values"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in done), "utf-8")
    rest = pictures(range(len(values), len(ids)))
    with path.open("a", encoding="utf-8") as file:
        for block in blocks[len(done) :]:
            captions, images = zip(*islice(rest, len(block)), strict=True)
            new = list(compute(images, captions))
            values += new
            file.write(json.dumps({"ids": block, "values": new}, ensure_ascii=False) + "\n")
            file.flush()
            progress(len(values), len(ids))
    return values


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a file whose last line may have been cut by a kill."""
    if not path.is_file():
        return []
    lines = path.read_text("utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): delete it, it is made again") from None
