"""The engine: with `zero.py` the only place that knows Accelerate and DeepSpeed.

It takes micro-batches and makes one optimizer step of them, so that 4 micro-batches of 2 equal one
of 8 and two processes equal one, with unequal token counts too: every loss is divided by the weight
total of the *global* batch, and the averaging of DDP and DeepSpeed is cancelled.
"""

import contextlib
import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genvlm.config.deepspeed import zero_stage
from genvlm.config.training import OptimizerConfig
from genvlm.data.batches import Batch, to_device
from genvlm.data.caption_batches import CaptionBatch
from genvlm.data.captioning import CaptioningBatch
from genvlm.data.pairs import PairBatch
from genvlm.errors import CheckpointError, TrainingError
from genvlm.nn.foreign_tensors import load_state
from genvlm.nn.safetensors_folder import load_into, load_tensors, save_tensors
from genvlm.training.checkpoint import CONVERTED
from genvlm.training.hardware import recognise_gpu
from genvlm.training.launch import check_launcher, check_world
from genvlm.training.objectives.losses import Losses
from genvlm.training.optimizers import build_optimizers, learning_rate
from genvlm.training.shards import ParameterShards, WholeParameters, first_not_finite
from genvlm.training.totals import Mean, Totals
from genvlm.training.zero import (
    ZeroShards,
    load_universal,
    optimizer_tensors,
    quieten_deepspeed,
    stand_alone_environment,
)

_WEIGHTS, _OPTIMIZERS, _ENGINE = "model.safetensors", "optimizer.pt", "engine.json"
_TAG = "deepspeed"
_PATIENCE = timedelta(hours=2)
"""How long processes wait for the first one, which alone flushes, hashes and reads checkpoints."""
_NOTHING = contextlib.nullcontext()

MicroBatch = Batch | PairBatch | CaptionBatch | CaptioningBatch
"""What one forward pass of an objective takes."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did, over all processes."""

    terms: dict[str, float]
    """Means by term, such as nats per token of a modality; without any of it, absent."""
    counts: dict[str, int]
    grad_norm: float
    skipped: bool
    """The gradient was not finite in some process: all leave parameters and optimizer untouched."""
    means: dict[str, Mean] = field(default_factory=dict)
    """What was measured beside the terms, by its name in the log."""
    maxima: dict[str, float] = field(default_factory=dict)


