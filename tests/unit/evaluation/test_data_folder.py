"""Rows and fields of files that others wrote."""

from pathlib import Path

import pytest

from genvlm.errors import DataError
from genvlm.evaluation.data_folder import parse_lines, read_rows, text_field


def test_rows_come_from_a_list_or_from_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    for content in ('[{"a": 1}, {"a": 2}]', '\n [{"a": 1},\n{"a": 2}]\n', '{"a": 1}\n{"a": 2}\n'):
        path.write_text(content)
        assert [row for _, row in read_rows(path)] == [{"a": 1}, {"a": 2}]
    places = [where for where, _ in read_rows(path)]
    assert places == [f"{path}, row 1", f"{path}, row 2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1}, 2]', "rows, entry 2 is no JSON object"),
        (b'{"a": 1}\n2\n', "rows, line 2, is no JSON object"),
        (b'[{"a": 1}', "rows is no JSON"),
        (b"\xff\xfe", "rows, line 1, is no JSON"),
    ],
)
def test_what_is_no_row_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows(path)


def test_a_field_is_text_or_a_whole_number() -> None:
    assert text_field({"text": "", "id": 3}, ("answer", "text"), "x") == ""
    assert text_field({"text": "", "id": 3}, "id", "x") == "3"
    for row in ({"id": 3.5}, {"id": None}, {"id": True}, {}):
        with pytest.raises(DataError, match=r"x needs id or key as text, and has (id|no field)"):
            text_field(row, ("id", "key"), "x")


def test_lines_are_text() -> None:
    assert parse_lines("\ufeffa\nb\n".encode(), "x") == ["a", "b"]
    assert parse_lines(b"", "x") == []
    with pytest.raises(DataError, match="x is no UTF-8 text"):
        parse_lines(b"\xff", "x")


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    # str.splitlines also ends lines at these; a caption may hold them.
    odd = "a\u2028b\u0085c\x0cd\x1ee"
    assert parse_lines(f"{odd}\r\n\r\nf".encode(), "x") == [odd, "", "f"]
    path = tmp_path / "rows"
    path.write_text(f'{{"a": "{odd[:4]}"}}\r\n{{"a":\r 2}}\n', newline="")
    assert [row for _, row in read_rows(path)] == [{"a": odd[:4]}, {"a": 2}]
