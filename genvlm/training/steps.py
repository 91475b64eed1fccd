"""The steps of any run: batches in, optimizer steps, log, checkpoints."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from genvlm.config.assets import resolve_path
from genvlm.config.deepspeed import read_deepspeed, refused_by_deepspeed
from genvlm.config.training import RunConfig
from genvlm.data.prefetch import prefetch
from genvlm.training.blocks import checkpoint_blocks, compile_blocks
from genvlm.training.ema import WeightAverage
from genvlm.training.engine import Engine, MicroBatch
from genvlm.training.run_checkpoints import RunCheckpoints
from genvlm.training.run_folder import CHECKPOINTS
from genvlm.training.run_log import RunLog, StepTime
from genvlm.training.stopping import StoppedError, stop_signals
from genvlm.training.zero import compiling_notice


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

    def batch(self, step: int, *, rank: int, num_ranks: int, accum: int) -> Sequence[MicroBatch]:
        """The micro-batches of one process."""
        ...


class Trained(NamedTuple):
    """What the steps of a run end with."""

    ran: bool
    """Whether any steps were left."""
    weights: dict[str, Tensor]
    """Of the objective, or their average, whole and in float32 on the CPU, in the main process;
    empty in others, so that none but one needs memory for all of it."""


def run_steps(
    config: RunConfig,
    out: Path,
    resume: bool,
    source: BatchesOfSteps,
    objective: nn.Module,
    progress: Progress,
    *,
    inputs: Mapping[str, str],
    unit: Literal["tokens", "pairs"],
    flops_per_token: Callable[[float], float] | None = None,
) -> Trained:
    """All steps that are left; `objective` is used up by them.

    Args:
        inputs: fingerprints of what this process trains with.
        unit: what the log tells speed in.
        flops_per_token: of a model of tokens, by the mean length of its rows.

    Raises:
        CheckpointError: as `RunCheckpoints.agree` and `RunCheckpoints.resume`.
        StoppedError: on SIGINT or SIGTERM, after a checkpoint.
    """
    first = os.environ.get("RANK", "0") == "0"
    if config.deepspeed is not None and first and (notice := compiling_notice()):
        progress.say(notice)
    engine = _build_engine(config, objective)
    decay = config.ema_decay
    average = None if decay is None else WeightAverage(engine.shards, decay)
    checkpoints = RunCheckpoints(out / CHECKPOINTS, engine, average)
    checkpoints.agree(inputs)
    accum = config.grad_accum_steps(engine.num_processes)
    start = checkpoints.resume(config.num_steps, progress.say) if resume else 0
    if engine.is_main:
        progress.say(_sharing(config, engine.num_processes))
    log = RunLog(
        config, out, start=start, unit=unit, writes=engine.is_main,
        parameter_norm=engine.parameter_norm, say=progress.say,
        flops_per_token=flops_per_token, peak_flops=engine.peak_flops(config.precision),
    )  # fmt: skip
    steps = range(start, config.num_steps)
    batch = partial(source.batch, rank=engine.rank, num_ranks=engine.num_processes, accum=accum)
    with stop_signals() as stopped, prefetch(batch, steps) as ahead:
        for step in steps:
            began = time.monotonic()
            batches = next(ahead)
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
    return Trained(start < config.num_steps, _whole_weights(engine, average))


def _whole_weights(engine: Engine, average: WeightAverage | None) -> dict[str, Tensor]:
    weights = engine.state_dict()
    if average is not None:
        weights |= average.gather()
    return {name: t.detach().to("cpu", torch.float32) for name, t in weights.items()}


def _sharing(config: RunConfig, num_processes: int) -> str:
    """Told by what the engine sees: `accelerate launch` may start fewer than it was asked for."""
    processes = f"{num_processes} process" + ("es" if num_processes > 1 else "")
    accum = config.grad_accum_steps(num_processes)
    return f"training in {processes}, {accum} x {config.micro_batch_size} samples each"


def _build_engine(config: RunConfig, objective: nn.Module) -> Engine:
    if config.activation_checkpointing:
        checkpoint_blocks(objective)
    if config.compile:
        compile_blocks(objective)
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    build = partial(
        Engine,
        objective,
        config.optimizer,
        num_steps=config.num_steps,
        precision=config.precision,
        grad_accum_steps=config.grad_accum_steps(num_processes),
        seed=config.seed,
        max_skipped_steps=config.max_skipped_steps,
    )
    if config.deepspeed is None:
        return build()
    path = resolve_path(config.deepspeed)
    deepspeed = read_deepspeed(path, config, num_processes)
    try:
        return build(deepspeed=deepspeed)
    except ValidationError as error:
        raise refused_by_deepspeed(path, deepspeed, error) from None
