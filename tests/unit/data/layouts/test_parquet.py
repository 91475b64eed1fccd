"""Parquet files made by pyarrow: pairs, and OBELICS' documents."""

from pathlib import Path
from typing import Any

import pytest

from genvlm.config.data import ObelicsSource, ParquetSource
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media, RawDocument
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError
from genvlm.testing.files import picture_bytes, write_files, write_json_lines

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def _write(path: Path, columns: dict[str, Any], rows_per_group: int = 2) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=rows_per_group)
    return path


def _read(*paths: Path, skips: SkipBudget | None = None, **options: Any) -> list[RawDocument]:
    return list(open_source(ParquetSource(paths=tuple(map(str, paths)), **options), skips))


def _columns(num: int = 5) -> dict[str, Any]:
    return {
        "image": [{"bytes": picture_bytes(level), "path": None} for level in range(num)],
        "text": [f"level {level}" for level in range(num)],
        "key": [100 + level for level in range(num)],
        "similarity": [0.5 if level else float("nan") for level in range(num)],
        "embedding": [[0.0, 1.0]] * num,
    }


def test_rows_are_pairs_with_the_plain_columns_beside(tmp_path: Path) -> None:
    documents = _read(_write(tmp_path / "a.parquet", _columns()))
    assert [d.id for d in documents] == [f"a.parquet/{n}" for n in range(5)]
    assert [d.segments[0] for d in documents] == [f"level {n}" for n in range(5)]
    pictures = [d.segments[1] for d in documents]
    assert [p.read() for p in pictures if isinstance(p, Media)] == [
        picture_bytes(level) for level in range(5)
    ]
    assert [d.extra for d in documents[:2]] == [
        {"key": 100, "similarity": None}, {"key": 101, "similarity": 0.5},
    ]  # fmt: skip


def test_columns_of_other_names_and_plain_bytes_are_read(tmp_path: Path) -> None:
    columns = {"jpg": [picture_bytes(1)], "caption": ["one"], "key": [7]}
    path = _write(tmp_path / "a.parquet", columns)
    (document,) = _read(path, image="jpg", text="caption", id="key")
    assert (document.id, document.segments[0], document.extra) == ("7", "one", {})


@pytest.mark.parametrize(
    ("change", "options", "fault"),
    [
        ({}, {"image": "jpg"}, "no column 'jpg', only image, text, key, .*: name others in a YAML"),
        ({"text": ["a", None, "c", "d", "e"]}, {}, "row 1: key 'text'"),
        ({"text": ["a", " ", "c", "d", "e"]}, {}, "row 1: 'text' is empty"),
        ({"image": [b"a", None, b"c", b"d", b"e"]}, {}, "row 1: 'image' holds no bytes"),
        ({"image": [{"bytes": None, "path": "a.jpg"}] * 5}, {}, "row 0: 'image' holds no bytes"),
        ({"image": ["a.jpg"] * 5}, {}, "row 0: 'image' must hold the bytes"),
        ({"key": [1, 2, 1, 3, 4]}, {"id": "key"}, "row 2: the id '1' is null or stands twice"),
        ({"key": [1, None, 2, 3, 4]}, {"id": "key"}, "row 1: the id 'None'"),
    ],
)
def test_a_column_or_row_that_does_not_fit_is_named(
    tmp_path: Path, change: dict[str, Any], options: dict[str, str], fault: str
) -> None:
    path = _write(tmp_path / "a.parquet", _columns() | change)
    with pytest.raises(DataError, match=rf"a\.parquet .*{fault}"):
        _read(path, **options)


def test_damaged_rows_are_skipped_within_the_budget(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.parquet", _columns() | {"text": ["a", None, "c", "", "e"]})
    skips = SkipBudget(0.5)
    assert [d.id[-1] for d in _read(path, skips=skips)] == ["0", "2", "4"]
    assert skips.num_skipped == 2


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = _write(tmp_path / "a.parquet", _columns())
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[4:200] = b"\xff" * 196  # the first page
    content = {"cut": whole[:-9], "flipped": bytes(flipped), "text": b"text", "empty": b""}
    path.write_bytes(content[damage])
    with pytest.raises(DataError, match=r"a\.parquet is damaged or no Parquet file"):
        _read(path)


def test_documents_of_obelics_are_read_from_parquet(tmp_path: Path) -> None:
    write_files(tmp_path, {"images/a.jpg": picture_bytes()})
    write_json_lines(tmp_path / "images/images.jsonl", [{"url": "http://a", "path": "a.jpg"}])
    columns = {"texts": [["one", None]], "images": [[None, "http://a"]], "metadata": ["{}"]}
    path = _write(tmp_path / "docs.parquet", columns)
    (document,) = open_source(ObelicsSource(path=str(path), images=str(tmp_path / "images")))
    text, picture = document.segments
    assert isinstance(picture, Media)
    assert (document.id, text, picture.path) == ("docs-0", "one", tmp_path / "images/a.jpg")
    assert document.extra == {"metadata": "{}"}
