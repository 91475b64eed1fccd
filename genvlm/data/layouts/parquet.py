"""Parquet files of pictures and texts, read a few rows at a time."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from genvlm.config.data import ParquetSource
from genvlm.data.layouts.file_lists import list_files
from genvlm.data.layouts.samples import documents_of, image_pair
from genvlm.data.raw import Media, RawDocument
from genvlm.data.rows import text_field
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError

_BUFFER = 1 << 20
"""Bytes of a column that are read ahead; without, those of a whole row group are."""
_ROWS = 32
"""Rows in memory: 32 photographs of a few MB."""


def read_parquet(source: ParquetSource, skips: SkipBudget) -> Iterator[RawDocument]:
    """Pairs in the order of files and rows; ids are those of the column, or file and row.

    `extra` holds the other columns of numbers, texts and booleans.
    """
    seen: set[str] = set()
    wanted = [source.image, source.text, *([source.id] if source.id else [])]

    def pair(where: str, item: tuple[str, dict[str, Any]]) -> list[RawDocument]:
        sample_id, row = item
        if source.id is not None:
            sample_id = str(row[source.id])
            if row[source.id] is None or sample_id in seen:
                raise DataError(f"{where}: the id {sample_id!r} is null or stands twice")
            seen.add(sample_id)
        text = text_field(row, source.text, where)
        media = Media(kind="image", name=where, content=_picture(row, source.image, where))
        extra = {key: value for key, value in row.items() if key not in wanted}
        return [image_pair(sample_id, text, media, extra)]

    for name, path in list_files(source.paths):
        rows = (
            (f"{path} row {number}", (f"{name}/{number}", row))
            for number, row in parquet_rows(path, wanted)
        )
        yield from documents_of(rows, pair, skips)


def _picture(row: dict[str, Any], column: str, where: str) -> bytes:
    value = row[column]
    content = value.get("bytes") if isinstance(value, dict) else value
    if content is None:
        raise DataError(f"{where}: {column!r} holds no bytes")
    if not isinstance(content, bytes):
        raise DataError(f"{where}: {column!r} must hold the bytes of a picture file")
    return content


def parquet_rows(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Numbers and rows, of the wanted columns and of those with plain numbers, texts, booleans.

    Raises:
        DataError: pyarrow is missing, no Parquet file, damaged, or without a wanted column.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{path} needs pyarrow to be read: pip install 'genvlm[parquet]'") from None
    try:
        with parquet.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False) as file:
            schema = file.schema_arrow
            for column in wanted:
                if column not in schema.names:
                    raise DataError(
                        f"{path} has no column {column!r}, only {', '.join(schema.names)}: name "
                        "others in a YAML, `sources: [{kind: parquet, paths: [FILE], "
                        "image: COLUMN, text: COLUMN}]`"
                    )
            columns = [f.name for f in schema if f.name in wanted or _is_plain(f.type, pa)]
            number = 0
            for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
                for row in batch.to_pylist():
                    yield number, {key: _finite(value) for key, value in row.items()}
                    number += 1
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        sentence = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is damaged or no Parquet file ({sentence})") from None


def _is_plain(kind: Any, pa: Any) -> bool:
    checks = pa.types
    return (
        checks.is_boolean(kind)
        or checks.is_integer(kind)
        or checks.is_floating(kind)
        or checks.is_string(kind)
        or checks.is_large_string(kind)
    )


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
