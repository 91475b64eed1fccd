"""The steps of any run: batches in, optimizer steps, log, checkpoints."""

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import nn

from genvlm.config.assets import resolve_path
from genvlm.config.training import RunConfig
from genvlm.data.batches import Batch
from genvlm.data.pairs import PairBatch
from genvlm.errors import ConfigError
from genvlm.training.checkpoint import checkpoint_step, newest_valid, save_checkpoint
from genvlm.training.ema import WeightAverage
from genvlm.training.engine import Engine, StepResult, learning_rate
from genvlm.training.run_folder import CHECKPOINTS, LOG_FILE, cut_log
from genvlm.training.stopping import StoppedError, stop_signals


@dataclass(frozen=True)
class Progress:
    """Callbacks of a run; the command line draws them."""

    encode: Callable[[int, int], None] = lambda done, total: None
    """Pictures encoded, pictures in all."""
    step: Callable[[dict[str, float], int], None] = lambda record, num_steps: None
    """A log record, steps in all."""
    say: Callable[[str], None] = lambda message: None


class BatchesOfSteps(Protocol):
    """A pure function of the step."""

    def batch(
        self, step: int, *, rank: int, num_ranks: int, accum: int
    ) -> list[Batch] | list[PairBatch]:
        """The micro-batches of one process."""
        ...


def run_steps(
    config: RunConfig,
    out: Path,
    resume: bool,
    source: BatchesOfSteps,
    objective: nn.Module,
    progress: Progress,
    *,
    unit: str,
    ema_decay: float | None = None,
) -> bool:
    """All steps that are left; afterwards `objective` holds the trained weights, or their average.

    Args:
        unit: what the counts of the objective's terms count, for the log.

    Returns:
        Whether any were left.

    Raises:
        ConfigError: an average of weights that no process holds.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    engine = _build_engine(config, objective)
    average = _build_average(engine, objective, ema_decay)
    checkpoints = _Checkpoints(out / CHECKPOINTS, engine, average)
    accum = config.grad_accum_steps(engine.num_processes)
    start = checkpoints.resume(config.num_steps, progress.say) if resume else 0
    if engine.is_main:
        cut_log(out / LOG_FILE, start)
    began, counted, window = time.monotonic(), 0, list[StepResult]()
    with (out / LOG_FILE).open("a") as log, stop_signals() as stopped:
        for step in range(start, config.num_steps):
            batches = source.batch(
                step, rank=engine.rank, num_ranks=engine.num_processes, accum=accum
            )
            result = engine.train_step(step, batches)
            if average is not None and not result.skipped:
                average.update()
            counted += sum(result.counts.values())
            window.append(result)
            done = step + 1
            if done % config.log_every == 0 or done == config.num_steps:
                record = _record(config, done, window)
                record[f"{unit}_per_second"] = round(counted / (time.monotonic() - began), 1)
                window.clear()
                if engine.is_main:
                    log.write(json.dumps(record) + "\n")
                    log.flush()
                    progress.step(record, config.num_steps)
            # Processes get the signal at different moments and must all leave at the same step.
            stop = engine.largest(stopped[0] if stopped else 0)
            if done % config.checkpoint_every == 0 or done == config.num_steps or stop:
                checkpoints.save(done)
            if stop and done < config.num_steps:
                raise StoppedError(done, stop)
    state = engine.state_dict()
    objective.load_state_dict({name: t.to(torch.float32) for name, t in state.items()})
    if average is not None:
        average.write_into(objective.float())
    return start < config.num_steps


def _build_engine(config: RunConfig, objective: nn.Module) -> Engine:
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    return Engine(
        objective,
        config.optimizer,
        num_steps=config.num_steps,
        precision=config.precision,
        deepspeed=resolve_path(config.deepspeed) if config.deepspeed else None,
        micro_batch_size=config.micro_batch_size,
        grad_accum_steps=config.grad_accum_steps(num_processes),
    )


def _build_average(
    engine: Engine, objective: nn.Module, decay: float | None
) -> WeightAverage | None:
    """After the engine, which moves weights to its device."""
    if decay is None:
        return None
    if engine.shards_parameters:
        raise ConfigError(
            "ema_decay needs whole weights, which ZeRO 3 shards: use a lower stage, or set it to "
            "null"
        )
    return WeightAverage(objective, decay)


@dataclass(frozen=True)
class _Checkpoints:
    """Engine and average, kept together."""

    root: Path
    engine: Engine
    average: WeightAverage | None

    def resume(self, num_steps: int, say: Callable[[str], None]) -> int:
        """The step to go on from, after loading the newest valid checkpoint."""
        folder = newest_valid(self.root, say)
        if folder is None:
            say(f"{self.root} holds no checkpoint: beginning at step 0")
            return 0
        self.engine.load(folder)
        if self.average is not None:
            self.average.load(folder)
        start = checkpoint_step(folder)
        say(f"resumed at step {start}{' and finished already' if start >= num_steps else ''}")
        return start

    def save(self, step: int) -> None:
        """Publish a checkpoint. Called in every process."""
        engine = self.engine
        if engine.num_processes == 1:
            save_checkpoint(self.root, step, self._write)
            return
        # Every process writes its part into one shared folder; the first one publishes it.
        shared = self.root / f".parts-{step:08d}"
        if engine.is_main:
            for left_by_a_kill in self.root.glob(".parts-*"):
                shutil.rmtree(left_by_a_kill)
        engine.wait()
        self._write(shared)
        engine.wait()
        if engine.is_main:
            save_checkpoint(self.root, step, lambda folder: _move_into(shared, folder))
        engine.wait()

    def _write(self, folder: Path) -> None:
        self.engine.save(folder)
        if self.average is not None and self.engine.is_main:
            self.average.save(folder)


def _move_into(source: Path, target: Path) -> None:
    for path in source.iterdir():
        path.rename(target / path.name)
    source.rmdir()


def _record(config: RunConfig, step: int, window: Sequence[StepResult]) -> dict[str, float]:
    """Means over all that was counted since the last record: one batch holds like documents."""
    sums, counts = dict[str, float](), Counter[str]()
    for result in window:
        for name, mean in result.terms.items():
            sums[name] = sums.get(name, 0.0) + mean * result.counts[name]
            counts[name] += result.counts[name]
    return {
        "step": step,
        "loss": sum(sums.values()) / max(sum(counts.values()), 1),
        **{f"loss_{name}": total / counts[name] for name, total in sums.items()},
        "learning_rate": learning_rate(config.optimizer, step - 1, config.num_steps),
        "grad_norm": sum(r.grad_norm for r in window) / len(window),
        "skipped": float(sum(r.skipped for r in window)),
    }
