"""genvlm's own JSONL files, as documents that are not decoded."""

from pathlib import Path

import pytest

from genvlm.config.data import CaptionsSource, DocumentsSource
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media
from genvlm.errors import DataError
from genvlm.testing.files import write_json_lines


def test_a_picture_with_several_captions_has_an_id_for_each(tmp_path: Path) -> None:
    rows = [
        {"image": "a.png", "text": "one"},
        {"id": "a.png#2", "image": "b.png", "text": "two"},
        {"image": "a.png", "text": "three"},
        {"image": "a.png", "text": "four"},
        {"id": "a.png", "image": "c.png", "text": "five"},
    ]
    write_json_lines(tmp_path / "captions.jsonl", rows)
    documents = list(open_source(CaptionsSource(path=str(tmp_path))))
    assert len({d.id for d in documents}) == 5
    assert [d.id for d in documents][:3] == ["a.png", "a.png#2", "a.png#3"]
    assert [d.segments[0] for d in documents] == ["one", "two", "three", "four", "five"]


def test_segments_and_their_loss_are_kept(tmp_path: Path) -> None:
    row = {"id": "x", "segments": [{"image": "a.png"}, {"text": "b"}], "loss": [False, True]}
    path = write_json_lines(tmp_path / "documents.jsonl", [row])
    (document,) = open_source(DocumentsSource(path=str(path)))
    picture, text = document.segments
    assert isinstance(picture, Media)
    assert (picture.path, text) == (tmp_path / "a.png", "b")
    assert (document.id, document.kind, document.loss) == ("x", "document", (False, True))


def test_a_fault_names_its_line(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "documents.jsonl", [{"id": "x", "segments": []}])
    with pytest.raises(DataError, match="line 1"):
        list(open_source(DocumentsSource(path=str(path))))
