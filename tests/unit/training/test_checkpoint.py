"""Checkpoints: whole or absent, verified, and one run to a folder."""

import subprocess
import sys

import pytest

from genvlm.errors import CheckpointError, TrainingError
from genvlm.training.checkpoint import (
    checkpoint_step,
    list_checkpoints,
    lock_run,
    newest_valid,
    save_checkpoint,
    verify_checkpoint,
)


def _save(root, step, keep=2):
    return save_checkpoint(root, step, lambda f: (f / "state").write_bytes(b"x" * step), keep=keep)


def test_the_newest_valid_one_is_found_and_older_ones_go_last(tmp_path):
    for step in (5, 10, 15):
        _save(tmp_path, step)
    assert [checkpoint_step(f) for f in list_checkpoints(tmp_path)] == [10, 15]
    assert newest_valid(tmp_path, pytest.fail) == tmp_path / "step-00000015"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_a_damaged_checkpoint_is_passed_over_aloud(tmp_path, damage):
    _save(tmp_path, 5)
    folder = _save(tmp_path, 10)
    state = folder / "state"
    match damage:
        case "flip":
            state.write_bytes(b"y" + state.read_bytes()[1:])
        case "truncate":
            state.write_bytes(state.read_bytes()[:-1])
        case "remove":
            state.unlink()
        case "manifest":
            (folder / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError):
        verify_checkpoint(folder)
    said = []
    assert newest_valid(tmp_path, said.append) == tmp_path / "step-00000005"
    assert "step-00000010" in said[0]


def test_a_failed_save_leaves_the_older_one(tmp_path):
    _save(tmp_path, 5)

    def fail(folder):
        (folder / "half").write_bytes(b"1")
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        save_checkpoint(tmp_path, 10, fail)
    assert newest_valid(tmp_path, pytest.fail) == tmp_path / "step-00000005"


def test_a_second_process_in_the_folder_is_refused(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom genvlm.training.checkpoint import lock_run\n"
        "with lock_run(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline().strip() == "held"
        with pytest.raises(TrainingError, match="another run"), lock_run(tmp_path):
            pass
        holder.kill()
    with lock_run(tmp_path):  # the lock died with its process
        pass
