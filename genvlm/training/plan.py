"""Plans of a run: memory of each device by ZeRO stage, compute, days. No weight is allocated.

`docs/plan.md` says what is counted, what was measured and what is a guess.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from genvlm.config.transformer import TransformerConfig
from genvlm.training.footprint import (
    Numbers,
    ParameterCounts,
    backward_bytes,
    count_parameters,
    flops_per_token,
    saved_bytes,
)
from genvlm.training.hardware import GIB, Gpu

Stage = Literal[0, 1, 2, 3]
"""0: whole copies in every process, without DeepSpeed."""
STAGES: tuple[Stage, ...] = get_args(Stage)
USABLE = 0.94
"""Of a GPU's memory: the rest goes to its context, to libraries and to fragments. A guess."""
# Defaults of DeepSpeed's configuration, in numbers.
_REDUCE_BUCKET, _MOST_LIVE, _SUB_GROUP = 500_000_000, 1_000_000_000, 1_000_000_000
_FLOAT = 4
_DAY = 86_400
_PARTS = (
    "parameters", "gradients", "optimizer", "ema", "activations", "temporary", "buffers",
)  # fmt: skip


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
    packed: bool = False
    """Rows hold several documents, which a mask parts."""
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
class StateMemory:
    """Bytes that one process holds all the time."""

    parameters: int
    gradients: int
    optimizer: int
    """Its states, and the float32 copies of parameters that it steps."""
    ema: int

    @property
    def states(self) -> int:
        """What no smaller batch avoids."""
        return self.parameters + self.gradients + self.optimizer + self.ema


@dataclass(frozen=True, kw_only=True)
class DeviceMemory(StateMemory):
    """Bytes in one process, at the highest."""

    activations: int
    """What the forward pass of a micro-batch keeps."""
    temporary: int
    """Gradients of activations, or what the optimizer's step needs beyond the activations."""
    buffers: int
    """Of communication."""

    @property
    def total(self) -> int:
        """All at once."""
        return self.states + self.activations + self.temporary + self.buffers

    def fits(self, gpu: Gpu) -> bool:
        """Whether a GPU holds it."""
        return self.total <= USABLE * gpu.memory


