"""WebDataset tars: samples by key, parts that can be read again, and archives that are refused."""

import os
import tarfile
from pathlib import Path

import pytest

from genvlm.config.data import WebDatasetSource
from genvlm.data.layouts.file_lists import expand_braces
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media, RawDocument
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError
from genvlm.testing.files import picture_bytes, write_tar

SAMPLE: list[tuple[str, bytes | str]] = [
    ("7.png", picture_bytes(7)),
    ("7.txt", "seven"),
    ("7.json", '{"caption": "another", "url": "http://x"}'),
]


def _read(*paths: Path, skips: SkipBudget | None = None) -> list[RawDocument]:
    return list(open_source(WebDatasetSource(paths=tuple(map(str, paths))), skips))


def _media(document: RawDocument) -> Media:
    media = document.segments[1]
    assert isinstance(media, Media)
    return media


def test_members_of_a_key_are_a_pair_whose_picture_is_read_from_its_place(tmp_path: Path) -> None:
    others: list[tuple[str, bytes | str]] = [
        ("v1.0/8.JPG", picture_bytes(8, "JPEG")),
        ("v1.0/8.json", '{"caption": "eight", "width": 6}'),
        ("9.mp4", b"clip"),
        ("9.txt", "nine\n"),
        ("._9.png", b"of a file system"),
        ("__meta__/a.png", b"of the writer"),
    ]
    documents = _read(write_tar(tmp_path / "a.tar", SAMPLE + others))
    assert [(d.id, d.segments[0]) for d in documents] == [
        ("a.tar/7", "seven"), ("a.tar/v1.0/8", "eight"), ("a.tar/9", "nine"),
    ]  # fmt: skip
    assert [_media(d).read() for d in documents] == [
        picture_bytes(7), picture_bytes(8, "JPEG"), b"clip",
    ]  # fmt: skip
    assert [_media(d).kind for d in documents] == ["image", "image", "video"]
    assert documents[0].extra == {"caption": "another", "url": "http://x"}
    assert documents[1].extra == {"width": 6}


def test_braces_name_tars_and_ids_tell_them_apart(tmp_path: Path) -> None:
    for name in ("b/1.tar", "a/1.tar", "a/2.tar"):
        write_tar(tmp_path / name, SAMPLE)
    documents = _read(tmp_path / "b/1.tar", tmp_path / "a/{1..2}.tar")
    assert [d.id for d in documents] == ["a/1.tar/7", "a/2.tar/7", "b/1.tar/7"]


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (["{1..3}.tar"], r"no file at .*2\.tar, nor at 1 other paths"),
        (["1.tar", "{1..1}.tar"], "listed twice"),
        (["{1..9999999}.tar"], "more than 1,000,000"),
        (["{1..999}{1..999}{1..999}.tar"], "more than 1,000,000"),
        (["pipe:cat 1.tar"], "no file at"),
    ],
)
def test_lists_of_tars_that_do_not_fit_are_refused(
    tmp_path: Path, names: list[str], fault: str
) -> None:
    write_tar(tmp_path / "1.tar", SAMPLE)
    with pytest.raises(DataError, match=fault):
        _read(*(tmp_path / name for name in names))


def _special(kind: bytes, target: str = "7.png") -> tarfile.TarInfo:
    info = tarfile.TarInfo("8.png")
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ([("7.png", b"again")], r"two members named '7\.png'"),
        ([("./7.txt", b"again")], r"two members named"),
        ([("7.PNG", b"again")], r"two members named '7\.PNG'"),
        ([("8.txt", b"x"), ("7.cls", b"1")], r"'7\.cls' does not stand beside"),
        ([("../8.png", b"x")], r"'\.\./8\.png', which leads out"),
        ([("/8.png", b"x")], "leads out"),
        ([("a\\..\\..\\8.png", b"x")], "leads out"),
        ([("C:/8.png", b"x")], "leads out"),
        ([(os.fsdecode(b"caf\xe9.png"), b"x")], "is not UTF-8"),
        ([_special(tarfile.SYMTYPE, "/etc/passwd")], r"'8\.png' is a link"),
        ([_special(tarfile.LNKTYPE)], r"'8\.png' is a link"),
        ([_special(tarfile.CHRTYPE)], r"'8\.png' is a device"),
        ([_special(tarfile.FIFOTYPE)], r"'8\.png' is a device or pipe"),
    ],
)
def test_hostile_or_ambiguous_members_are_refused_by_name(
    tmp_path: Path, members: list[tuple[str, bytes] | tarfile.TarInfo], fault: str
) -> None:
    path = write_tar(tmp_path / "a.tar", [*SAMPLE, *members])
    skips = SkipBudget(1.0)  # no budget allows them: the archive itself is wrong
    with pytest.raises(DataError, match=fault):
        _read(path, skips=skips)
    assert all(str(path) in skipped.reason for skipped in skips.examples)


