"""NaN and infinity in losses and gradients: a step that did not happen, and a run that ends."""

import math
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from torch import Tensor

from genvlm.config.training import TrainConfig
from genvlm.errors import TrainingError
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.testing.faults.row import Progress, Row, demand, none_damaged, run_trials, silent
from genvlm.testing.faults.runs import end_of, tiny_run
from genvlm.training.checkpoint import list_checkpoints, newest_valid
from genvlm.training.engine import Engine, StepResult
from genvlm.training.loop import train
from genvlm.training.objectives.next_token import NextTokenObjective
from genvlm.training.run_folder import CHECKPOINTS, LOG_FILE, read_log

_STEPS, _LIMIT = 8, 3
_VALUES = (math.nan, math.inf, -math.inf)


def spoil_numbers(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """Some steps, or from some step on all of them, meet a number that is not finite."""
    config = replace(
        tiny_run(folder / "data", num_steps=_STEPS, checkpoint_every=1),
        max_skipped_steps=_LIMIT,
    )

    def trial(number: int, rng: random.Random, own: Path) -> str:
        if number % 3 == 2:
            _all_from(config, rng, own / "run")
            return "to the end"
        # Two of three steps in a row at most, or the run would rightly end.
        spoilt = set(rng.sample(range(_STEPS), 2))
        result = _some(config, rng, own / "run", spoilt)
        return f"{len(result)} steps"

    name = "NaN and infinity in steps"
    return run_trials(name, count, seed, folder / "trials", trial, progress=progress)


def _some(config: TrainConfig, rng: random.Random, out: Path, spoilt: set[int]) -> set[int]:
    skipped = _train(config, rng, out, spoilt)
    demand(skipped == spoilt, f"skipped {skipped} instead of {spoilt}")
    counted = sum(record["skipped"] for record in read_log(out / LOG_FILE))
    demand(counted == len(spoilt), f"the log counts {counted} skipped steps")
    end_of(out)
    return skipped


def _all_from(config: TrainConfig, rng: random.Random, out: Path) -> None:
    first = rng.randint(1, _STEPS - _LIMIT)
    try:
        _train(config, rng, out, set(range(first, _STEPS)))
    except TrainingError as error:
        demand(f"{_LIMIT} steps in a row" in str(error), f"ended by other words: {error}")
    else:
        raise AssertionError(f"went on with {_STEPS - first} steps that were not finite")
    demand(newest_valid(out / CHECKPOINTS, none_damaged), "nothing can be resumed")
    demand(list_checkpoints(out / CHECKPOINTS), "no checkpoint is left")
    train(config, out, resume=True)
    end_of(out)
    shutil.rmtree(out)


def _train(config: TrainConfig, rng: random.Random, out: Path, spoilt: set[int]) -> set[int]:
    """Train with steps spoilt at one place; returns those that were skipped."""
    value, in_gradient = rng.choice(_VALUES), rng.random() < 0.5
    forward, train_step = NextTokenObjective.forward, Engine.train_step
    skipped, now, taken = set[int](), -1, 0

    def spoiling(self: NextTokenObjective, batch: Any) -> Any:
        nonlocal taken
        losses = forward(self, batch)
        taken += 1
        if now not in spoilt or taken > 1:  # in one of two micro-batches
            return losses
        total: Tensor = losses.weighted_sum
        if in_gradient:
            total = total.clone()
            total.register_hook(lambda gradient: gradient * value)
        return losses._replace(weighted_sum=total if in_gradient else total * value)

    def watching(self: Engine, step: int, given: Any) -> StepResult:
        nonlocal now, taken
        now, taken = step, 0
        before = _state_of(self)
        result = train_step(self, step, given)
        if result.skipped:
            skipped.add(step)
            demand(_state_of(self) == before, f"step {step} was skipped and changed the state")
        return result

    with (
        mock.patch.object(NextTokenObjective, "forward", spoiling),
        mock.patch.object(Engine, "train_step", watching),
    ):
        train(config, out)
    return skipped


def _state_of(engine: Engine) -> str:
    """Fingerprint of parameters and of what the optimizer remembers of them."""
    held = {f"weight.{name}": tensor for name, tensor in engine.state_dict().items()}
    for number, optimizer in enumerate(engine._optimizers):
        for group in optimizer.param_groups:
            for place, parameter in enumerate(group["params"]):
                for key, value in optimizer.state.get(parameter, {}).items():
                    held[f"{number}.{place}.{tuple(parameter.shape)}.{key}"] = value
    return fingerprint_tensors({n: t for n, t in held.items() if isinstance(t, Tensor)})
