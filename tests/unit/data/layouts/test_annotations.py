"""COCO's captions and Karpathy's splits: a pair for each caption, and every fault has its place."""

import json
from pathlib import Path
from typing import Any

import pytest

from genvlm.config.data import CocoSource, KarpathySource
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media, RawDocument
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError
from genvlm.testing.files import picture_bytes, write_files

COCO: dict[str, Any] = {
    "info": {"year": 2017},
    "images": [
        {"id": 9, "file_name": "b.jpg", "coco_url": "http://x/b"},
        {"id": 4, "file_name": "a.jpg"},
        {"id": 5, "file_name": "without_captions.jpg"},
    ],
    "annotations": [
        {"id": 31, "image_id": 4, "caption": "a dog."},
        {"id": 7, "image_id": 9, "caption": "two cows\n"},
        {"id": 12, "image_id": 4, "caption": "one dog"},
    ],
}
KARPATHY: dict[str, Any] = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": "2.jpg",
            "imgid": 0,
            "split": "restval",
            "cocoid": 42,
            "sentids": [5, 6],
            "sentences": [
                {"sentid": 5, "imgid": 0, "raw": "a cat", "tokens": ["a", "cat"]},
                {"sentid": 6, "imgid": 0, "raw": "the cat"},
            ],
        },
        {"filename": "1.jpg", "imgid": 1, "split": "test", "sentences": []},
        {
            "filepath": "train2014",
            "filename": "3.jpg",
            "imgid": 2,
            "split": "train",
            "sentences": [{"sentid": 9, "raw": "a bus"}],
        },
    ],
}


def _coco(folder: Path, content: object, skips: SkipBudget | None = None) -> list[RawDocument]:
    path = folder / "captions.json"
    path.write_text(json.dumps(content))
    return list(open_source(CocoSource(annotations=str(path), images=str(folder)), skips))


def _karpathy(folder: Path, content: object, **options: Any) -> list[RawDocument]:
    path = folder / "dataset_coco.json"
    path.write_text(json.dumps(content))
    source = KarpathySource(annotations=str(path), images=str(folder), **options)
    return list(open_source(source))


def _changed(content: dict[str, Any], key: str, number: int, **change: object) -> dict[str, Any]:
    rows = [dict(row) for row in content[key]]
    rows[number] |= change
    return content | {key: [{k: v for k, v in row.items() if v is not None} for row in rows]}


def test_each_caption_of_coco_is_a_pair_with_what_else_is_known_of_it(tmp_path: Path) -> None:
    documents = _coco(tmp_path, COCO)
    assert [(d.id, d.segments[0]) for d in documents] == [
        ("4-12", "one dog"), ("4-31", "a dog."), ("9-7", "two cows"),
    ]  # fmt: skip
    assert documents[2].extra == {"image_id": 9, "file_name": "b.jpg", "coco_url": "http://x/b"}
    picture = documents[2].segments[1]
    assert isinstance(picture, Media)
    assert picture.path == tmp_path / "b.jpg"


def test_a_picture_of_coco_that_is_missing_is_named_when_it_is_read(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.jpg": picture_bytes()})
    here, _, gone = (d.segments[1] for d in _coco(tmp_path, COCO))
    assert isinstance(here, Media)
    assert isinstance(gone, Media)
    assert here.read() == picture_bytes()
    with pytest.raises(DataError, match=r"b\.jpg cannot be read \(No such file"):
        gone.read()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([], "must hold a JSON object"),
        ({"images": []}, "'annotations' is missing"),
        ({"images": [3], "annotations": []}, r"images\[0\] must be"),
        ({"images": [], "annotations": []}, "holds no captions"),
        (_changed(COCO, "images", 1, id=9), r"images\[1\]: the image id 9 stands twice"),
        (_changed(COCO, "images", 1, id="9"), r"images\[1\]: key 'id'"),
        (_changed(COCO, "images", 1, file_name=None), "'file_name' is missing"),
        (_changed(COCO, "images", 1, file_name="../a.jpg"), "inside"),
        (_changed(COCO, "images", 1, file_name="/etc/passwd"), "inside"),
        (_changed(COCO, "annotations", 1, caption=None), "not instances"),
        (_changed(COCO, "annotations", 1, image_id=77), "no image has the id 77"),
        (_changed(COCO, "annotations", 1, id=31), "annotation id 31 stands twice"),
        (_changed(COCO, "annotations", 1, caption=" "), r"annotations\[1\]: 'caption' is empty"),
    ],
)
def test_faults_of_a_coco_file_are_named(tmp_path: Path, content: object, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        _coco(tmp_path, content)


def test_a_blank_caption_of_coco_is_counted_within_the_budget(tmp_path: Path) -> None:
    skips = SkipBudget(0.5)
    documents = _coco(tmp_path, _changed(COCO, "annotations", 1, caption="\n"), skips)
    assert [d.id for d in documents] == ["4-12", "4-31"]
    assert skips.num_skipped == 1
    assert "annotations[1]" in skips.examples[0].id


def test_sentences_of_the_chosen_splits_are_pairs_in_the_order_of_paths(tmp_path: Path) -> None:
    documents = _karpathy(tmp_path, KARPATHY)
    assert [(d.id, d.segments[0]) for d in documents] == [
        ("2-9", "a bus"), ("0-5", "a cat"), ("0-6", "the cat"),
    ]  # fmt: skip
    picture = documents[1].segments[1]
    assert isinstance(picture, Media)
    assert picture.path == tmp_path / "val2014/2.jpg"
    assert documents[1].extra["cocoid"] == 42
    assert [d.id for d in _karpathy(tmp_path, KARPATHY, splits=("train",))] == ["2-9"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            {"images": KARPATHY["images"][1:2]},
            "no image of the splits train, restval, only of test",
        ),
        (_changed(KARPATHY, "images", 0, filename=None), r"images\[0\]: key 'filename'"),
        (_changed(KARPATHY, "images", 0, filepath=".."), "inside"),
        (_changed(KARPATHY, "images", 0, sentences=["a"]), "must hold JSON objects"),
        (_changed(KARPATHY, "images", 0, sentences=[{"sentid": 1}]), "'raw' is missing"),
        (_changed(KARPATHY, "images", 2, imgid=0, sentences=[{"sentid": 5}]), "0-5 stands twice"),
        (_changed(KARPATHY, "images", 0, split=None), "'split' is missing"),
    ],
)
def test_faults_of_a_karpathy_file_are_named(tmp_path: Path, content: object, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        _karpathy(tmp_path, content)