def plan_states(
    num_parameters: int,
    optimizer_numbers: int,
    numbers: Numbers,
    *,
    stage: Stage,
    num_devices: int,
    ema: bool,
) -> StateMemory:
    """As Accelerate (stage 0) and DeepSpeed 0.19 lay it out."""
    whole, part = num_parameters, -(-num_parameters // num_devices)
    size = 2 if numbers == "bfloat16" else _FLOAT
    # The optimizer steps float32 copies, except where stage 3 finds its own shards in float32.
    copies = part if stage in (1, 2) or (stage == 3 and numbers == "bfloat16") else 0
    states = -(-optimizer_numbers // num_devices) if stage else optimizer_numbers
    return StateMemory(
        parameters=size * (part if stage == 3 else whole),
        gradients=size * (part if stage >= 2 else whole),
        optimizer=_FLOAT * (states + copies),
        ema=_FLOAT * (part if stage else whole) if ema else 0,
    )


def plan_memory(work: Work, stage: Stage, num_devices: int) -> DeviceMemory:
    """Memory of each device for whole rows in every micro-batch."""
    numbers, counts = work.numbers(stage), work.parameters
    states = plan_states(
        counts.total, optimizer_numbers(counts, work.optimizer), numbers,
        stage=stage, num_devices=num_devices, ema=work.ema,
    )  # fmt: skip
    saved = saved_bytes(
        work.model, work.vocab_size, rows=work.micro_batch_size, tokens=work.row_length,
        numbers=numbers, checkpointing=work.activation_checkpointing, packed=work.packed,
    )  # fmt: skip
    positions = work.micro_batch_size * work.row_length
    backward = backward_bytes(work.model, work.vocab_size, positions=positions, numbers=numbers)
    size, part = 2 if numbers == "bfloat16" else _FLOAT, -(-counts.total // num_devices)
    gathered = min(counts.total, _MOST_LIVE) if stage == 3 and num_devices > 1 else 0
    buffers = size * (_REDUCE_BUCKET + gathered) if stage else 0
    if stage == 0 and num_devices > 1:
        buffers = _FLOAT * counts.total  # DDP reduces gradients in buckets of its own
    return DeviceMemory(
        **asdict(states),
        activations=saved.total,
        temporary=max(backward, _step_bytes(stage, part, size) - saved.total, 0),
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


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All of it, for people and for machines."""

    work: Work
    gpu: Gpu
    gpu_name: str
    num_devices: int
    mfu: float
    memory: dict[Stage, DeviceMemory]
    compute: Compute
    """Of one token where the number of tokens is not known."""
    tokens: float | None

    @property
    def smallest_stage(self) -> Stage | None:
        """The lowest stage that fits, which communicates least; None: none does."""
        return next((s for s, needed in self.memory.items() if needed.fits(self.gpu)), None)

    def as_json(self) -> dict[str, Any]:
        """Bytes, FLOPs and days."""
        counts, compute = self.work.parameters, self.compute
        content: dict[str, Any] = {
            "measured": False,
            "gpu": self.gpu_name,
            "gpus": self.num_devices,
            "gpu_bytes": self.gpu.memory,
            "usable_bytes": int(USABLE * self.gpu.memory),
            "precision": self.work.precision,
            "micro_batch_size": self.work.micro_batch_size,
            "row_length": self.work.row_length,
            "activation_checkpointing": self.work.activation_checkpointing,
            "parameters": asdict(counts) | {"total": counts.total},
            "memory": {
                str(stage): asdict(needed) | {"total": needed.total, "fits": needed.fits(self.gpu)}
                for stage, needed in self.memory.items()
            },
            "smallest_stage": self.smallest_stage,
            "flops_per_token": compute.flops_per_token,
            "mfu": self.mfu,
            "tokens_per_second": compute.tokens_per_second,
        }
        if self.tokens is not None:
            content |= {
                "tokens": self.tokens,
                "flops": compute.flops,
                "gpu_hours": compute.device_hours,
                "days": compute.days(self.num_devices),
            }
        return content

    def as_text(self) -> str:
        """Tables of the same."""
        work, counts, compute = self.work, self.work.parameters, self.compute
        unit, size = ("GiB", GIB) if self.memory[0].parameters >= GIB / 10 else ("MiB", GIB / 1024)
        checkpointing = "recomputed" if work.activation_checkpointing else "kept"
        lines = [
            f"{counts.total:,} parameters: "
            + ", ".join(f"{name} {count / 1e6:,.1f} M" for name, count in asdict(counts).items()),
            f"{self.num_devices} x {self.gpu_name}, {work.precision}, "
            f"{work.micro_batch_size} x {work.row_length} tokens in a forward pass, activations of "
            f"blocks {checkpointing}",
            "",
            f"{unit} on each GPU, by the formulas of docs/plan.md; not measured on a GPU",
            _row("ZeRO", [*_PARTS, "total", f"of {self.gpu.memory / size:.0f}"]),
        ]
        for stage, needed in self.memory.items():
            sizes = [f"{getattr(needed, part) / size:.2f}" for part in _PARTS]
            fits = "fits" if needed.fits(self.gpu) else "too much"
            lines.append(_row(str(stage), [*sizes, f"{needed.total / size:.2f}", fits]))
        smallest = self.smallest_stage
        mend = (
            "none fits: lower the micro-batch, recompute activations (--activation-checkpointing), "
            "or take more GPUs with ZeRO 3"
        )
        lines += [
            f"smallest stage that fits: {f'ZeRO {smallest}' if smallest is not None else mend}",
            "",
            f"{compute.flops_per_token:.3e} FLOPs a token (6 N + 12 L heads head_dim T)",
            f"{compute.tokens_per_second:,.0f} tokens/s at an MFU of {self.mfu:g}, which the data "
            f"must keep up with",
        ]
        if self.tokens is not None:
            lines.append(
                f"{self.tokens:.3e} tokens, {compute.flops:.3e} FLOPs: "
                f"{compute.device_hours:,.1f} GPU hours, "
                f"{compute.days(self.num_devices):,.2f} days"
            )
        return "\n".join(lines)


def build_plan(
    work: Work, gpu: Gpu, *, gpu_name: str, num_devices: int, mfu: float, tokens: float | None
) -> Plan:
    """Memory of every stage (Muon has but one) and compute."""
    stages = STAGES if work.optimizer == "adamw" else STAGES[:1]
    return Plan(
        work=work,
        gpu=gpu,
        gpu_name=gpu_name,
        num_devices=num_devices,
        mfu=mfu,
        memory={stage: plan_memory(work, stage, num_devices) for stage in stages},
        compute=plan_compute(work, tokens or 1.0, gpu, num_devices, mfu),
        tokens=tokens,
    )


def _row(first: str, cells: Sequence[str]) -> str:
    return f"{first:<5}" + "".join(f"{cell:>13}" for cell in cells)
