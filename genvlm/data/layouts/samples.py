"""What all layouts share: rows become documents, and a row that does not fit is counted."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from genvlm.data.raw import Media, RawDocument
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError

Row = TypeVar("Row")


def documents_of(
    rows: Iterable[tuple[str, Row]],
    parse: Callable[[str, Row], Iterable[RawDocument]],
    skips: SkipBudget,
) -> Iterator[RawDocument]:
    """Documents of rows; one that `parse` finds damaged (DataError) is skipped within `skips`.

    Args:
        rows: each with where it stands, for messages.
    """
    for where, row in rows:
        try:
            documents = list(parse(where, row))
        except DataError as error:
            skips.skip(where, str(error))
            continue
        yield from documents


def image_pair(
    sample_id: str, text: str, image: Media, extra: Mapping[str, Any] | None = None
) -> RawDocument:
    """A text and its picture or clip."""
    return RawDocument(id=sample_id, segments=(text, image), kind="pair", extra=extra or {})


def image_file(path: Path) -> Media:
    """A picture that is a file."""
    return Media(kind="image", name=str(path), path=path)


def list_field(row: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """A list that may be empty. Raises DataError, with `where` in front."""
    value = row.get(key)
    if not isinstance(value, list):
        raise DataError(f"{where}: key {key!r} is missing or not a list")
    return value


def int_field(row: Mapping[str, Any], key: str, where: str) -> int:
    """A whole number. Raises DataError, with `where` in front."""
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where}: key {key!r} is missing or not a whole number")
    return value


def others(row: Mapping[str, Any], *read: str) -> dict[str, Any]:
    """What a row says beyond the keys that were read."""
    return {key: value for key, value in row.items() if key not in read}
