"""The engine: the only place that knows Accelerate and DeepSpeed.

It takes micro-batches and makes one optimizer step of them, so that 4 micro-batches of 2 equal one
of 8 and two processes equal one, with unequal token counts too: every loss is divided by the weight
total of the *global* batch, and the averaging of DDP and DeepSpeed is cancelled.
"""

import contextlib
import json
import math
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genvlm.config.training import OptimizerConfig
from genvlm.data.batches import Batch, to_device
from genvlm.data.pairs import PairBatch
from genvlm.errors import ConfigError, TrainingError
from genvlm.training.muon import Muon
from genvlm.training.objectives.losses import Losses
from genvlm.training.totals import Mean, Totals

MAX_SKIPPED = 10
# Learned tables that shift and scale activations: shaped like matrices and none all the same.
_NO_MATRICES = ("norm", "scale_shift_table")


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step did, over all processes."""

    terms: dict[str, float]
    """Means by term, such as nats per token of a modality; without any of it, absent."""
    counts: dict[str, int]
    grad_norm: float
    skipped: bool
    """The gradient was not finite: parameters and optimizer are untouched. Under DeepSpeed, which
    steps by its own rules, this only reports it."""
    means: dict[str, Mean] = field(default_factory=dict)
    """What was measured beside the terms, by its name in the log."""
    maxima: dict[str, float] = field(default_factory=dict)


class Engine:
    """An objective and its optimizer, distributed."""

    def __init__(
        self,
        objective: nn.Module,
        config: OptimizerConfig,
        *,
        num_steps: int,
        precision: str,
        deepspeed: Path | None = None,
        micro_batch_size: int = 1,
        grad_accum_steps: int = 1,
    ) -> None:
        # Where DeepSpeed is installed, Accelerate imports it, and it writes to standard output.
        with contextlib.redirect_stdout(sys.stderr):
            from accelerate import Accelerator
            from accelerate.utils import InitProcessGroupKwargs

        plugin = None
        if deepspeed is not None:
            plugin = _deepspeed_plugin(
                deepspeed, config, precision, micro_batch_size, grad_accum_steps
            )
        world = int(os.environ.get("WORLD_SIZE", "1"))
        grouped = world > 1 or plugin is not None
        on_cpu = not torch.cuda.is_available()
        handlers = [InitProcessGroupKwargs(backend="gloo")] if grouped and on_cpu else []
        self._accelerator: Any = Accelerator(
            # Without `cpu`, processes on a machine without a GPU would each train alone, silently.
            cpu=on_cpu and world > 1 and plugin is None,
            mixed_precision="bf16" if precision == "bfloat16" else "no",
            deepspeed_plugin=plugin,
            kwargs_handlers=handlers,
        )
        alone = self._accelerator.distributed_type.value == "NO"
        if self._accelerator.num_processes != world or (world > 1 and alone):
            # On CPU, Accelerate can start every process alone without an error.
            raise TrainingError(
                f"{world} processes were started, and each sees {self._accelerator.num_processes}: "
                f"start them with `accelerate launch` or torchrun"
            )
        self._uses_deepspeed = plugin is not None
        self._config, self._num_steps, self._accum = config, num_steps, grad_accum_steps
        optimizers = build_optimizers(objective, config, fused=not self._uses_deepspeed)
        self._objective: Any
        self._optimizers: list[Any]
        self._objective, *self._optimizers = self._accelerator.prepare(objective, *optimizers)
        self._parameters = [p for p in self._objective.parameters() if p.requires_grad]
        self._num_skipped = 0

    @property
    def shards_parameters(self) -> bool:
        """ZeRO 3: no process holds whole weights."""
        plugin = self._accelerator.state.deepspeed_plugin if self._uses_deepspeed else None
        return plugin is not None and plugin.zero_stage == 3

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

    def train_step(self, step: int, batches: Sequence[Batch | PairBatch]) -> StepResult:
        """One optimizer step from this process's micro-batches.

        Raises:
            TrainingError: ten steps in a row without a finite gradient.
        """
        rate = learning_rate(self._config, step, self._num_steps)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        self._objective.train()
        totals = Totals()
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            # DeepSpeed steps inside `backward` wherever this is True.
            self._accelerator.sync_gradients = last
            with self._no_sync(last):
                losses: Losses = self._objective(to_device(batch, self._accelerator.device))
                # DDP and DeepSpeed average over processes, DeepSpeed over accumulation too.
                factor = self.num_processes * (self._accum if self._uses_deepspeed else 1)
                self._accelerator.backward(losses.weighted_sum * (factor / batch.loss_denominator))
            totals.add(losses)
        norm, skipped = self._update()
        self._num_skipped = self._num_skipped + 1 if skipped else 0
        if self._num_skipped >= MAX_SKIPPED:
            raise TrainingError(
                f"the gradient was not finite in {MAX_SKIPPED} steps in a row (up to step {step}): "
                f"lower optimizer.learning_rate"
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

    def parameter_norm(self) -> float:
        """Of all trained parameters, in float32. Called in every process."""
        sharded, device = self.shards_parameters, self._accelerator.device
        parts = [_own_part(p, self.rank) if sharded else p.detach() for p in self._parameters]
        norms = [torch.linalg.vector_norm(p, dtype=torch.float32).to(device) for p in parts]
        squares = torch.stack(norms).square().sum()
        return math.sqrt(float(self._accelerator.reduce(squares) if sharded else squares))

    def save(self, folder: Path) -> None:
        """Model, optimizer and random state. Called in every process."""
        self._accelerator.save_state(str(folder), safe_serialization=True)

    def load(self, folder: Path) -> None:
        """Continue from what `save` wrote; only for one's own, verified checkpoints."""
        self._accelerator.load_state(str(folder))

    def state_dict(self) -> dict[str, Tensor]:
        """Full weights of the objective, gathered from all processes."""
        return dict(self._accelerator.get_state_dict(self._objective))

    def wait(self) -> None:
        """Until every process is here."""
        self._accelerator.wait_for_everyone()

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes call this with."""
        if self.num_processes == 1:
            return number
        mine = torch.tensor([number], device=self._accelerator.device)
        return int(self._accelerator.gather(mine).max())

    def _no_sync(self, last: bool) -> Any:
        if last or self._uses_deepspeed or self.num_processes == 1:
            return contextlib.nullcontext()
        return self._accelerator.no_sync(self._objective)

    def _update(self) -> tuple[float, bool]:
        if self._uses_deepspeed:  # backward has clipped and stepped at the accumulation boundary
            norm = self._objective.get_global_grad_norm()
            value = float(norm) if norm is not None else 0.0
            return value, not math.isfinite(value)
        norm = float(nn.utils.clip_grad_norm_(self._parameters, self._config.grad_clip or math.inf))
        finite = math.isfinite(norm)
        for optimizer in self._optimizers:
            if finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm, not finite


def learning_rate(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Linear warm-up, then a cosine to `final_fraction` of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, num_steps - config.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.learning_rate * (config.final_fraction + (1 - config.final_fraction) * cosine)


def build_optimizers(
    objective: nn.Module, config: OptimizerConfig, *, fused: bool
) -> list[torch.optim.Optimizer]:
    """AdamW of all parameters; or Muon of the matrices inside blocks and AdamW of the rest."""
    named = {n: p for n, p in objective.named_parameters() if p.requires_grad}
    matrices = {
        n: p for n, p in named.items() if p.dim() >= 2 and not any(w in n for w in _NO_MATRICES)
    }
    hidden = {n: p for n, p in matrices.items() if config.kind == "muon" and "blocks." in n}
    adamw = torch.optim.AdamW(
        [
            {
                "params": [p for n, p in matrices.items() if n not in hidden],
                "weight_decay": config.weight_decay,
            },
            {"params": [p for n, p in named.items() if n not in matrices], "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=fused,
    )
    if not hidden:
        return [adamw]
    return [adamw, Muon(hidden.values(), lr=config.learning_rate, weight_decay=config.weight_decay)]


def _own_part(parameter: Any, rank: int) -> Tensor:
    """What this process holds of a parameter under ZeRO 3, without the padding of the last part."""
    part: Tensor = parameter.ds_tensor
    left = parameter.ds_numel - rank * part.numel()
    return part.flatten()[: max(0, min(left, part.numel()))]


def _deepspeed_plugin(
    path: Path, config: OptimizerConfig, precision: str, micro_batch_size: int, accum: int
) -> Any:
    from accelerate.utils import DeepSpeedPlugin

    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no readable DeepSpeed JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a JSON object of DeepSpeed's keys")
    stage = content.get("zero_optimization", {}).get("stage", 0)
    if stage == 0 and precision == "bfloat16":
        raise ConfigError(f"{path}: ZeRO 0 with bfloat16 trains differently: use ZeRO stage 1")
    content |= {
        "train_micro_batch_size_per_gpu": micro_batch_size,
        "gradient_accumulation_steps": accum,
        "gradient_clipping": config.grad_clip,
        "bf16": {"enabled": precision == "bfloat16"},
        "zero_allow_untested_optimizer": True,
    }
    _stand_alone_environment()
    return DeepSpeedPlugin(hf_ds_config=content)


def _stand_alone_environment() -> None:
    """Without a launcher DeepSpeed would ask for MPI; these variables say "one process"."""
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
