"""Files of Debian's packages, in memory."""

import shutil
from pathlib import Path

import pytest

from genvlm.data import debian
from genvlm.data.debian import find_package, package_files
from genvlm.errors import DataError
from genvlm.testing.files import build_package

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")


def test_only_files_below_a_folder_and_of_a_suffix_are_read(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"usr/a/x.txt": "x", "usr/a/y.png": "y", "usr/b/z.txt": "z"}
    package = build_package(tmp_path, "some", files, **{"usr/a/link.txt": "x.txt"})
    assert find_package(tmp_path, "some") == package
    assert dict(package_files(package, "usr/a/", (".txt",))) == {"x.txt": b"x", "link.txt": "x.txt"}


def test_a_file_that_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian, "_MAX_BYTES", 100)
    package = build_package(tmp_path, "some", {"usr/a/x.txt": "x" * 101})
    with pytest.raises(DataError, match=r"'usr/a/x\.txt' has 101 bytes, more than the limit"):
        list(package_files(package, "usr/a/", (".txt",)))


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no package at .*none\.deb: check the path"):
        list(package_files(tmp_path / "none.deb", "usr/", ("",)))
    with pytest.raises(DataError, match=r"no none_\*\.deb in .*apt-get download none"):
        find_package(tmp_path, "none")
