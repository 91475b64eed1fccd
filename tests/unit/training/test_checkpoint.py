"""What a kill leaves behind at each moment of writing a checkpoint."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from genvlm.errors import CheckpointError, DataError, StorageError
from genvlm.nn.whole_files import hold_folder
from genvlm.training.checkpoint import (
    hash_file,
    list_checkpoints,
    newest_valid,
    save_checkpoint,
    verify_checkpoint,
)
from genvlm.training.run_folder import cut_log, read_log


def _write(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "model" / "weights").write_bytes(b"weights")
    (folder / "state").write_bytes(b"state")


def test_the_manifest_names_every_file_with_its_hash(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, 7, _write)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["step"] == 7
    assert manifest["files"] == {
        name: hash_file(folder / name) for name in ("model/weights", "state")
    }
    verify_checkpoint(folder)


def test_nothing_is_published_while_files_are_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, _write)
    seen = []

    def write(folder: Path) -> None:
        _write(folder)
        seen.append((list_checkpoints(tmp_path), folder.name))

    save_checkpoint(tmp_path, 2, write)
    ((published, name),) = seen
    assert [p.name for p in published] == ["step-00000001"]
    assert not name.startswith("step-")
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize("moment", ["write", "manifest", "fsync", "replace"])
def test_a_kill_before_the_rename_leaves_the_older_one(tmp_path: Path, moment: str) -> None:
    save_checkpoint(tmp_path, 1, _write)
    code = """
import os, signal, sys
from pathlib import Path
import genvlm.training.checkpoint as checkpoint

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def write(folder):
    with (folder / "state").open("wb") as file: file.write(b"half")
    match sys.argv[2]:
        case "write": die()
        case "manifest": Path.write_bytes = die
        case "fsync": os.fsync = die
        case "replace": Path.replace = die

checkpoint.save_checkpoint(Path(sys.argv[1]), 2, write, keep=1)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path), moment], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert newest_valid(tmp_path, pytest.fail) == tmp_path / "step-00000001"
    save_checkpoint(tmp_path, 2, _write)
    assert newest_valid(tmp_path, pytest.fail) == tmp_path / "step-00000002"


def test_files_reach_the_disk_before_the_name_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def record_fsync(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def record_replace(self: Path, target: Path) -> Path:
        order.append("RENAME")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    save_checkpoint(tmp_path / "checkpoints", 3, _write)
    before, after = order[: order.index("RENAME")], order[order.index("RENAME") + 1 :]
    assert {"weights", "state", "manifest.json", "model"} <= set(before)
    assert after == ["checkpoints"]


def test_older_ones_go_only_when_the_new_one_stands(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, _write, keep=1)

    def fail(folder: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(StorageError, match=r"no space.*up to step-00000001 is untouched.*--resume"):
        save_checkpoint(tmp_path, 2, fail, keep=1)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000001"]
    save_checkpoint(tmp_path, 2, _write, keep=1)
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000002"]


def test_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 1, _write)
    folder = save_checkpoint(tmp_path, 1, lambda f: (f / "state").write_bytes(b"new") and None)
    assert (folder / "state").read_bytes() == b"new"
    assert not (folder / "model").exists()
    verify_checkpoint(folder)


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    for step in (1000, 9, 200):
        save_checkpoint(tmp_path, step, _write, keep=9)
    names = [p.name for p in list_checkpoints(tmp_path)]
    assert names == ["step-00000009", "step-00000200", "step-00001000"]


@pytest.mark.parametrize("manifest", [None, b"", b"{", b"[]", b"3", b"{}", b"\xff"])
def test_a_checkpoint_without_a_readable_manifest_is_refused(
    tmp_path: Path, manifest: bytes | None
) -> None:
    folder = save_checkpoint(tmp_path, 1, _write)
    path = folder / "manifest.json"
    if manifest is None:
        path.unlink()
    else:
        path.write_bytes(manifest)
    with pytest.raises(CheckpointError, match="no readable manifest"):
        verify_checkpoint(folder)


def test_what_a_kill_left_unfinished_is_removed_by_the_next_save(tmp_path: Path) -> None:
    left = tmp_path / ".tmp-00000001-123"
    left.mkdir()
    (left / "weights").write_bytes(b"half")
    save_checkpoint(tmp_path, 2, _write)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000002"]


def test_one_changed_bit_is_found_and_the_file_named(tmp_path: Path) -> None:
    folder = save_checkpoint(tmp_path, 1, _write)
    (folder / "model" / "weights").write_bytes(b"weightr")
    with pytest.raises(CheckpointError, match="model/weights is not what was written"):
        verify_checkpoint(folder)


def test_without_a_valid_one_nothing_begins_again_silently(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "missing", pytest.fail) is None
    for step in (1, 2):
        (save_checkpoint(tmp_path, step, _write) / "state").unlink()
    said: list[str] = []
    with pytest.raises(CheckpointError, match="none of the 2 checkpoints"):
        newest_valid(tmp_path, said.append)
    assert ["step-00000002" in said[0], "step-00000001" in said[1]] == [True, True]


def test_a_second_holder_in_the_same_process_is_refused_until_the_first_lets_go(
    tmp_path: Path,
) -> None:
    run = tmp_path / "new" / "run"
    with hold_folder(run):
        with pytest.raises(StorageError, match="choose another folder"), hold_folder(run):
            pytest.fail("two runs in one folder")
        with hold_folder(tmp_path / "other"):
            pass
    with hold_folder(run):
        shutil.rmtree(tmp_path / "other")


def test_a_log_is_cut_behind_the_resumed_step_and_a_half_written_line_is_left_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4')
    assert [r["step"] for r in read_log(path)] == [1, 2, 3]
    cut_log(path, 2, pytest.fail)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    cut_log(tmp_path / "missing.jsonl", 2, pytest.fail)
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


@pytest.mark.parametrize(
    "torn", [b"\0" * 40, b'\0\0\0{"step": 3}', b"\xff\xfe", b"7", b'{"loss": 1}', b"[]", b""]
)
def test_a_line_that_a_loss_of_power_has_torn_is_named_and_cut_off(
    tmp_path: Path, torn: bytes
) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + torn + b'\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"log\.jsonl, line 3 is no record.*go on with --resume"):
        read_log(path)
    said: list[str] = []
    cut_log(path, 9, said.append)
    assert len(said) == 1
    assert "line 3" in said[0]
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert [r["step"] for r in read_log(path)] == [1, 2]


def test_a_save_never_deletes_itself(tmp_path: Path) -> None:
    for step in (5500, 5700):
        save_checkpoint(tmp_path, step, _write)
    assert save_checkpoint(tmp_path, 500, _write).is_dir()
    assert [p.name for p in list_checkpoints(tmp_path)] == ["step-00000500", "step-00005700"]


@pytest.mark.parametrize("content", ["[]", '{"files": []}', '{"files": 3}', "", "null"])
def test_a_manifest_of_another_shape_is_damage(tmp_path: Path, content: str) -> None:
    folder = save_checkpoint(tmp_path, 1, _write)
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CheckpointError, match="no readable manifest"):
        verify_checkpoint(folder)
