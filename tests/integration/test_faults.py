"""Rows of `scripts/faults` with small counts; naive versions must show in them."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from genvlm.errors import StorageError
from genvlm.nn import whole_files
from genvlm.nn.file_system import Disk
from genvlm.testing.faults import damage, saving
from genvlm.testing.faults.row import Row
from genvlm.testing.faults.simulated_disk import SimulatedDisk
from genvlm.training import checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is such a place: these rows make thousands of small files."""
    memory = Path("/dev/shm")
    if not memory.is_dir():
        yield tmp_path
        return
    made = Path(tempfile.mkdtemp(dir=memory))
    yield made
    shutil.rmtree(made)


def survived(row: Row, at_least: int) -> None:
    assert row.failures == ()
    assert row.count >= at_least


def test_a_save_that_is_stopped_anywhere_leaves_a_checkpoint(folder: Path) -> None:
    survived(saving.stop_saves(1, 0, folder), 200)


def test_a_publishing_that_is_stopped_anywhere_leaves_the_old_or_the_new(folder: Path) -> None:
    survived(saving.stop_publishing(2, 0, folder), 200)


@pytest.mark.parametrize("forgotten", ["files", "folders"])
def test_without_a_sync_the_power_takes_a_checkpoint(
    folder: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    sync = SimulatedDisk.sync

    def forgetful(self: SimulatedDisk, path: Path) -> None:
        if path.is_file() == (forgotten == "folders"):
            sync(self, path)

    monkeypatch.setattr(SimulatedDisk, "sync", forgetful)
    assert saving.stop_saves(1, 0, folder).failures


def test_a_full_disk_is_said_and_loses_nothing(folder: Path) -> None:
    survived(saving.fill_disk(15, 0, folder), 15)


def test_every_damage_is_found_and_named(folder: Path) -> None:
    survived(damage.damage_checkpoints(2 * len(damage.DAMAGES), 0, folder), 36)


def test_rotation_keeps_one_that_can_be_read(folder: Path) -> None:
    survived(damage.rotate_checkpoints(12, 0, folder), 12)


def test_deleting_before_the_new_one_was_read_shows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "verify_checkpoint", lambda _folder: None)
    assert damage.rotate_checkpoints(12, 0, folder).failures


def test_a_file_system_that_cannot_swap_folders_gets_two_renames(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(_self: Disk, _first: Path, _second: Path) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(Disk, "exchange", unknown)
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    whole_files.publish_folder(tmp_path / "new", tmp_path / "old")
    assert [str(p.relative_to(tmp_path)) for p in sorted(tmp_path.rglob("*"))] == ["old", "old/new"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EROFS, "Read-only file system"), "Read-only.*choose a folder that can be"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error.*see to that disk"),
        (FileNotFoundError(errno.ENOENT, "No such file"), "the folder has vanished"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos"), "make room"),
        (ValueError("I/O error: No space left on device (os error 28)"), "No space.*make room"),
    ],
)
def test_whatever_a_writer_makes_of_the_answer_of_a_disk_is_one_sentence(
    tmp_path: Path, error: Exception, said: str
) -> None:
    def write(_folder: Path) -> None:
        raise error

    with pytest.raises(StorageError, match=f"step-00000001 cannot be written .*{said}"):
        checkpoint.save_checkpoint(tmp_path, 1, write)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_fault_of_the_disk_is_raised_as_it_is(tmp_path: Path) -> None:
    def write(_folder: Path) -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        checkpoint.save_checkpoint(tmp_path, 1, write)
