"""What tests of ZeRO run in processes of their own, all in one start: a start takes seconds.

Arguments: JOB CONFIG OUT, where JOB names a function below. What it finds goes into OUT.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genvlm.config.assets import resolve_path
from genvlm.config.deepspeed import read_deepspeed
from genvlm.config.schema import load_config
from genvlm.config.training import TrainConfig
from genvlm.errors import CheckpointError
from genvlm.nn import layers
from genvlm.nn.safetensors_folder import fingerprint_tensors, save_tensors
from genvlm.training.engine import Engine
from genvlm.training.launch import leave
from genvlm.training.loop import prepare_transformer, train
from genvlm.training.objectives.next_token import NextTokenObjective
from genvlm.training.steps import Progress
from genvlm.training.stopping import StoppedError
from genvlm.training.zero import optimizer_tensors

WORLD = int(os.environ.get("WORLD_SIZE", "1"))
RANK = int(os.environ.get("RANK", "0"))
STAGES = (None, 0, 1, 2, 3)


def json_of(stage: int | str | None) -> str | None:
    return None if stage is None else f"configs/deepspeed/zero{stage}.json"


@contextmanager
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one state a process; each engine here is of another stage."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state()
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)


def build(config: TrainConfig, stage: int | str | None) -> tuple[Engine, NextTokenObjective, Any]:
    """Engine, objective, and the micro-batches of this process by step."""
    config = replace(config, deepspeed=json_of(stage))
    source, objective, _ = prepare_transformer(config, Path(sys.argv[3]) / "cache")
    objective.z_loss_weight = 1e-4
    accum = config.grad_accum_steps(WORLD)
    deepspeed = None
    if config.deepspeed is not None:
        deepspeed = read_deepspeed(resolve_path(config.deepspeed), config, WORLD)
    engine = Engine(
        objective, config.optimizer, num_steps=config.num_steps, precision=config.precision,
        deepspeed=deepspeed, grad_accum_steps=accum, max_skipped_steps=3,
    )  # fmt: skip
    return (
        engine,
        objective,
        lambda step: source.batch(step, rank=RANK, num_ranks=WORLD, accum=accum),
    )


def capture_gradients(engine: Engine, objective: nn.Module, into: dict[str, Tensor]) -> None:
    """Real gradients of the first step, before they are clipped."""

    def whole(parameter: nn.Parameter) -> Tensor:
        if engine._stage is None:
            return parameter.grad
        from deepspeed.utils import safe_get_full_grad

        return safe_get_full_grad(parameter)

    def capture() -> None:
        if not into:
            into.update({n: whole(p).float().clone() for n, p in objective.named_parameters()})

    name = "_update" if engine._stage is None else "_update_deepspeed"
    plain = getattr(engine, name)
    setattr(engine, name, lambda: (capture(), plain())[1])


def held(engine: Engine) -> str:
    """Fingerprint of all weights and optimizer state of this process."""
    optimizer = engine._optimizers[0]
    while getattr(optimizer, "optimizer", None) is not None:
        optimizer = optimizer.optimizer
    state = {f"optimizer {n}": t for n, t in optimizer_tensors(optimizer).items()}
    module = {
        f"module {name}": getattr(parameter, "ds_tensor", parameter)  # ZeRO 3's part of it
        for name, parameter in engine._module.named_parameters()
    }
    return fingerprint_tensors(state | module | engine.shards.local())


def run_with(hooked: nn.Module, engine: Engine, step: int, batches: Any, spoil: Callable) -> bool:
    """Skipped? In process 1 alone, or the only one, the first micro-batch is spoiled."""
    calls = []

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor | None:
        calls.append(1)
        return spoil(output) if len(calls) == 1 and RANK == WORLD - 1 else None

    handle = hooked.register_forward_hook(hook)
    try:
        return engine.train_step(step, batches).skipped
    finally:
        handle.remove()


def spoiled_gradient(output: Tensor) -> Tensor:
    output.register_hook(lambda gradient: gradient * float("inf"))
    return output


def train_stage(config: TrainConfig, stage: int | str | None, out: Path, *, num_steps: int) -> None:
    """Losses, first gradients, final weights; then steps that must be skipped."""
    with fresh_accelerate():
        engine, objective, batches = build(config, stage)
        gradients: dict[str, Tensor] = {}
        capture_gradients(engine, objective, gradients)
        losses = []
        for step in range(num_steps):
            result = engine.train_step(step, batches(step))
            assert not result.skipped
            losses.append([result.terms["text"], result.terms["image"], result.grad_norm])
        weights = engine.state_dict()
        assert bool(weights) == (RANK == 0)
        engine.check_finite(num_steps)
        before, skipped = held(engine), []
        nan = lambda output: output * float("nan")  # noqa: E731
        for hooked, spoil in (
            (objective.model.embedding, nan),
            (objective.model.norm, spoiled_gradient),
        ):
            skipped.append(run_with(hooked, engine, num_steps, batches(num_steps), spoil))
            skipped.append(held(engine) == before)
        skipped.append(not engine.train_step(num_steps, batches(num_steps)).skipped)
        skipped.append(held(engine) != before)
        told = check_refuses_nan(engine)
        save_process(out, {"losses": losses, "skipped": skipped, "told": told})
        if RANK == 0:
            save_tensors(weights, out / "weights.safetensors")
            save_tensors(gradients, out / "gradients.safetensors")


def check_refuses_nan(engine: Engine) -> str:
    """In one process, one number of the optimizer's state is spoiled."""
    from genvlm.errors import TrainingError

    if RANK == WORLD - 1:
        shard = next(t for t in engine.shards.local().values() if t.numel())
        shard.view(-1)[0] = float("nan")
    try:
        engine.check_finite(7)
    except TrainingError as error:
        return str(error)
    return "nothing"


