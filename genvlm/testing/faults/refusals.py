"""Runs that must not begin or go on: other data, other settings, another run in the folder."""

import errno
import fcntl
import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

from genvlm.config.training import TrainConfig
from genvlm.errors import CheckpointError, GenvlmError, StorageError, TrainingError
from genvlm.testing.faults.children import Child
from genvlm.testing.faults.damage import state_of
from genvlm.testing.faults.row import Progress, Row, demand, run_trials, silent
from genvlm.testing.faults.runs import RunEnd, demand_same, end_of, tiny_run, warm_up
from genvlm.testing.tiny import tiny_image_tokenizer
from genvlm.tokenization.text import train_sentencepiece
from genvlm.training.loop import train
from genvlm.training.run_folder import CHECKPOINTS
from genvlm.training.steps import Progress as Callbacks
from genvlm.training.stopping import StoppedError

_NUM_STEPS = 4
Change = Callable[[TrainConfig, Path], TrainConfig]
"""Changes the folder of data, or returns another configuration."""


def _other_caption(config: TrainConfig, data: Path) -> TrainConfig:
    path = data / "pairs" / "captions.jsonl"
    path.write_text(path.read_text().replace("red square", "red thing"))
    return config


def _other_picture(config: TrainConfig, data: Path) -> TrainConfig:
    shutil.copyfile(data / "pairs" / "1.png", data / "pairs" / "0.png")
    return config


def _one_document_fewer(config: TrainConfig, data: Path) -> TrainConfig:
    path = data / "pairs" / "captions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    return config


def _other_image_tokenizer(config: TrainConfig, data: Path) -> TrainConfig:
    shutil.rmtree(data / "image")
    tiny_image_tokenizer(seed=1).save(data / "image")
    return config


def _other_text_tokenizer(config: TrainConfig, data: Path) -> TrainConfig:
    shutil.rmtree(data / "text")
    (data / "text").mkdir()
    texts = ["other words of another corpus", "a page of words"]
    train_sentencepiece(texts, vocab_size=280).save(data / "text")
    return config


def _other_seed(config: TrainConfig, _data: Path) -> TrainConfig:
    return replace(config, seed=config.seed + 1)


def _other_rate(config: TrainConfig, _data: Path) -> TrainConfig:
    return replace(config, optimizer=replace(config.optimizer, learning_rate=1e-3))


def _other_width(config: TrainConfig, _data: Path) -> TrainConfig:
    return replace(config, model=replace(config.model, intermediate_size=64))


def _other_batch(config: TrainConfig, _data: Path) -> TrainConfig:
    return replace(config, global_batch_size=6)


_CHANGES: tuple[tuple[Change, str], ...] = (
    (_other_caption, "another corpus"),
    (_other_picture, "another corpus"),
    (_one_document_fewer, "another corpus"),
    (_other_image_tokenizer, "another image tokenizer"),
    (_other_text_tokenizer, "another text tokenizer"),
    (_other_seed, "its seed is another"),
    (_other_rate, "its optimizer.learning_rate is another"),
    (_other_width, "its model.intermediate_size is another"),
    (_other_batch, "its global_batch_size is another"),
)


def change_what_a_run_reads(
    count: int, seed: int, folder: Path, progress: Progress = silent
) -> Row:
    """A stopped run is resumed with other data or settings: refused, named, and left as it was."""
    config = tiny_run(folder / "data", num_steps=_NUM_STEPS, checkpoint_every=2)
    train(config, folder / "whole")
    end = end_of(folder / "whole")

    def trial(number: int, rng: random.Random, own: Path) -> str:
        change, said = _CHANGES[number % len(_CHANGES)]
        out, data = own / "run", folder / "data"
        _train_until(config, out, rng.randint(1, _NUM_STEPS - 1))
        before = state_of(out / CHECKPOINTS)
        kept = Path(shutil.copytree(data, own / "kept"))
        try:
            _refused(change(config, data), out, said)
        finally:
            shutil.rmtree(data)
            shutil.copytree(kept, data)
        demand(state_of(out / CHECKPOINTS) == before, "checkpoints were touched")
        train(config, out, resume=True)
        demand_same(out, end)
        return said.removeprefix("its ").removesuffix(" is another")

    name = "resumed with other fingerprints"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def _refused(config: TrainConfig, out: Path, said: str) -> None:
    try:
        train(config, out, resume=True)
    except CheckpointError as error:
        demand(said in str(error), f"refused by other words: {error}")
    else:
        raise AssertionError(f"{said}: not refused")


