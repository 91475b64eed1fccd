"""A user's files: every fault is named with its file and line, and no path leads out."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from genvlm.data.readers import (
    GapFile,
    VideoFile,
    read_captions,
    read_classes,
    read_documents,
    read_labels,
    read_pairs,
)
from genvlm.errors import DataError

GOOD = {
    read_pairs: {"id": "good", "image": "a.png", "text": "a cow"},
    read_documents: {"id": "good", "segments": [{"text": "a cow"}, {"image": "a.png"}]},
}
Reader = Callable[[Path], list]


def _write(folder: Path, *rows: object) -> Path:
    path = folder / "rows.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _message(reader: Reader, path: Path) -> str:
    with pytest.raises(DataError) as raised:
        reader(path)
    message = str(raised.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("reader", GOOD)
@pytest.mark.parametrize("row", ["{", "[1]", "3", "null", '{"id": "x"', "[" * 100_000, {}])
def test_a_line_that_is_no_object_of_the_schema_is_named(
    tmp_path: Path, reader: Reader, row: object
) -> None:
    assert "line 3" in _message(reader, _write(tmp_path, GOOD[reader], "", row))


@pytest.mark.parametrize("change", [{"image": 3}, {"image": ""}, {"text": None}, {"text": " "}])
def test_a_wrong_field_of_a_pair_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    row = GOOD[read_pairs] | {"id": "other"} | change
    message = _message(read_pairs, _write(tmp_path, GOOD[read_pairs], row))
    assert "line 2" in message
    assert next(iter(change)) in message


@pytest.mark.parametrize(
    "change",
    [
        {"segments": None},
        {"segments": []},
        {"segments": {"text": "a"}},
        {"segments": ["a"]},
        {"segments": [{}]},
        {"segments": [{"text": ""}]},
        {"segments": [{"image": 1}]},
        {"segments": [{"text": "a", "image": "b"}]},
        {"loss": True},
        {"loss": [True]},
        {"loss": [1, 0]},
    ],
)
def test_a_wrong_field_of_a_document_is_named(tmp_path: Path, change: dict[str, object]) -> None:
    row = GOOD[read_documents] | {"id": "other"} | change
    assert "line 2" in _message(read_documents, _write(tmp_path, GOOD[read_documents], row))


@pytest.mark.parametrize("reader", GOOD)
@pytest.mark.parametrize("id_", [3, None, "", ["a"]])
def test_an_id_is_a_text(tmp_path: Path, reader: Reader, id_: object) -> None:
    message = _message(reader, _write(tmp_path, GOOD[reader] | {"id": id_}))
    assert "line 1: " in message
    assert "'id'" in message


@pytest.mark.parametrize("reader", GOOD)
def test_an_id_that_stands_twice_is_named(tmp_path: Path, reader: Reader) -> None:
    message = _message(reader, _write(tmp_path, GOOD[reader], GOOD[reader]))
    assert "line 2: the id 'good' stands twice" in message


def test_several_captions_of_one_picture_need_no_ids(tmp_path: Path) -> None:
    row = {"image": "a.png", "text": "a cow"}
    assert [p.id for p in read_pairs(_write(tmp_path, row, row))] == ["a.png", "a.png"]


@pytest.mark.parametrize("reader", GOOD)
@pytest.mark.parametrize("image", ["/etc/a.png", "../a.png", "b/../../a.png", "b/../a.png", ".."])
def test_a_picture_lies_inside_the_folder_of_its_file(
    tmp_path: Path, reader: Reader, image: str
) -> None:
    row = GOOD[reader] | ({"image": image} if reader is read_pairs else {})
    if reader is read_documents:
        row |= {"segments": [{"image": image}]}
    message = _message(reader, _write(tmp_path, row))
    assert f"line 1: the picture {image!r} must be a path inside {tmp_path}" in message


@pytest.mark.parametrize("reader", [*GOOD, read_labels])
@pytest.mark.parametrize("to", ["outside/a.png", "outside"])
def test_a_link_out_of_the_folder_is_refused_and_one_inside_is_followed(
    tmp_path: Path, reader: Reader, to: str
) -> None:
    (tmp_path / "in" / "b").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for folder in ("in/b", "outside"):
        (tmp_path / folder / "a.png").write_bytes(b"")
    image = "link" if to.endswith("png") else "link/a.png"
    rows = {
        read_pairs: {"image": image, "text": "a"},
        read_documents: {"id": "d", "segments": [{"image": image}]},
        read_labels: {"image": image, "class": "a"},
    }
    path, link = _write(tmp_path / "in", rows[reader]), tmp_path / "in" / "link"
    link.symlink_to(tmp_path / to)
    assert f"line 1: the picture {image!r} is a link out of" in _message(reader, path)
    link.unlink()
    link.symlink_to(tmp_path / to.replace("outside", "in/b"))
    assert len(reader(path)) == 1


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    path = _write(tmp_path, GOOD[read_pairs])
    assert "line 1: 'a.png' is no name of a picture" in _message(read_pairs, path)


@pytest.mark.parametrize("image", ["a.png", "./a.png", "b/c/a.png", "..a.png", "b..c/a.png"])
def test_pictures_are_found_from_the_file_not_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    pairs = _write(tmp_path, {"image": image, "text": "a"})
    assert read_pairs(pairs)[0].image == tmp_path / image
    documents = _write(tmp_path, {"id": "d", "segments": [{"image": image}]})
    assert read_documents(documents)[0].segments == [tmp_path / image]


@pytest.mark.parametrize("reader", [read_pairs, read_documents, read_classes])
def test_invalid_utf_8_is_named_with_its_byte(tmp_path: Path, reader: Reader) -> None:
    path = tmp_path / "x"
    path.write_bytes(b'{"text": "\xff"}')
    assert "not valid UTF-8 (byte 10)" in _message(reader, path)


@pytest.mark.parametrize("reader", GOOD)
def test_half_of_a_surrogate_pair_is_no_text(tmp_path: Path, reader: Reader) -> None:
    row = json.dumps(GOOD[reader]).replace("a cow", r"a \ud83d cow")
    message = _message(reader, _write(tmp_path, row))
    assert "line 1" in message
    message.encode()


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085"])
def test_a_unicode_line_separator_inside_a_text_ends_no_line(
    tmp_path: Path, separator: str
) -> None:
    text = f"a{separator}b"
    row = json.dumps({"image": "a.png", "text": text}, ensure_ascii=False)
    assert read_pairs(_write(tmp_path, row))[0].text == text


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(tmp_path: Path) -> None:
    rows, classes = tmp_path / "rows.jsonl", tmp_path / "classes.txt"
    row = json.dumps(GOOD[read_pairs]).encode()
    rows.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n\r\n")
    assert [p.text for p in read_pairs(rows)] == ["a cow"]
    classes.write_bytes(b"\xef\xbb\xbfcow\r\nhen\r\n")
    assert read_classes(classes) == ["cow", "hen"]


def test_documents_keep_the_order_of_their_segments_and_their_loss(tmp_path: Path) -> None:
    row = GOOD[read_documents] | {"loss": [False, True]}
    (document,) = read_documents(_write(tmp_path, row))
    assert document.segments == ["a cow", tmp_path / "a.png"]
    assert document.loss == [False, True]


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    for reader in (read_pairs, read_documents, read_classes, read_captions):
        assert re.match("no f.*: check the path", _message(reader, tmp_path / "missing"))
    assert "scripts/fetch_pictures" in _message(read_captions, tmp_path / "missing")
    with pytest.raises(DataError, match=r"no file at .*captions\.jsonl"):
        read_captions(tmp_path)


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x"
    path.write_text(content)
    for reader in GOOD:
        assert "is empty" in _message(reader, path)
    assert "at least two" in _message(read_classes, path)


def test_classes_are_compared_without_surrounding_spaces(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text("cow\n hen \ncow \n")
    assert "line 3: the class 'cow' stands twice" in _message(read_classes, path)
    path.write_text(" cow\nhen \n\n")
    assert read_classes(path) == ["cow", "hen"]


def test_prompts_may_hold_videos_and_training_documents_not(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"")
    segments = [{"video": "clip.mp4"}, {"video": "clip.mp4", "frames": 9}, {"gap": "text"}]
    path = _write(tmp_path, {"id": "d", "segments": segments})
    (document,) = read_documents(path, prompts=True)
    video = tmp_path / "clip.mp4"
    assert document.segments == [VideoFile(video, None), VideoFile(video, 9), GapFile("text")]
    with pytest.raises(DataError, match=r'a segment is .* or {"image": path}, got'):
        read_documents(path)
    for wrong, said in (
        ({"video": "../clip.mp4"}, r"the video '\.\./clip\.mp4' must be a path inside"),
        ({"video": "clip.mp4", "frames": 0}, "line 1"),
    ):
        with pytest.raises(DataError, match=said):
            read_documents(_write(tmp_path, {"id": "d", "segments": [wrong]}), prompts=True)
