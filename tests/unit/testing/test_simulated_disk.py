"""What a loss of power leaves, and what a full disk says."""

import random
import shutil
from pathlib import Path

import pytest

from genvlm.testing.faults.simulated_disk import SimulatedDisk, Survivors


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "top").mkdir()
    return tmp_path / "top"


def left(disk: SimulatedDisk, survivors: Survivors, seed: int = 0) -> dict[str, bytes]:
    target = disk.top.with_name("left")
    disk.leave(target, survivors, random.Random(seed))
    found = {
        str(p.relative_to(target)): p.read_bytes() if p.is_file() else b"/"
        for p in sorted(target.rglob("*"))
    }
    shutil.rmtree(target)
    return found


def test_what_was_there_before_survives(top: Path) -> None:
    (top / "old").write_bytes(b"old")
    disk = SimulatedDisk(top)
    (top / "new").write_bytes(b"new")
    assert left(disk, "synced") == {"old": b"old"}
    assert left(disk, "names") == {"new": b"", "old": b"old"}
    assert left(disk, "everything") == {"new": b"new", "old": b"old"}


def test_a_file_needs_a_sync_of_its_own_and_its_name_one_of_the_folder(top: Path) -> None:
    disk = SimulatedDisk(top)
    disk.write(top / "file", "text")
    disk.sync(top / "file")
    assert left(disk, "synced") == {}
    assert left(disk, "names") == {"file": b"text"}
    disk.sync(top)
    assert left(disk, "synced") == {"file": b"text"}
    disk.write(top / "file", "other")
    assert left(disk, "synced") == {"file": b"text"}


def test_a_rename_happened_or_did_not(top: Path) -> None:
    (top / "a").write_bytes(b"a")
    disk = SimulatedDisk(top)
    disk.rename(top / "a", top / "b")
    seen = {tuple(left(disk, "some", seed)) for seed in range(20)}
    assert seen == {("a",), ("b",)}
    disk.sync(top)
    assert list(left(disk, "synced")) == ["b"]


def test_a_swap_is_never_seen_half_done(top: Path) -> None:
    for name in ("a", "b"):
        (top / name).mkdir()
        (top / name / name).write_bytes(b"")
    disk = SimulatedDisk(top)
    disk.exchange(top / "a", top / "b")
    swapped, before = ["a", "a/b", "b", "b/a"], ["a", "a/a", "b", "b/b"]
    assert {tuple(left(disk, "some", seed)) for seed in range(20)} == {
        tuple(swapped), tuple(before)
    }  # fmt: skip


def test_a_file_that_was_not_synced_may_be_cut_or_end_in_zeros(top: Path) -> None:
    disk = SimulatedDisk(top)
    disk.write(top / "file", "0123456789")
    disk.sync(top)
    found = {left(disk, "some", seed)["file"] for seed in range(60)}
    assert b"0123456789" in found
    assert any(f.endswith(b"\0") for f in found)
    assert any(len(f) < 10 and b"0123456789".startswith(f) for f in found)


def test_operations_are_announced_and_a_full_disk_cuts_a_file(top: Path) -> None:
    moments: list[list[str]] = []
    disk = SimulatedDisk(top, before=lambda: moments.append([p.name for p in top.iterdir()]))
    disk.make_folder(top / "folder")
    disk.write(top / "folder" / "file", "12345678")
    disk.remove(top / "folder")
    # make, write, twice inside of it, unlink, rmdir
    assert len(moments) == 6
    disk.space = disk.spent + SimulatedDisk.OPERATION + 3
    with pytest.raises(OSError, match="No space left"):
        disk.write(top / "file", "12345678")
    assert (top / "file").read_bytes() == b"123"
