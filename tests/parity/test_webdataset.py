"""Keys, suffixes and brace lists are those of the webdataset package."""

import random
from pathlib import Path

import pytest

from genvlm.data.layouts.file_lists import expand_braces
from genvlm.data.layouts.webdataset import group_members
from genvlm.testing.files import write_tar

webdataset = pytest.importorskip("webdataset")
braceexpand = pytest.importorskip("braceexpand")

NAMES = (
    "0.jpg", "0.txt", "0.json", "1.left.PNG", "1.right.png", "1.seg.tar.gz", "a.b/2.txt",
    "a.b/2.cls", "./3.txt", ".hidden", "dir/.x.txt", "no_suffix", "__meta__/4.txt", "c d/é.JPG",
    "c d/é.txt", "e/5.", "__key__.txt",
)  # fmt: skip


def _theirs(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    with path.open("rb") as file:
        members = webdataset.tariterators.tar_file_iterator(file)
        samples = webdataset.tariterators.group_by_keys(
            {**member, "__url__": str(path)} for member in members
        )
        return [
            (s["__key__"], {k: v for k, v in s.items() if not k.startswith("__")}) for s in samples
        ]


def _ours(path: Path) -> list[tuple[str, dict[str, bytes]]]:
    content = path.read_bytes()
    with path.open("rb") as file:
        return [
            (s.key, {k: content[p.offset : p.offset + p.size] for k, p in s.parts.items()})
            for s in group_members(file, str(path))
        ]


@pytest.mark.parametrize("seed", range(5))
def test_members_are_grouped_as_webdataset_groups_them(tmp_path: Path, seed: int) -> None:
    chosen = [name for name in NAMES if seed == 0 or random.Random(f"{seed}{name}").random() < 0.6]
    path = write_tar(tmp_path / "a.tar", [(name, f"content of {name}") for name in chosen])
    assert _ours(path) == _theirs(path)
    assert len(_ours(path)) >= 3


@pytest.mark.parametrize(
    "pattern",
    [
        "a.tar", "{000..012}.tar", "{7..11}{a,b}", "{3..1}", "{0..10..3}", "x{a,b{1..2}}y", "{a}",
        "{}", "{1..}", "{{1..2},{a,b{c,d}}}", "{01..3}", "p/{x,}/{0..1}.tar",
    ],
)  # fmt: skip
def test_braces_expand_as_webdataset_expands_them(pattern: str) -> None:
    assert sorted(expand_braces(pattern)) == sorted(braceexpand.braceexpand(pattern))