def _train_until(config: TrainConfig, out: Path, step: int) -> None:
    def stop(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    try:
        train(config, out, progress=Callbacks(step=stop))
    except StoppedError:
        return
    raise AssertionError(f"not stopped at step {step}")


def share_a_folder(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """A second run in a folder in use, in one without locks, or in one whose holder was killed."""
    config = tiny_run(folder / "data", num_steps=_NUM_STEPS, checkpoint_every=2)
    warm_up(config, folder / "warm")
    train(config, folder / "whole")
    end = end_of(folder / "whole")
    cases = (_second_while_the_first_runs, _after_its_holder_was_killed, _without_locks)

    def trial(number: int, rng: random.Random, own: Path) -> str:
        return cases[number % len(cases)](config, own, end, resume=rng.random() < 0.5)

    name = "two runs in one folder"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def _hold(config: TrainConfig, out: Path) -> Child:
    """A child that trains two steps and then stays."""
    arrived = out.with_name("arrived")

    def stay(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] == 3:
            arrived.touch()
            time.sleep(600)

    def run() -> None:
        train(config, out, progress=Callbacks(step=stay))

    child = Child(run, out.with_name("holder.txt"))
    until = time.monotonic() + 60
    while not arrived.exists():
        demand(time.monotonic() < until, "the first run does not train")
        time.sleep(0.005)
    return child


def _second_while_the_first_runs(
    config: TrainConfig, own: Path, _end: RunEnd, *, resume: bool
) -> str:
    out = own / "run"
    child = _hold(config, out)
    try:
        before = state_of(out)
        _is_locked_out(config, out, resume, "another process is writing into")
        demand(state_of(out) == before, "the second run has changed something")
    finally:
        child.kill()
        child.wait()
    return "in use"


def _after_its_holder_was_killed(
    config: TrainConfig, own: Path, end: RunEnd, *, resume: bool
) -> str:
    out = own / "run"
    child = _hold(config, out)
    child.kill()
    child.wait()
    demand((out / ".lock").is_file(), "no lock was left")
    if not resume:
        _is_locked_out(config, out, resume, "holds a run already: add --resume")
    train(config, out, resume=True)
    demand_same(out, end)
    return "lock of a dead process"


def _without_locks(config: TrainConfig, own: Path, _end: RunEnd, *, resume: bool) -> str:
    def unknown(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    with mock.patch.object(fcntl, "flock", unknown):
        _is_locked_out(config, own / "run", resume, "cannot be locked against a second process")
    return "no locks"


def _is_locked_out(config: TrainConfig, out: Path, resume: bool, said: str) -> None:
    try:
        train(config, out, resume=resume)
    except (StorageError, TrainingError) as error:
        demand(said in str(error), f"refused by other words: {error}")
    else:
        raise AssertionError(f"not refused: {said}")


def lose_the_folder(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """The folder of a run, or that of its checkpoints, is deleted or moved away while it trains."""
    config = tiny_run(folder / "data", num_steps=_NUM_STEPS, checkpoint_every=2)

    def trial(number: int, rng: random.Random, own: Path) -> str:
        out, away = own / "run", own / "away"
        step, moved = rng.randint(1, _NUM_STEPS - 1), number % 2 == 0

        def lose(record: dict[str, float], _num_steps: int) -> None:
            if record["step"] == step:
                out.rename(away) if moved else shutil.rmtree(out)

        try:
            train(config, out, progress=Callbacks(step=lose))
        except GenvlmError as error:
            demand(str(out) in str(error) and "vanished" in str(error), f"said: {error}")
        else:
            raise AssertionError("nobody missed the folder")
        demand(not out.exists(), f"half a run came into being: {list(own.rglob('*'))}")
        if moved:
            train(config, away, resume=True)
            json.loads((away / "inputs.json").read_text())
        return "moved" if moved else "deleted"

    name = "folder of a run vanishes"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)
