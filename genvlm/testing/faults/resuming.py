"""Runs that are stopped and resumed at chosen places, and what they read of their data."""

import json
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from genvlm.config.training import TrainConfig
from genvlm.data import batches
from genvlm.data.batches import BatchSource
from genvlm.testing.faults.children import Child, run_command
from genvlm.testing.faults.row import Progress, Row, demand, none_damaged, run_trials, silent
from genvlm.testing.faults.runs import (
    RunEnd,
    demand_same,
    end_of,
    tiny_run,
    variants,
    warm_up,
    write_run,
)
from genvlm.testing.tiny import tiny_pairs
from genvlm.training.checkpoint import checkpoint_step, list_checkpoints, newest_valid
from genvlm.training.engine import Engine
from genvlm.training.loop import train
from genvlm.training.objectives.next_token import NextTokenObjective
from genvlm.training.run_folder import CHECKPOINTS
from genvlm.training.steps import Progress as Callbacks
from genvlm.training.stopping import StoppedError

_STEPS_PER_EPOCH = len(tiny_pairs()) // 4


@dataclass(frozen=True)
class _Whole:
    """A run that was never stopped."""

    config: TrainConfig
    end: RunEnd


def _whole(folder: Path, num_steps: int) -> _Whole:
    return _whole_of(
        tiny_run(folder / "data", num_steps=num_steps, checkpoint_every=num_steps), folder
    )


def _whole_of(config: TrainConfig, folder: Path) -> _Whole:
    train(config, folder / "whole")
    return _Whole(config, end_of(folder / "whole"))


def _stop_at(*steps: int) -> Callbacks:
    def seen(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] in steps:
            signal.raise_signal(signal.SIGTERM)

    return Callbacks(step=seen)


def _stop_then_resume(whole: _Whole, out: Path, stops: list[int]) -> None:
    """Train with a stop after each of these steps, then to the end."""
    for number, step in enumerate(stops):
        try:
            train(whole.config, out, resume=number > 0, progress=_stop_at(step))
        except StoppedError:
            found = checkpoint_step(list_checkpoints(out / CHECKPOINTS)[-1])
            demand(found == step, f"stopped at step {found} instead of {step}")
    said: list[str] = []
    train(whole.config, out, resume=True, progress=Callbacks(say=said.append))
    demand(f"resumed at step {stops[-1]}" in said[0], f"not resumed at {stops[-1]}: {said}")
    demand_same(out, whole.end)


