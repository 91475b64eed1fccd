"""Plans of a run: memory of each device by ZeRO stage, compute, days. No weight is allocated.

`docs/plan.md` says what is counted, what was measured and what is a guess.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from genvlm.config.transformer import TransformerConfig
from genvlm.training.footprint import (
    Numbers,
    ParameterCounts,
    backward_bytes,
    count_parameters,
    flops_per_token,
    saved_bytes,
)
from genvlm.training.hardware import Gpu

Stage = Literal[0, 1, 2, 3]
"""0: whole copies in every process, without DeepSpeed."""
STAGES: tuple[Stage, ...] = get_args(Stage)
USABLE = 0.94
"""Of a GPU's memory: the rest goes to its context, to libraries and to fragments. A guess."""
# Defaults of DeepSpeed's configuration, in numbers.
_REDUCE_BUCKET, _MOST_LIVE, _SUB_GROUP = 500_000_000, 1_000_000_000, 1_000_000_000
_FLOAT = 4
_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one process does at a time."""

    model: TransformerConfig
    vocab_size: int
    micro_batch_size: int
    row_length: int
    """Tokens of a row, all of them learned."""
    precision: Literal["float32", "bfloat16"]
    activation_checkpointing: bool = False
    ema: bool = False
    optimizer: Literal["adamw", "muon"] = "adamw"

    @property
    def parameters(self) -> ParameterCounts:
        """Of the model."""
        return count_parameters(self.model, self.vocab_size)

    def numbers(self, stage: Stage) -> Numbers:
        """How it computes: DeepSpeed casts the weights, Accelerate what is multiplied."""
        if self.precision == "float32":
            return "float32"
        return "bfloat16" if stage else "autocast"


@dataclass(frozen=True, kw_only=True)
class DeviceMemory:
    """Bytes in one process, at the highest."""

    parameters: int
    gradients: int
    optimizer: int
    """Its states, and the float32 copies of parameters that it steps."""
    ema: int
    activations: int
    """What the forward pass of a micro-batch keeps."""
    temporary: int
    """Gradients of activations, or what the optimizer's step needs beyond the activations."""
    buffers: int
    """Of communication."""

    @property
    def total(self) -> int:
        """All at once."""
        return (
            self.parameters + self.gradients + self.optimizer + self.ema + self.activations
            + self.temporary + self.buffers
        )  # fmt: skip

    @property
    def least(self) -> int:
        """What no smaller batch avoids."""
        return self.parameters + self.gradients + self.optimizer + self.ema

    def fits(self, gpu: Gpu) -> bool:
        """Whether a GPU holds it."""
        return self.total <= USABLE * gpu.memory


def plan_memory(work: Work, stage: Stage, num_devices: int) -> DeviceMemory:
    """Memory of each device, as Accelerate (stage 0) and DeepSpeed 0.19 lay it out."""
    numbers, counts = work.numbers(stage), work.parameters
    size = 2 if numbers == "bfloat16" else _FLOAT
    whole, part = counts.total, -(-counts.total // num_devices)
    gathered = min(whole, _MOST_LIVE) if stage == 3 and num_devices > 1 else 0
    # The optimizer steps float32 copies, except where stage 3 finds its own shards in float32.
    copies = stage in (1, 2) or (stage == 3 and numbers == "bfloat16")
    states = optimizer_numbers(counts, work.optimizer)
    held = part if stage else whole
    saved = saved_bytes(
        work.model, work.vocab_size, rows=work.micro_batch_size, tokens=work.row_length,
        numbers=numbers, checkpointing=work.activation_checkpointing,
    )  # fmt: skip
    positions = work.micro_batch_size * work.row_length
    backward = backward_bytes(work.model, work.vocab_size, positions=positions, numbers=numbers)
    step = _step_bytes(stage, part, size)
    buffers = size * (_REDUCE_BUCKET + gathered) if stage else 0
    if stage == 0 and num_devices > 1:
        buffers = _FLOAT * whole  # DDP reduces gradients in buckets of its own
    return DeviceMemory(
        parameters=size * (part if stage == 3 else whole),
        gradients=size * (part if stage >= 2 else whole),
        optimizer=_FLOAT * (-(-states // num_devices) if stage else states)
        + (_FLOAT * part if copies else 0),
        ema=_FLOAT * held if work.ema else 0,
        activations=saved.total,
        temporary=max(backward, step - saved.total, 0),
        buffers=buffers,
    )


def optimizer_numbers(counts: ParameterCounts, kind: Literal["adamw", "muon"]) -> int:
    """Numbers in the states of the optimizer: two of each parameter, one of Muon's matrices."""
    return 2 * counts.total - (counts.blocks if kind == "muon" else 0)


def _step_bytes(stage: Stage, part: int, size: int) -> int:
    """Copies of gradients that DeepSpeed makes while it steps: flat, and then in float32."""
    if stage == 0:
        return 0
    if stage == 3:
        return _FLOAT * min(part, _SUB_GROUP)
    return _FLOAT * part + (size * part if size != _FLOAT else 0)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How much there is to compute, and how long it takes at a stated speed."""

    flops_per_token: float
    tokens: float
    """That are trained on in all."""
    tokens_per_second: float
    """Of all devices together; data must come as fast."""
    device_hours: float

    @property
    def flops(self) -> float:
        """Of the whole training."""
        return self.flops_per_token * self.tokens

    def days(self, num_devices: int) -> float:
        """How long the devices take together."""
        return self.device_hours * 3600 / num_devices / _DAY


def plan_compute(work: Work, tokens: float, gpu: Gpu, num_devices: int, mfu: float) -> Compute:
    """Compute of a training at a share `mfu` of the GPUs' peak."""
    of_token = flops_per_token(work.model, work.vocab_size, work.row_length)
    speed = mfu * gpu.peak_flops(work.precision)
    return Compute(
        flops_per_token=of_token,
        tokens=tokens,
        tokens_per_second=num_devices * speed / of_token,
        device_hours=of_token * tokens / speed / 3600,
    )


def smallest_stage(memory: dict[Stage, DeviceMemory], gpu: Gpu) -> Stage | None:
    """The lowest stage that fits, which communicates least; None: none does."""
    return next((stage for stage, needed in memory.items() if needed.fits(gpu)), None)