def save_process(out: Path, found: dict[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / f"process-{RANK}.json").write_text(json.dumps(found))
    torch.distributed.barrier() if torch.distributed.is_initialized() else None


def stop_at(step: int) -> Progress:
    def seen(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    return Progress(step=seen)


def leg(config: TrainConfig, stage: int | None, out: Path, last: int) -> None:
    """A whole run, gone on with and stopped at `last` steps."""
    run = replace(config, num_steps=8, ema_decay=0.9, deepspeed=json_of(stage))
    told = ""
    with fresh_accelerate():
        try:
            train(run, out / f"run-{stage}", resume=last > 3, progress=stop_at(last))
        except StoppedError:
            told = "stopped"
        except CheckpointError as error:
            told = str(error)
    save_process(out / f"run-{stage}" / f"leg-{last}", {"told": told})


def legs(config: TrainConfig, out: Path, last: int) -> None:
    """Of every stage."""
    for stage in STAGES:
        leg(config, stage, out, last)


def together(config: TrainConfig, out: Path) -> None:
    """All that two processes do: steps of every stage, the middle leg, runs that end soon."""
    for stage in STAGES:  # plain ones first: Accelerate finds no way back from DeepSpeed
        train_stage(config, stage, out / f"float32-{stage}", num_steps=config.num_steps)
        leg(config, stage, out, 6)
    gloo = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
    assert gloo.options._timeout == timedelta(hours=2)  # of waiting for what one process publishes
    for offload in ("2-offload", "3-offload"):
        train_stage(config, offload, out / f"float32-{offload}", num_steps=5)
    for stage in (2, 3):
        lower = replace(config, precision="bfloat16")
        train_stage(lower, stage, out / f"bfloat16-{stage}", num_steps=5)
    for stage in (1, 2, 3):
        with fresh_accelerate():
            short = replace(config, deepspeed=json_of(stage), num_steps=2)
            train(short, out / f"exact-{stage}")
        torch.distributed.barrier()
    tied = replace(config, model=replace(config.model, tie_head=True))
    layers._MAX_LOGITS = 0  # the loss in pieces
    train_stage(tied, 3, out / "tied-3", num_steps=5)


JOBS: dict[str, Callable[[TrainConfig, Path], None]] = {
    "first": lambda config, out: legs(config, out, 3),
    "together": together,
    "last": lambda config, out: legs(config, out, 99),
}

if __name__ == "__main__":
    JOBS[sys.argv[1]](load_config(TrainConfig, Path(sys.argv[2])), Path(sys.argv[3]))
    leave(0)