def resume_at_every_step(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """Runs of `count` steps, stopped after each of them, in turn of every kind of `variants`.

    Every third step of a padded one ends an epoch.
    """
    plain = tiny_run(folder / "data", num_steps=count, checkpoint_every=count)
    configs = variants(plain, folder / "data")
    kinds = list(configs)

    @cache
    def whole(kind: str) -> _Whole:
        return _whole_of(configs[kind], folder / kind)

    def trial(number: int, _rng: random.Random, own: Path) -> str:
        kind = kinds[number % len(kinds)]
        _stop_then_resume(whole(kind), own / "run", [number + 1])
        return kind

    name = "resumed at every step"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def resume_twice_in_an_epoch(
    count: int, seed: int, folder: Path, progress: Progress = silent
) -> Row:
    """Two stops, at the first and the second step of the same epoch."""
    num_steps = _STEPS_PER_EPOCH * count
    whole = _whole(folder / "whole", num_steps)

    def trial(number: int, _rng: random.Random, own: Path) -> None:
        first = number * _STEPS_PER_EPOCH + 1
        _stop_then_resume(whole, own / "run", [first, first + 1])

    name = "resumed twice in an epoch"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def stop_within_accumulation(
    count: int, seed: int, folder: Path, progress: Progress = silent
) -> Row:
    """SIGTERM between two micro-batches of a step: the step is finished, then saved."""
    whole = _whole(folder / "whole", 10)
    forward = NextTokenObjective.forward

    def trial(_number: int, rng: random.Random, own: Path) -> str:
        step, second, passes = rng.randint(1, 9), rng.random() < 0.5, 0
        out = own / "run"

        def signalled(self: NextTokenObjective, batch: Any) -> Any:
            nonlocal passes
            passes += 1
            if passes == 2 * step - (not second):
                signal.raise_signal(signal.SIGTERM)
            return forward(self, batch)

        try:
            with mock.patch.object(NextTokenObjective, "forward", signalled):
                train(whole.config, out)
        except StoppedError:
            pass
        stopped = checkpoint_step(list_checkpoints(out / CHECKPOINTS)[-1])
        demand(stopped == step, f"stopped at step {stopped} instead of {step}")
        train(whole.config, out, resume=True)
        demand_same(out, whole.end)
        return "in the second pass" if second else "in the first pass"

    name = "stopped within an accumulation"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def keep_ledger(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """Three epochs and `count` kills: each sample is read once an epoch, in the order of old.

    A step that was trained and not saved is trained again; what counts is the last time.
    """
    num_steps, samples = 3 * len(tiny_pairs()), len(tiny_pairs())
    config = replace(
        tiny_run(folder / "data", num_steps=num_steps, checkpoint_every=2),
        global_batch_size=1,
        micro_batch_size=1,
    )
    arguments = write_run(config, folder / "run.yaml")
    warm_up(config, folder / "warm")
    undisturbed = folder / "undisturbed"
    demand(_recorded(arguments, undisturbed).wait().code == 0, "the run fails without kills")
    expected = _read_ledger(undisturbed)
    for epoch in range(3):
        steps = range(epoch * samples, (epoch + 1) * samples)
        times = Counter(sample for step in steps for sample in expected[step])
        demand(len(times) == samples, f"epoch {epoch} reads {len(times)} of {samples} samples")
        demand(set(times.values()) == {1}, f"epoch {epoch} reads {times}")

    def trial(number: int, rng: random.Random, own: Path) -> None:
        out = own / "run"
        for kill in range(count):
            # Kills are spread over all steps, whatever was lost by earlier ones.
            step = rng.randint(0, 1) + kill * (num_steps - 2) // count
            child = _recorded(arguments, out)
            _wait_for_step(out, step)
            child.kill()
            demand(child.wait().code == -signal.SIGKILL, f"ended before kill {kill}")
            newest_valid(out / CHECKPOINTS, none_damaged)
        ended = _recorded(arguments, out).wait()
        demand(ended.code == 0, f"cannot be resumed: {ended.said[-300:]}")
        demand(_read_ledger(out) == expected, "other samples than in a run without kills")
        demand_same(out, end_of(undisturbed))

    name = "ledger of samples over kills"
    row = run_trials(name, 1, seed, folder / "trials", trial)
    progress(count, count)
    note = f"one run of three epochs of {samples} samples"
    return Row(name, count, row.failures, row.seconds, note)


def _wait_for_step(out: Path, step: int) -> None:
    """Until a run has begun this step; at most a minute."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if max(_read_ledger(out), default=-1) >= step:
            return
        time.sleep(0.002)
    raise TimeoutError(f"step {step} was not reached")


def _recorded(arguments: list[str], out: Path) -> Child:
    """A child that trains, going on where there is something, and writes down what it reads."""
    out.parent.mkdir(parents=True, exist_ok=True)
    ledger = out.with_name(f"{out.name}.ledger")
    encode, batch, train_step = batches.encode_document, BatchSource.batch, Engine.train_step
    run = run_command([*arguments, "--out", str(out), "--resume"])

    def record() -> int:
        read: list[str] = []
        made: dict[int, list[str]] = {}  # ahead of the steps that use them

        def encoding(document: Any, *rest: Any, **more: Any) -> Any:
            read.append(document.id)
            return encode(document, *rest, **more)

        def batching(self: BatchSource, step: int, **more: Any) -> Any:
            read.clear()
            found = batch(self, step, **more)
            made[step] = list(read)
            return found

        def training(self: Engine, step: int, given: Any) -> Any:
            with ledger.open("a") as file:
                file.write(json.dumps([step, made[step]]) + "\n")
            return train_step(self, step, given)

        with (
            mock.patch.object(batches, "encode_document", encoding),
            mock.patch.object(BatchSource, "batch", batching),
            mock.patch.object(Engine, "train_step", training),
        ):
            return run()

    return Child(record, out.with_name(f"{out.name}.txt"))


def _read_ledger(out: Path) -> dict[int, list[str]]:
    """What each step read the last time that it was trained."""
    path = out.with_name(f"{out.name}.ledger")
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return dict(json.loads(line) for line in lines if line.endswith("\n"))
