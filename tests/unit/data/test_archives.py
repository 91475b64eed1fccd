"""Archives of strangers: a good one is unpacked whole, of a bad one nothing stays."""

import gzip
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from genvlm.data.archives import ArchiveLimits, extract_archive
from genvlm.errors import DataError
from genvlm.testing.files import write_tar
from genvlm.testing.hostile_archives import LIMITS, hostile_archives

FILES = {"a.txt": b"a", "b/c.bin": b"\0" * 5000, "b/d/é.txt": b"e"}


def _tar(path: Path) -> None:
    folder = tarfile.TarInfo("empty")
    folder.type = tarfile.DIRTYPE
    write_tar(path, [folder, *FILES.items()])


def _gzip(path: Path) -> None:
    _tar(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("empty/", b"")
        for name, content in FILES.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("write", [_tar, _gzip, _zip])
def test_an_archive_is_unpacked_into_a_folder_of_plain_files(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "archive")
    files = extract_archive(tmp_path / "archive", tmp_path / "out")
    assert {f.relative_to(tmp_path / "out").as_posix(): f.read_bytes() for f in files} == FILES
    assert (tmp_path / "out/empty").is_dir()
    assert {p.name for p in tmp_path.iterdir()} == {"archive", "out"}


def test_of_no_hostile_archive_anything_is_unpacked(tmp_path: Path) -> None:
    archives = hostile_archives(tmp_path / "in")
    assert len(archives) >= 50
    before = {path: path.read_bytes() for path in (tmp_path / "in").iterdir()}
    (tmp_path / "out").mkdir()
    for path, why in archives:
        with pytest.raises(DataError, match=why) as raised:
            extract_archive(path, tmp_path / "out/x", LIMITS)
        assert path.name in str(raised.value)
        assert "\n" not in str(raised.value)
        assert not list((tmp_path / "out").iterdir()), path
    assert {path: path.read_bytes() for path in (tmp_path / "in").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_a_bomb_is_stopped_before_it_fills_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    opened = Path.open

    def watched(path: Path, mode: str = "r", *rest: object, **options: object) -> object:
        written.extend([path] if "w" in mode or "x" in mode else [])
        return opened(path, mode, *rest, **options)  # type: ignore[call-overload]

    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 22))
    monkeypatch.setattr(Path, "open", watched)
    limits = ArchiveLimits(harmless=1 << 20)
    with pytest.raises(DataError, match="would unpack to more than 1,048,576"):
        extract_archive(tmp_path / "bomb.zip", tmp_path / "out", limits)
    assert not written  # the sizes that it declares are enough
    extract_archive(tmp_path / "bomb.zip", tmp_path / "out", ArchiveLimits(ratio=10_000))
    assert (tmp_path / "out/zeros").stat().st_size == 1 << 22


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    _tar(tmp_path / "a.tar")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="out exists"):
        extract_archive(tmp_path / "a.tar", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
