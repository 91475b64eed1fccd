"""Rows of JSON and JSONL files, and their fields; file and line are named when one does not fit."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genvlm.data.images import inner_path
from genvlm.errors import DataError

_MAX_LINE = 1 << 26
"""Bytes. A file without line ends would else be read into memory as a whole."""


def read_text_file(path: Path) -> str:
    """Raises DataError: no such file, or not UTF-8."""
    if not path.is_file():
        raise DataError(f"no file at {path}: check the path")
    try:
        return path.read_text(encoding="utf-8-sig")  # a byte order mark is no part of a name
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error.start) from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises DataError: missing, not UTF-8, not JSON, or no object."""
    try:
        content = json.loads(read_text_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} must hold a JSON object")
    return content


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Numbers and objects of the lines of a JSONL file, read as they are asked for.

    Raises:
        DataError: no such file, one without rows, or a line that is no JSON object.
    """
    if not path.is_file():
        raise DataError(f"no file at {path}: check the path")
    empty = True
    for number, line in _lines(path):
        if not line.strip():
            continue
        empty = False
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} line {number} is not JSON ({error})") from None
        if not isinstance(row, dict):
            raise DataError(f"{path} line {number} must be a JSON object")
        yield number, row
    if empty:
        raise DataError(f"{path} is empty: give one JSON object a line")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    # As bytes: JSON texts may hold U+2028 and its like, which end no line of JSONL.
    start = 0
    with path.open("rb") as file:
        for number, raw in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), 1):
            if len(raw) == _MAX_LINE and not raw.endswith(b"\n"):
                raise DataError(
                    f"{path} line {number} has more than {_MAX_LINE >> 20} MB: is it JSONL?"
                )
            try:
                yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, start + error.start) from None
            start += len(raw)


def _not_utf8(path: Path, byte: int) -> DataError:
    return DataError(f"{path} is not valid UTF-8 (byte {byte}): save it as UTF-8")


def text_field(row: dict[str, object], key: str, where: str) -> str:
    """A text that is not blank. Raises DataError, with `where` in front."""
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{where}: key {key!r} is missing or not a text")
    return checked_text(value, repr(key), where)


def checked_text(text: str, name: str, where: str) -> str:
    """The text. Raises DataError: it is blank, or no valid Unicode."""
    if not text.strip():
        raise DataError(f"{where}: {name} is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"{where}: {name} holds half of a surrogate pair, which is no character: mend its "
            "\\u escapes"
        ) from None
    return text


def inner_path_field(row: dict[str, object], where: str, folder: Path, key: str = "image") -> str:
    """The path of a picture or video in `folder`, relative to it. Raises as `inner_path`."""
    name = text_field(row, key, where)
    inner_path(folder, name, where, "video" if key == "video" else "picture")
    return name
