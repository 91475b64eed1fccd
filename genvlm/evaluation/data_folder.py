"""Files of a benchmark in a folder: plain or gzip, within bounds, compared with the published."""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genvlm.errors import DataError

MAX_BYTES = 2**30
"""Of one uncompressed file."""


def read_file(path: Path) -> bytes:
    """The content of a file, uncompressed where its name ends in .gz.

    Raises:
        DataError: missing, a folder, damaged, or over a gigabyte.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder: name a file in it")
    try:
        if path.suffix != ".gz":
            if path.stat().st_size > MAX_BYTES:
                raise DataError(f"{path} is larger than {MAX_BYTES >> 30} GiB: split it")
            return path.read_bytes()
        with gzip.open(path) as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise DataError(f"no file {path}: check the path") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}): fetch or write it anew") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{path} holds more than {MAX_BYTES >> 30} GiB: split it")
    return content


def parse_lines(content: bytes, where: object) -> list[str]:
    """Lines of UTF-8 text. Raises DataError naming `where`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is no UTF-8 text ({error}): save it as such") from None
    # Not splitlines: captions may hold U+2028 or U+0085, which end no line of a file.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def parse_json(content: bytes, where: object) -> Any:
    """JSON. Raises DataError naming `where`."""
    if not content.strip():
        raise DataError(f"{where} is empty: fetch or write it anew")
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except ValueError as error:
        raise DataError(f"{where} is no JSON ({error}): fetch or write it anew") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} occurs twice; remove one")
    return found


def parse_jsonl(content: bytes, where: object) -> list[dict[str, Any]]:
    """One JSON object a line; empty lines are skipped. Raises DataError naming the line."""
    rows = []
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            row = parse_json(line, f"{where}, line {number},")
            if not isinstance(row, dict):
                raise DataError(f"{where}, line {number}, is no JSON object")
            rows.append(row)
    return rows


def read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The objects of a JSON list or of JSON lines, each after its place for errors.

    Raises:
        DataError: neither of the two, or an entry that is no object; it is named.
    """
    content = read_file(path)
    if not content.lstrip().startswith(b"["):
        rows = parse_jsonl(content, path)
        return [(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]
    places = [
        (f"{path}, entry {number}", row)
        for number, row in enumerate(parse_json(content, path), start=1)
    ]
    return [(where, check_object(row, where)) for where, row in places]


def check_object(value: Any, where: object) -> dict[str, Any]:
    """The value itself. Raises DataError: it is no JSON object."""
    if not isinstance(value, dict):
        raise DataError(f"{where} is no JSON object: is it another file?")
    return value


def text_field(row: Mapping[str, Any], names: str | Sequence[str], where: object) -> str:
    """The first of these fields that is there; a whole number is given as its digits.

    Raises:
        DataError: none of them is there as text.
    """
    wanted = [names] if isinstance(names, str) else names
    for name in wanted:
        value = row.get(name)
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
    raise DataError(
        f"{where} needs {' or '.join(wanted)} as text, and has {', '.join(row) or 'no field'}"
    )


def parse_csv(content: bytes, where: object, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Rows by column name. Raises DataError: a column that is needed is missing."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        names, rows = reader.fieldnames or (), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where} is no CSV in UTF-8 ({error}): save it as such") from None
    missing = [name for name in columns if name not in names]
    if missing:
        raise DataError(f"{where} lacks the column {missing[0]!r}: is it another file?")
    short = next((k for k, row in enumerate(rows, 2) if None in row.values()), None)
    if short is not None:
        raise DataError(
            f"{where}, row {short}, has fewer cells than the head: fetch or write it anew"
        )
    return rows


@dataclass(frozen=True)
class DataFolder:
    """A folder laid out like the `eval/data` that ships with the package."""

    root: Path

    def read(self, name: str) -> bytes:
        """The file `NAME`, or `NAME.gz` uncompressed. Raises DataError: neither is there."""
        for path in (self.root / name, self.root / f"{name}.gz"):
            if path.is_file():
                return read_file(path)
        raise DataError(f"{self.root} holds neither {name} nor {name}.gz: name the right --data")

    def has(self, name: str) -> bool:
        """Whether the file is there, plain or compressed."""
        return any((self.root / n).is_file() for n in (name, f"{name}.gz"))

    def lines(self, name: str) -> list[str]:
        """The lines of a text file."""
        return parse_lines(self.read(name), self.root / name)

    def json(self, name: str) -> Any:
        """The JSON of a file."""
        return parse_json(self.read(name), self.root / name)

    def jsonl(self, name: str) -> list[dict[str, Any]]:
        """The JSON objects of a file."""
        return parse_jsonl(self.read(name), self.root / name)

    def csv(self, name: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
        """The rows of a file, which has at least these columns."""
        return parse_csv(self.read(name), self.root / name, columns)

    def changed(self, names: list[str], published: Mapping[str, str]) -> str:
        """Empty where these files are the published ones, else a mark for the version.

        Args:
            published: sha256 by name.
        """
        digests = {name: hashlib.sha256(self.read(name)).hexdigest() for name in names}
        if all(published.get(name) == digest for name, digest in digests.items()):
            return ""
        joined = "".join(digests[name] for name in sorted(digests))
        return hashlib.sha256(joined.encode()).hexdigest()[:12]
