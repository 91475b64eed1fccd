"""Small files of the kinds that users bring: pictures and archives, as bytes."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def picture_bytes(
    level: int = 0, file_format: str = "PNG", size: tuple[int, int] = (6, 4)
) -> bytes:
    """A picture file of one grey level; `size` is (width, height)."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (level, level, level)).save(buffer, format=file_format)
    return buffer.getvalue()


def noise_picture(seed: int, file_format: str, size: tuple[int, int] = (24, 16)) -> bytes:
    """A picture file that does not compress."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=file_format)
    return buffer.getvalue()


def write_files(folder: Path, files: dict[str, bytes | str]) -> Path:
    """Files by their paths below the folder, which is returned."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def build_package(folder: Path, name: str, files: dict[str, bytes | str], **links: str) -> Path:
    """A package of Debian of files and symbolic links, by dpkg-deb."""
    tree = folder / f"tree-{name}"
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\n"
    write_files(tree, {**files, "DEBIAN/control": control + "Description: files\n"})
    for at, target in links.items():
        path = tree / at
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    package = folder / f"{name}_1_all.deb"
    command = ["dpkg-deb", "--build", "-Znone", str(tree), str(package)]
    subprocess.run(command, check=True, capture_output=True)
    return package


def write_json_lines(path: Path, rows: Iterable[object]) -> Path:
    """A JSONL file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_tar(path: Path, members: Iterable[tuple[str, bytes | str] | tarfile.TarInfo]) -> Path:
    """A tar of files, in this order; a TarInfo is written as it is, without data."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            content = member[1] if isinstance(member[1], bytes) else member[1].encode()
            info = tarfile.TarInfo(member[0])
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
