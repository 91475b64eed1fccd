"""OBELICS and MMC4: order of texts and pictures, and pictures that nobody could download."""

from pathlib import Path
from typing import Any

import pytest

from genvlm.config.data import Mmc4Source, ObelicsSource
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import RawDocument
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError, DataWarning
from genvlm.testing.files import write_files, write_json_lines

MMC4 = {
    "url": "http://x",
    "text_list": ["zero", "one", "two"],
    "image_info": [
        {"image_name": "c.jpg", "matched_text_index": 2, "matched_sim": 0.3},
        {"image_name": "a.jpg", "matched_text_index": 0},
        {"image_name": "d.jpg", "matched_text_index": 2},
    ],
}
OBELICS = {
    "texts": ["first", None, "second", None],
    "images": [None, "http://x/a", None, "http://x/b"],
    "metadata": "[]",
}
URLS = [{"url": "http://x/a", "path": "a.jpg"}, {"url": "http://x/b", "path": "0/b.jpg"}]


def _mmc4(folder: Path, row: object, skips: SkipBudget | None = None) -> list[RawDocument]:
    path = write_json_lines(folder / "docs_shard_0.jsonl", [row])
    return list(open_source(Mmc4Source(path=str(path), images=str(folder / "images")), skips))


def _obelics(folder: Path, *rows: object, urls: list[Any] = URLS) -> list[RawDocument]:
    write_json_lines(folder / "images/images.jsonl", urls)
    path = write_json_lines(folder / "obelics.jsonl", rows)
    return list(open_source(ObelicsSource(path=str(path), images=str(folder / "images"))))


def _order(document: RawDocument) -> list[str]:
    return [s if isinstance(s, str) else Path(s.name).name for s in document.segments]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    names = ("a.jpg", "c.jpg", "d.jpg", "0/b.jpg")
    return write_files(tmp_path, {f"images/{name}": b"x" for name in names})


def test_a_picture_of_mmc4_stands_before_its_sentence(folder: Path) -> None:
    (document,) = _mmc4(folder, MMC4)
    assert _order(document) == ["a.jpg", "zero", "one", "c.jpg", "d.jpg", "two"]
    assert document.id == "docs_shard_0-1"
    assert document.extra["url"] == "http://x"


def test_texts_and_pictures_of_obelics_take_turns(folder: Path) -> None:
    (document,) = _obelics(folder, OBELICS)
    assert _order(document) == ["first", "a.jpg", "second", "b.jpg"]
    assert (document.id, document.extra) == ("obelics-1", {"metadata": "[]"})


def test_pictures_that_were_not_downloaded_are_left_out_counted_and_named(folder: Path) -> None:
    (folder / "images/c.jpg").unlink()
    with pytest.warns(DataWarning, match=r"1 of 3 pictures .* such as c\.jpg"):
        (document,) = _mmc4(folder, MMC4)
    assert _order(document) == ["a.jpg", "zero", "one", "d.jpg", "two"]
    assert document.extra["missing_images"] == ["c.jpg"]
    with pytest.warns(DataWarning, match=r"1 of 2 pictures .* such as http://x/b"):
        (document,) = _obelics(folder, OBELICS, urls=URLS[:1])
    assert _order(document) == ["first", "a.jpg", "second"]
    assert document.extra["missing_images"] == ["http://x/b"]


def test_a_folder_that_holds_none_of_the_pictures_is_refused(folder: Path) -> None:
    elsewhere = {"image_info": [{"image_name": "z.jpg", "matched_text_index": 0}]}
    with pytest.raises(DataError, match=r"none of 1 pictures .* is in .*images"):
        _mmc4(folder, MMC4 | elsewhere)
    with pytest.raises(DataError, match="no folder of the pictures"):
        list(open_source(Mmc4Source(path="x", images=str(folder / "no"))))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"text_list": None}, "'text_list'"),
        ({"text_list": ["zero", 1, "two"]}, "sentence 1 is not a text"),
        ({"text_list": ["zero", " ", "two"]}, "sentence 1 is empty"),
        ({"text_list": [], "image_info": []}, "'text_list' is empty"),
        ({"image_info": ["a.jpg"]}, "JSON objects"),
        ({"image_info": [{"image_name": "a.jpg"}]}, "'matched_text_index'"),
        ({"image_info": [{"image_name": "a.jpg", "matched_text_index": 3}]}, "sentence 3 of 3"),
        ({"image_info": [{"image_name": "a.jpg", "matched_text_index": -1}]}, "sentence -1"),
        ({"image_info": [{"image_name": "../a.jpg", "matched_text_index": 0}]}, "inside"),
    ],
)
def test_faults_of_mmc4_name_their_line(
    folder: Path, change: dict[str, object], fault: str
) -> None:
    with pytest.raises(DataError, match=f"line 1: .*{fault}"):
        _mmc4(folder, MMC4 | change)
    skips = SkipBudget(1.0)
    assert _mmc4(folder, MMC4 | change, skips) == []
    assert skips.num_skipped == 1


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"texts": None}, "'texts'"),
        ({"texts": ["a"]}, "1 'texts' but 4 'images'"),
        ({"texts": ["first", "both", "second", None]}, "place 1 must hold one"),
        ({"texts": [None, None, "second", None]}, "place 0 must hold one"),
        ({"texts": [3, None, "second", None]}, "place 0 must hold one"),
        ({"texts": [" ", None, "second", None]}, "is empty"),
    ],
)
def test_faults_of_obelics_name_their_line(
    folder: Path, change: dict[str, object], fault: str
) -> None:
    with pytest.raises(DataError, match=f"line 2: .*{fault}"):
        _obelics(folder, OBELICS, OBELICS | change)


@pytest.mark.parametrize(
    ("urls", "fault"),
    [
        ([*URLS, URLS[0]], "line 3: the URL 'http://x/a' stands twice"),
        ([{"url": "http://x/a", "path": "../secret.jpg"}], "line 1: .*inside"),
    ],
)
def test_faults_of_the_list_of_urls_are_named(folder: Path, urls: list[Any], fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        _obelics(folder, OBELICS, urls=urls)