class Engine:
    """An objective and its optimizer, distributed.

    Args:
        deepspeed: what `read_deepspeed` gives; None trains with Accelerate alone.
        seed: of what the objective draws itself, such as dropout: at every step anew from
            (seed, step, process), so that resuming needs no random state.
        max_skipped_steps: so many steps in a row without a finite gradient are an error.
    """

    def __init__(
        self,
        objective: nn.Module,
        config: OptimizerConfig,
        *,
        num_steps: int,
        precision: str,
        deepspeed: Mapping[str, Any] | None = None,
        grad_accum_steps: int = 1,
        seed: int = 0,
        max_skipped_steps: int = 10,
    ) -> None:
        self._config, self._num_steps, self._accum = config, num_steps, grad_accum_steps
        self._seed, self._max_skipped, self._num_skipped = seed, max_skipped_steps, 0
        self._stage = None if deepspeed is None else zero_stage(dict(deepspeed))
        self._module = objective
        optimizers = build_optimizers(objective, config, fused=deepspeed is None)
        self._objective: Any
        self._optimizers: list[Any]
        with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed tells what it builds
            self._accelerator = _build_accelerator(precision, deepspeed)
            self._objective, *self._optimizers = self._accelerator.prepare(objective, *optimizers)
        self._parameters = [p for p in objective.parameters() if p.requires_grad]
        self.shards: ParameterShards = (
            ZeroShards(objective, stage=self._stage, rank=self.rank)
            if self._stage
            else WholeParameters(objective, is_main=self.is_main)
        )

    @property
    def rank(self) -> int:
        """Number of this process."""
        return int(self._accelerator.process_index)

    @property
    def num_processes(self) -> int:
        """How many processes train together."""
        return int(self._accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """True in the one process that prints and writes."""
        return bool(self._accelerator.is_main_process)

    def train_step(self, step: int, batches: Sequence[MicroBatch]) -> StepResult:
        """One optimizer step from this process's micro-batches.

        Raises:
            TrainingError: too many steps in a row without a finite gradient.
        """
        rate = learning_rate(self._config, step, self._num_steps)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        drawn = np.random.SeedSequence([self._seed, step, self.rank]).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn[0]))
        self._objective.train()
        totals = Totals()
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            with self._no_sync(last):
                losses: Losses = self._objective(to_device(batch, self._accelerator.device))
                # DDP and DeepSpeed average over processes, DeepSpeed over accumulation too.
                factor = self.num_processes * (1 if self._stage is None else self._accum)
                self._backward(losses.weighted_sum * (factor / batch.loss_denominator), last)
            totals.add(losses)
        norm, skipped = self._update() if self._stage is None else self._update_deepspeed()
        self._num_skipped = self._num_skipped + 1 if skipped else 0
        if self._num_skipped >= self._max_skipped:
            raise TrainingError(
                f"the gradient was not finite in {self._max_skipped} steps in a row (up to step "
                f"{step}): lower optimizer.learning_rate"
            )
        measures = totals.measures(self._accelerator.reduce, self._accelerator.gather)
        return StepResult(
            {name: mean.value for name, mean in measures.terms.items()},
            {name: mean.num for name, mean in measures.terms.items()},
            norm,
            skipped,
            measures.means,
            measures.maxima,
        )

    def peak_flops(self, precision: str) -> float | None:
        """FLOP/s of all devices together by their data sheets; None where they are not listed."""
        device = self._accelerator.device
        if device.type != "cuda":
            return None
        gpu = recognise_gpu(torch.cuda.get_device_name(device))
        return None if gpu is None else self.num_processes * gpu.peak_flops(precision)

    def parameter_norm(self) -> float:
        """Of all trained parameters. Called in every process."""
        squares, shapes = 0.0, self.shards.shapes()
        for name, part in self.shards.local().items():
            # ZeRO 3 fills up the last slices with what lay in memory.
            left = shapes[name].numel() - self.rank * part.numel() if self._stage == 3 else None
            own = part if left is None else part.flatten()[: max(0, left)]
            squares += float(torch.linalg.vector_norm(own)) ** 2
        if self._stage:
            mine = torch.tensor(squares, device=self._accelerator.device)
            squares = float(self._accelerator.reduce(mine))
        return math.sqrt(squares)

    def check_finite(self, step: int) -> None:
        """Called in every process before a checkpoint, so that a NaN state is never one.

        Raises:
            TrainingError: weights or optimizer state of any process hold NaN or infinity.
        """
        held: dict[str, Tensor] = {f"parameter {n}": p for n, p in self._module.named_parameters()}
        for number, optimizer in enumerate(self._optimizers):
            found = optimizer_tensors(_innermost(optimizer))
            held |= {f"state {number}.{name} of the optimizer": t for name, t in found.items()}
        broken = first_not_finite(held)
        if self.largest(broken is not None):
            where = f" ({broken})" if broken else ", in another process"
            raise TrainingError(
                f"after step {step} weights or optimizer state are not finite{where}: no "
                f"checkpoint is written; lower optimizer.learning_rate and go on with --resume"
            )

    def save(self, folder: Path) -> None:
        """Model and optimizer. Called in every process."""
        folder.mkdir(parents=True, exist_ok=True)
        if self._stage is not None:
            self._objective.save_checkpoint(str(folder), tag=_TAG)
        elif self.is_main:
            save_tensors(self._module.state_dict(), folder / _WEIGHTS)
            states = [optimizer.state_dict() for optimizer in self._optimizers]
            torch.save(states, folder / _OPTIMIZERS)
        if self.is_main:
            content = {"num_processes": self.num_processes, "zero_stage": self._stage}
            (folder / _ENGINE).write_text(json.dumps(content))

    def load(self, folder: Path) -> None:
        """Continue from what `save` wrote; only for one's own, verified checkpoints.

        Raises:
            CheckpointError: written by another kind of engine, or by another number of processes
                where ZeRO's stage is 0 or 1.
        """
        written = _read_engine_file(folder / _ENGINE)
        if written["zero_stage"] != self._stage:
            raise CheckpointError(
                f"{folder} was written {_stage_name(written['zero_stage'])} and this run is "
                f"{_stage_name(self._stage)}: bring back the DeepSpeed JSON that it began with"
            )
        if self._stage is None:
            load_into(self._module, load_tensors(folder / _WEIGHTS), str(folder / _WEIGHTS))
            states = load_state(folder / _OPTIMIZERS)
            for optimizer, state in zip(self._optimizers, states, strict=True):
                optimizer.load_state_dict(state)
        elif written["num_processes"] == self.num_processes:
            self._objective.load_checkpoint(str(folder), tag=_TAG)
        elif self._stage < 2:
            raise CheckpointError(
                f"{folder} was written by {written['num_processes']} processes and this run has "
                f"{self.num_processes}: with ZeRO {self._stage} start as many as then (without "
                f"DeepSpeed, and with ZeRO 2 and 3, the number may change)"
            )
        else:
            self._load_of_others(folder)

    def state_dict(self) -> dict[str, Tensor]:
        """Full weights of the objective in the main process; empty in others. Called in all.

        Under DeepSpeed trained parameters are the optimizer's own, in float32.
        """
        state = self._module.state_dict()
        if not self._stage:
            return dict(state) if self.is_main else {}
        names = self.shards.shapes()
        trained = self.shards.gather(self.shards.local())
        rest = {name: t for name, t in state.items() if name not in names}
        if self._stage == 3:
            rest = self._gather_frozen(rest)
        return {name: (trained | rest)[name] for name in state} if self.is_main else {}

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes call this with."""
        return max(self.numbers(number))

    def numbers(self, number: int) -> list[int]:
        """What every process calls this with, below 2^63, by the number of the process."""
        if self.num_processes == 1:
            return [int(number)]
        mine = torch.tensor([int(number)], device=self._accelerator.device)
        return [int(found) for found in self._accelerator.gather(mine)]

    def _no_sync(self, last: bool) -> Any:
        if last or self._stage is not None or self.num_processes == 1:
            return contextlib.nullcontext()
        return self._accelerator.no_sync(self._objective)

    def _backward(self, loss: Tensor, last: bool) -> None:
        if self._stage is None:
            self._accelerator.backward(loss)
            return
        # Not by Accelerate, which would also step, before anyone has looked at the gradient.
        self._objective.set_gradient_accumulation_boundary(last)
        self._objective.backward(loss)

    def _update(self) -> tuple[float, bool]:
        """Clip and step, unless the gradient is not finite; its norm and whether it was skipped."""
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._config.grad_clip or math.inf))
        finite = math.isfinite(norm)
        for optimizer in self._optimizers:
            if finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm, not finite

    def _update_deepspeed(self) -> tuple[float, bool]:
        """The same by DeepSpeed, whose ZeRO 1, 2 and 3 look at the gradients of all processes."""
        engine = self._objective
        if self._stage:
            engine.step()
            return float(engine.get_global_grad_norm()), not engine.was_step_applied()
        # ZeRO 0 has reduced whole gradients and looks at nothing.
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = float(nn.utils.get_total_norm(gradients))
        finite = math.isfinite(norm)
        if finite:
            engine.step()
        else:
            engine.zero_grad()
        return norm, not finite

    def _load_of_others(self, folder: Path) -> None:
        """A checkpoint of ZeRO 2 or 3 by another number of processes."""
        scratch = folder.parent / CONVERTED
        load_universal(self._objective, folder, _TAG, scratch, is_main=self.is_main)
        self.wait()
        if self.is_main:
            shutil.rmtree(scratch)

    def _gather_frozen(self, rest: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is not trained: ZeRO 3 shards frozen parameters too, and no buffers."""
        from deepspeed.runtime.zero import GatheredParameters

        parameters = dict(self._module.named_parameters())
        whole = {}
        for name, tensor in rest.items():
            with GatheredParameters([parameters[name]]) if name in parameters else _NOTHING:
                found = parameters.get(name, tensor)
                if self.is_main:
                    whole[name] = found.detach().cpu().clone()
        return whole


