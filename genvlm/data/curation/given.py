"""Scores and captions of pictures that a file or a model gives.

What a model gave is kept in a file, a block of pictures a line, so that a resumed run goes on
behind the last block that can be read. Blocks are cut from the first picture on: a model that
computes a little differently in another batch still gives the same numbers.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from genvlm.data.curation.store import Progress
from genvlm.data.images import RGBImage
from genvlm.data.rows import read_rows
from genvlm.errors import DataError
from genvlm.nn.whole_files import make_folders, storage_errors

BLOCK = 32
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class PairScorer:
    """A model that scores pictures with their captions."""

    fingerprint: str
    """Of its weights and of how it scores: what another one gave is not used."""
    score: Callable[[Sequence[RGBImage], Sequence[str]], Sequence[float]]
    """Higher is better."""


@dataclass(frozen=True, kw_only=True)
class Captioner:
    """A model that says what a picture shows."""

    fingerprint: str
    """Of its weights and of how it samples: what another one gave is not used."""
    caption: Callable[[Sequence[RGBImage]], Sequence[str]]
    """"" where it says nothing."""


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
        StorageError: the disk is full, read-only or gone.
    """
    blocks = [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]
    done, size = _readable_lines(path)
    values: list[Value] = []
    for number, row in enumerate(done):
        if number >= len(blocks) or row["ids"] != list(blocks[number]):
            raise DataError(f"{path} is of other pictures: delete it, it is made again")
        values += row["values"]
    make_folders(path.parent)
    with storage_errors(path, "what the model gave before is kept"):
        if path.is_file():
            os.truncate(path, size)
    rest = pictures(range(len(values), len(ids)))
    for block in blocks[len(done) :]:
        captions, images = zip(*islice(rest, len(block)), strict=True)
        new = list(compute(images, captions))
        values += new
        line = json.dumps({"ids": block, "values": new}, ensure_ascii=False) + "\n"
        with storage_errors(path, "what the model gave before is kept"), path.open("ab") as file:
            file.write(line.encode())
        progress(len(values), len(ids))
    return values


def _readable_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Rows up to the first that a kill or a loss of power cut, and their bytes."""
    rows: list[dict[str, Any]] = []
    size = 0
    if not path.is_file():
        return rows, size
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line) if line.endswith(b"\n") else {}
                if len(row["ids"]) != len(row["values"]):
                    break
            except (ValueError, KeyError, TypeError):
                break
            rows.append(row)
            size += len(line)
    return rows, size
