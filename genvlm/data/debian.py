"""Packages of Debian: fetched by apt-get, read by dpkg-deb, without root and without unpacking."""

import posixpath
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from genvlm.data.tar_members import is_inner_name
from genvlm.errors import DataError

_MAX_BYTES = 1 << 28
"""Of one file of a package."""


def download_packages(packages: Sequence[str], folder: Path) -> Path:
    """The packages in a folder. Raises DataError: there is no apt-get, or it cannot fetch them."""
    try:
        subprocess.run(["apt-get", "download", *packages], cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise DataError(
            f"apt-get download {' '.join(packages)} failed ({error}): run apt-get update, or name "
            "packages that are here already (--help says how)"
        ) from None
    return folder


def find_package(folder: Path, name: str) -> Path:
    """The file of a package in a folder. Raises DataError: there is none."""
    found = sorted(folder.glob(f"{name}_*.deb"))
    if not found:
        raise DataError(f"no {name}_*.deb in {folder}: fetch it with apt-get download {name}")
    return found[-1]


def package_files(
    package: Path, below: str, suffixes: tuple[str, ...]
) -> Iterator[tuple[str, bytes | str]]:
    """(name, bytes) of the files of a package below a folder; for a link (name, its target's name).

    Nothing is extracted: names of the archive never become paths before they are checked.

    Raises:
        DataError: the package is damaged, a name in it leads out of it, or a file is too large.
    """
    with _open_package(package) as archive:
        for member in archive:
            name = posixpath.normpath(member.name)
            if not name.startswith(below) or not name.endswith(suffixes):
                continue
            if not is_inner_name(name):
                raise DataError(f"{package} has a member named {name!r}: do not use it")
            inner = name.removeprefix(below)
            if member.issym():
                target = posixpath.join(posixpath.dirname(name), member.linkname)
                yield inner, posixpath.normpath(target).removeprefix(below)
                continue
            if member.size > _MAX_BYTES:
                raise DataError(
                    f"{package}: {name!r} has {member.size:,} bytes, more than the limit of "
                    f"{_MAX_BYTES >> 20} MB: do not use it"
                )
            if member.isreg() and (file := archive.extractfile(member)) is not None:
                yield inner, file.read()


@contextmanager
def _open_package(package: Path) -> Iterator[tarfile.TarFile]:
    """The tar inside of a package, to be read once to its end.

    Raises:
        DataError: the package is missing or damaged, or there is no dpkg-deb.
    """
    if not package.is_file():
        raise DataError(f"no package at {package}: check the path")
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=complaints)
        except OSError as error:
            raise DataError(f"dpkg-deb cannot be run ({error.strerror}): install dpkg") from None
        damage = ""
        with process:
            assert process.stdout is not None
            try:
                with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                    yield archive
            except tarfile.TarError as error:
                damage = str(error)
            while process.stdout.read(1 << 20):  # the padding behind the last member
                pass
        # A tar that ends between two members looks whole: dpkg-deb knows better.
        if process.returncode != 0:
            complaints.seek(0)
            lines = complaints.read().decode("utf-8", "replace").splitlines()
            damage = lines[0][:200] if lines else damage
        if damage or process.returncode != 0:
            raise DataError(f"{package} is damaged ({damage}): delete it and fetch it again")