@pytest.mark.parametrize("damage", ["cut", "header", "joined", "text", "empty", "gzip"])
def test_a_damaged_tar_is_named_and_never_taken_for_a_short_one(
    tmp_path: Path, damage: str
) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"n{n}.txt", "x" * 2000) for n in range(9)] + SAMPLE[:2])
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[2560 + 100 : 2560 + 160] = b"\xff" * 60  # the header of the second member
    path.write_bytes(
        {
            "cut": whole[:9000],
            "header": bytes(broken),
            "joined": whole + whole,
            "text": b"no tar at all" * 200,
            "empty": b"",
            "gzip": b"\x1f\x8b" + whole,
        }[damage]
    )
    with pytest.raises(DataError, match=r"a\.tar (is damaged or no tar|goes on behind)"):
        _read(path, skips=SkipBudget(1.0))


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 8 << 30
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(9 << 30)  # sparse: takes no room on the disk
    with pytest.raises(DataError, match="a header of 8589934592 bytes"):
        _read(path)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ([("7.txt", "seven")], "has no picture, only txt"),
        ([*SAMPLE, ("7.jpg", b"x")], r"has 2 pictures or clips \(png, jpg\)"),
        ([SAMPLE[0]], "has no caption"),
        ([SAMPLE[0], ("7.txt", " ")], "the caption is empty"),
        ([SAMPLE[0], ("7.txt", b"caf\xe9")], "not valid UTF-8"),
        ([SAMPLE[0], ("7.json", "{")], "json is not JSON"),
        ([SAMPLE[0], ("7.json", "[]")], "must hold a JSON object"),
        ([SAMPLE[0], ("7.json", '{"caption": 3}')], "'caption' is missing or not a text"),
        ([SAMPLE[0], ("7.json", '{"caption": "\\ud83d"}')], "surrogate"),
    ],
)
def test_a_sample_that_is_no_pair_is_named_or_skipped_within_the_budget(
    tmp_path: Path, members: list[tuple[str, bytes | str]], fault: str
) -> None:
    after: list[tuple[str, bytes | str]] = [("8.png", b"x"), ("8.txt", "eight")]
    path = write_tar(tmp_path / "a.tar", members + after)
    with pytest.raises(DataError, match=rf"a\.tar, 7.*{fault}"):
        _read(path)
    skips = SkipBudget(0.5)
    assert [d.id for d in _read(path, skips=skips)] == ["a.tar/8"]
    assert skips.num_skipped == 1


def test_a_tar_that_vanishes_or_shrinks_midway_is_named(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", SAMPLE)
    (document,) = _read(path)
    path.write_bytes(path.read_bytes()[:520])
    with pytest.raises(DataError, match=r"a\.tar, 7\.png is cut short"):
        _media(document).read()
    path.unlink()
    with pytest.raises(DataError, match=r"a\.tar, 7\.png cannot be read"):
        _media(document).read()


def test_braces_expand_and_a_single_one_stands_for_itself() -> None:
    assert expand_braces("a{1..3}{x,y}") == ["a1x", "a1y", "a2x", "a2y", "a3x", "a3y"]
    assert expand_braces("{98..102..2}{") == ["98{", "100{", "102{"]