def _build_accelerator(precision: str, deepspeed: Mapping[str, Any] | None) -> Any:
    """Raises TrainingError: launched so that processes would not train together."""
    check_launcher(uses_deepspeed=deepspeed is not None)
    from accelerate import Accelerator
    from accelerate.utils import DeepSpeedPlugin, InitProcessGroupKwargs

    plugin = None
    if deepspeed is not None:
        stand_alone_environment()
        quieten_deepspeed()
        plugin = DeepSpeedPlugin(hf_ds_config=dict(deepspeed))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    grouped = world > 1 or plugin is not None
    on_cpu = not torch.cuda.is_available()
    handlers = []
    if grouped:
        backend = "gloo" if on_cpu else "nccl"
        handlers.append(InitProcessGroupKwargs(backend=backend, timeout=_PATIENCE))
    accelerator = Accelerator(
        # Without `cpu`, processes on a machine without a GPU would each train alone, silently.
        cpu=on_cpu and world > 1 and plugin is None,
        mixed_precision="bf16" if precision == "bfloat16" else "no",
        # Of DeepSpeed only, which would otherwise tell that the two differ.
        gradient_accumulation_steps=(deepspeed or {}).get("gradient_accumulation_steps", 1),
        deepspeed_plugin=plugin,
        kwargs_handlers=handlers,
    )
    alone = accelerator.distributed_type.value == "NO"
    # On CPU, Accelerate can start every process alone without an error.
    check_world(world, seen=accelerator.num_processes, alone=alone)
    return accelerator


def _innermost(optimizer: Any) -> Any:
    """PyTorch's optimizer in Accelerate's wrapper and, perhaps, ZeRO's."""
    while (wrapped := getattr(optimizer, "optimizer", None)) is not None:
        optimizer = wrapped
    return optimizer


def _read_engine_file(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
        return {"num_processes": content["num_processes"], "zero_stage": content["zero_stage"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"checkpoint {path.parent} has no readable {path.name}: it was written by an earlier "
            f"genvlm, which must finish it"
        ) from None


def _stage_name(stage: int | None) -> str:
    return "without DeepSpeed" if stage is None else f"with ZeRO {stage}"
