"""The steps of any run: batches in, optimizer steps, log, checkpoints."""

import os
import time
from collections.abc import Callable
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
from genvlm.training.ema import WeightAverage
from genvlm.training.engine import Engine
from genvlm.training.run_checkpoints import RunCheckpoints
from genvlm.training.run_folder import CHECKPOINTS
from genvlm.training.run_log import RunLog, StepTime
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
    checkpoints = RunCheckpoints(out / CHECKPOINTS, engine, average)
    accum = config.grad_accum_steps(engine.num_processes)
    start = checkpoints.resume(config.num_steps, progress.say) if resume else 0
    log = RunLog(
        config, out, start=start, unit=unit, writes=engine.is_main,
        parameter_norm=engine.parameter_norm, say=progress.say,
    )  # fmt: skip
    with stop_signals() as stopped:
        for step in range(start, config.num_steps):
            began = time.monotonic()
            batches = source.batch(
                step, rank=engine.rank, num_ranks=engine.num_processes, accum=accum
            )
            fetched = time.monotonic()
            result = engine.train_step(step, batches)
            took = StepTime(fetched - began, time.monotonic() - fetched)
            if average is not None and not result.skipped:
                average.update()
            done = step + 1
            record = log.add(result, done, took)
            if record is not None and engine.is_main:
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
