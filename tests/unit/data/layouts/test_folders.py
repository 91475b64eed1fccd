"""Folders of pictures and videos: captions beside them, or names."""

import os
from pathlib import Path

import pytest

from genvlm.config.data import FolderSource, VideosSource
from genvlm.data.images import decode_image
from genvlm.data.layouts.open import open_source
from genvlm.data.raw import Media
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError
from genvlm.testing.files import picture_bytes, write_files

SIDECARS: dict[str, bytes | str] = {
    "b/cow.PNG": picture_bytes(1),
    "b/cow.txt": "a cow\n",
    "a-z.jpg": picture_bytes(2, "JPEG"),
    "a-z.txt": "letters",
    "a/dog.png": picture_bytes(3),
    "a/dog.txt": "\ufeffa dog",
    ".hidden/x.png": b"",
    "a/._dog.png": b"",
    "a/notes.md": "no picture",
}


def _pairs(folder: Path, **options: str) -> list[tuple[str, object]]:
    documents = open_source(FolderSource(path=str(folder), **options))  # type: ignore[arg-type]
    return [(document.id, document.segments[0]) for document in documents]


def test_pictures_come_in_the_order_of_their_paths_with_the_captions_beside_them(
    tmp_path: Path,
) -> None:
    write_files(tmp_path, SIDECARS)
    expected = [("a-z.jpg", "letters"), ("a/dog.png", "a dog"), ("b/cow.PNG", "a cow")]
    assert _pairs(tmp_path) == expected
    last = list(open_source(FolderSource(path=str(tmp_path))))[-1]
    picture = last.segments[1]
    assert isinstance(picture, Media)
    assert decode_image(picture.read(), picture.name).tolist() == [[[1, 1, 1]] * 6] * 4


def test_names_of_files_or_folders_are_captions(tmp_path: Path) -> None:
    write_files(tmp_path, {"red_t-shirt/no_1.png": b"x"})
    assert _pairs(tmp_path, captions="file_name") == [("red_t-shirt/no_1.png", "no 1")]
    assert _pairs(tmp_path, captions="folder_name") == [("red_t-shirt/no_1.png", "red t-shirt")]


def test_a_picture_in_no_folder_of_its_own_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"cow.png": b"x"})
    with pytest.raises(DataError, match=r"cow\.png lies in no folder"):
        _pairs(tmp_path, captions="folder_name")


def test_pictures_without_captions_are_counted_and_named_before_the_first_is_read(
    tmp_path: Path,
) -> None:
    write_files(tmp_path, SIDECARS | {"c/1.png": b"x", "c/2.png": b"x"})
    with pytest.raises(DataError, match=r"2 of 5 files .*, such as c/1\.png: write c/1\.txt"):
        open_source(FolderSource(path=str(tmp_path)))


@pytest.mark.parametrize(("caption", "fault"), [(b" \n", "empty"), (b"caf\xe9", "not valid UTF-8")])
def test_a_damaged_caption_stops_the_source_or_is_skipped_within_the_budget(
    tmp_path: Path, caption: bytes, fault: str
) -> None:
    write_files(tmp_path, SIDECARS | {"a/dog.txt": caption})
    with pytest.raises(DataError, match=rf"dog\.txt.*{fault}"):
        _pairs(tmp_path)
    skips = SkipBudget(0.5)
    documents = list(open_source(FolderSource(path=str(tmp_path)), skips))
    assert [document.id for document in documents] == ["a-z.jpg", "b/cow.PNG"]
    assert [skipped.id for skipped in skips.examples] == [str(tmp_path / "a/dog.png")]


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    with pytest.raises(DataError, match=r"'caf\\udce9\.png' is not UTF-8"):
        _pairs(tmp_path, captions="file_name")


def test_two_pictures_of_one_caption_are_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"cow.png": b"x", "cow.jpg": b"x", "cow.txt": "a cow"})
    with pytest.raises(DataError, match=r"cow\.jpg and .*cow\.png would share"):
        _pairs(tmp_path)


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    inside = write_files(tmp_path / "in", SIDECARS)
    write_files(tmp_path / "out", {"secret.txt": "secret", "x.png": b"x"})
    (inside / "z.png").write_bytes(b"x")
    (inside / "z.txt").symlink_to(tmp_path / "out/secret.txt")
    with pytest.raises(DataError, match="a link out of"):
        _pairs(inside)
    (inside / "z.txt").unlink()
    (inside / "z.png").unlink()
    (inside / "more").symlink_to(tmp_path / "out")
    with pytest.raises(DataError, match="more is a link to a folder"):
        _pairs(inside)


@pytest.mark.parametrize("name", ["", "nothing"])
def test_a_folder_without_pictures_or_none_at_all_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"holds none|no folder at"):
        _pairs(tmp_path / name)


def test_videos_bring_their_captions(tmp_path: Path) -> None:
    write_files(tmp_path, {"x/clip.mp4": b"x", "x/clip.txt": "a ball falls", "x/y.png": b"x"})
    (document,) = open_source(VideosSource(path=str(tmp_path)))
    text, clip = document.segments
    assert (document.id, text) == ("x/clip.mp4", "a ball falls")
    assert isinstance(clip, Media)
    assert (clip.kind, clip.path) == ("video", tmp_path / "x/clip.mp4")
