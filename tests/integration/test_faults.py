"""Rows of `scripts/faults` with small counts; naive versions must show in them."""

import errno
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from genvlm.errors import StorageError
from genvlm.nn import whole_files
from genvlm.nn.file_system import Disk
from genvlm.testing.faults import (
    damage,
    kills,
    not_finite,
    refusals,
    resuming,
    rows,
    runs,
    saving,
)
from genvlm.testing.faults.row import Row, run_trials
from genvlm.testing.faults.simulated_disk import SimulatedDisk
from genvlm.training import checkpoint
from genvlm.training.loop import train
from genvlm.training.run_checkpoints import RunCheckpoints


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


def test_a_killed_save_loses_nothing(tmp_path: Path) -> None:
    survived(kills.kill_saves(6, 0, tmp_path), 6)


def test_a_killed_run_ends_as_if_nothing_had_happened(tmp_path: Path) -> None:
    survived(kills.kill_runs(1, 0, tmp_path), 1)


def test_a_terminated_run_says_so_by_its_exit_code_and_can_go_on(tmp_path: Path) -> None:
    survived(kills.terminate_runs(3, 0, tmp_path), 3)


def test_a_run_goes_on_bitwise_from_every_step(tmp_path: Path) -> None:
    survived(resuming.resume_at_every_step(5, 0, tmp_path), 5)


def test_a_run_goes_on_bitwise_twice_in_one_epoch(tmp_path: Path) -> None:
    survived(resuming.resume_twice_in_an_epoch(2, 0, tmp_path), 2)


def test_a_signal_within_an_accumulation_waits_for_its_step(tmp_path: Path) -> None:
    survived(resuming.stop_within_accumulation(2, 0, tmp_path), 2)


def test_each_sample_is_read_once_an_epoch_whatever_is_killed(tmp_path: Path) -> None:
    survived(resuming.keep_ledger(3, 0, tmp_path), 3)


def test_numbers_that_are_not_finite_change_nothing(tmp_path: Path) -> None:
    survived(not_finite.spoil_numbers(3, 0, tmp_path), 3)


def test_other_data_and_settings_are_refused_on_resume(tmp_path: Path) -> None:
    survived(refusals.change_what_a_run_reads(6, 0, tmp_path), 6)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    survived(refusals.share_a_folder(3, 0, tmp_path), 3)


def test_a_run_whose_folder_vanishes_ends_in_a_sentence(tmp_path: Path) -> None:
    survived(refusals.lose_the_folder(2, 0, tmp_path), 2)


def test_a_resume_that_forgets_a_step_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = RunCheckpoints.resume
    monkeypatch.setattr(RunCheckpoints, "resume", lambda self, *given: resume(self, *given) - 1)
    assert len(resuming.resume_at_every_step(3, 0, tmp_path).failures) == 3


def test_any_file_of_the_last_checkpoint_that_differs_shows(tmp_path: Path) -> None:
    """One bit of an average, or all of it."""
    config = runs.tiny_run(tmp_path / "data", num_steps=1, checkpoint_every=1)
    out = tmp_path / "run"
    train(replace(config, ema_decay=0.9), out)
    end = runs.end_of(out)
    runs.demand_same(out, end)
    (newest,) = checkpoint.list_checkpoints(out / "checkpoints")
    content = (newest / "ema.safetensors").read_bytes()
    (newest / "ema.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AssertionError, match=r"another ema\.safetensors"):
        runs.demand_same(out, end)
    (newest / "ema.safetensors").unlink()
    with pytest.raises(AssertionError, match=r"another ema\.safetensors"):
        runs.demand_same(out, end)


def test_every_row_of_the_table_is_there(folder: Path) -> None:
    assert len({fault.name for fault in rows.FAULTS}) == len(rows.FAULTS) >= 26
    for fault in rows.FAULTS:
        assert callable(fault.load())
        assert 1 <= fault.quick <= fault.count
    (fault,) = (f for f in rows.FAULTS if f.name == "damage")
    row = fault.run(0, folder, lambda done, total: None, quick=True)
    assert rows.as_table([row]).splitlines()[2].startswith("| damaged checkpoints | 54 | 0 |")


def test_a_fault_that_was_not_survived_is_a_failure_with_its_place(tmp_path: Path) -> None:
    def trial(number: int, _rng: random.Random, own: Path) -> str:
        (own / "file").touch()
        if number == 1:
            raise ValueError("lost")
        return "kept"

    row = run_trials("faults", 3, 0, tmp_path, trial)
    assert (row.count, len(row.failures), row.note) == (3, 1, "2 kept")
    assert "1: ValueError: lost" in row.failures[0]
    assert [p.name for p in tmp_path.iterdir()] == ["00001"]  # to be looked at


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


def test_a_folder_that_cannot_be_made_is_not_said_to_have_vanished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Disk, path: Path) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr(Disk, "make_folder", refuse)  # as /proc does
    refused = pytest.raises(StorageError, match=r"run cannot be made \(No such.*can be written")
    with refused as said, whole_files.hold_folder(tmp_path / "run"):
        pass
    assert "vanished" not in str(said.value)


def test_what_is_no_fault_of_the_disk_is_raised_as_it_is(tmp_path: Path) -> None:
    def write(_folder: Path) -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="a fault of ours"):
        checkpoint.save_checkpoint(tmp_path, 1, write)
