"""A run's own folder: its lock, its resolved configuration, its log."""

import contextlib
import errno
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from genvlm.config.image_tokenizer import VQGANTrainConfig
from genvlm.config.schema import dump_config, load_config, to_plain
from genvlm.config.training import RunConfig
from genvlm.config.video_tokenizer import VideoVQTrainConfig
from genvlm.errors import CheckpointError, DataError, TrainingError
from genvlm.nn.whole_files import hold_folder, storage_errors, write_whole
from genvlm.training.checkpoint import (
    checkpoint_step,
    list_checkpoints,
    remove_leftovers,
    what_stands,
)
from genvlm.training.objectives.next_token import bfloat16_supported
from genvlm.training.stopping import StoppedError, Terminated

CONFIG_FILE, LOG_FILE, INPUTS_FILE = "config.yaml", "log.jsonl", "inputs.json"
MODEL_FOLDER, CHECKPOINTS = "model", "checkpoints"


@contextlib.contextmanager
def hold_run(
    config: RunConfig | VQGANTrainConfig | VideoVQTrainConfig, out: Path, resume: bool
) -> Iterator[bool]:
    """Hold and claim the folder of a run; True in the one process that writes into it.

    Raises:
        TrainingError: as `claim_run`, or the processor has no bfloat16.
        StorageError: the folder is in use, full, read-only or gone; what was saved before stands.
        StoppedError: on SIGTERM outside of the steps.
    """
    if config.precision == "bfloat16" and not bfloat16_supported():
        raise TrainingError("this processor has no bfloat16 units: set precision to float32")
    first = os.environ.get("RANK", "0") == "0"
    checkpoints = out / CHECKPOINTS
    with hold_folder(out) if first else contextlib.nullcontext():
        try:
            if first:
                claim_run(config, out, resume)
            yield first
        except Terminated:
            found = list_checkpoints(checkpoints)
            step = checkpoint_step(found[-1]) if found else None
            raise StoppedError(step, signal.SIGTERM) from None
        except OSError as error:
            if not _is_of_folder(error, out):
                raise
            with storage_errors(out, what_stands(checkpoints)):
                raise


def claim_run(config: object, out: Path, resume: bool) -> None:
    """Refuse to mix two runs in one folder; write the resolved configuration.

    Raises:
        TrainingError: `out` holds a run, and this one is not to go on with it.
        CheckpointError: the run that is to go on had another configuration.
    """
    path = out / CONFIG_FILE
    for name in (CONFIG_FILE, INPUTS_FILE, LOG_FILE):
        for left_by_a_kill in out.glob(f"{name}.*.tmp"):
            left_by_a_kill.unlink()
    remove_leftovers(out / CHECKPOINTS)
    going_on = resume and path.is_file()
    if not resume and (list_checkpoints(out / CHECKPOINTS) or (out / MODEL_FOLDER).exists()):
        raise TrainingError(f"{out} holds a run already: add --resume or choose another --out")
    if going_on:
        before, now = to_plain(load_config(type(config), path)), to_plain(config)
        if before != now:
            raise CheckpointError(
                f"{out} was started with another configuration (its {_difference(before, now)} is "
                f"another): resume with {path} as it is, or choose another --out"
            )
    else:
        write_whole(path, dump_config(config))


def claim_inputs(inputs: Mapping[str, str], out: Path) -> None:
    """Remember the fingerprints of what a run is trained with; they must be the same on resume.

    Raises:
        CheckpointError: the run was started with others, or what it wrote of them is damaged.
    """
    path = out / INPUTS_FILE
    if not list_checkpoints(out / CHECKPOINTS) or not path.is_file():
        write_whole(path, json.dumps(inputs, indent=1))
        return
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise CheckpointError(f"{path} is damaged: bring it back from a copy of the run") from None
    changed = [name for name, fingerprint in inputs.items() if before.get(name) != fingerprint]
    if changed:
        raise CheckpointError(
            f"{out} was started with another {' and another '.join(changed)}: bring back what it "
            f"had, or choose another --out"
        )


def read_log(path: Path) -> list[dict[str, float]]:
    """Records of a log; a last line that is still being written is left out.

    Raises:
        DataError: a line is no record, as a loss of power can leave it.
    """
    records, unreadable = _records(path)
    if unreadable is not None:
        raise DataError(
            f"{path}, line {unreadable} is no record of a run: go on with --resume, which keeps "
            f"what stands before it, or delete it and all behind it"
        )
    return records


def cut_log(path: Path, step: int, say: Callable[[str], None]) -> None:
    """Drop records behind the step that is resumed, so that none stands twice.

    What stands from the first unreadable line on is dropped too, and that is said.
    """
    if not path.is_file():
        return
    records, unreadable = _records(path)
    if unreadable is not None:
        say(f"{path}, line {unreadable} is no record of a run: what stood from there on is dropped")
    write_whole(path, "".join(json.dumps(r) + "\n" for r in records if r["step"] <= step))


def _records(path: Path) -> tuple[list[dict[str, float]], int | None]:
    """Those in front of the first line that is none, and the number of that line."""
    records = list[dict[str, float]]()
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):
        try:
            record = json.loads(line.decode("utf-8"))
            whole = isinstance(record["step"], int | float)
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            return records, number
        records.append(record)
    return records, None


def _is_of_folder(error: OSError, folder: Path) -> bool:
    """Whether a disk refused to write into a folder; reading elsewhere always names a file."""
    if error.filename is None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
    return Path(os.fsdecode(error.filename)).absolute().is_relative_to(folder.absolute())


def _difference(before: Any, now: Any) -> str:
    """The path of the first key that differs."""
    for key, value in before.items():
        if value != now.get(key):
            both = isinstance(value, dict) and isinstance(now.get(key), dict)
            return f"{key}.{_difference(value, now[key])}" if both else str(key)
    return "set of keys"
