"""Training compute of a configuration, counted on its own first batches."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from genvlm.config.kinds import ModelTrainConfig
from genvlm.errors import ConfigError
from genvlm.studies.runs import prepare_model

NUM_BATCHES = 10
_ATEN = torch.ops.aten
# Of attention torch knows the kernels of GPUs alone, and counts nothing on a CPU.
_ATTENTION = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: (
        lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
    ),
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: (
        lambda grad, q, k, v, *_, **__: sdpa_backward_flop_count(grad, q, k, v)
    ),
}


@dataclass(frozen=True)
class TrainingFlops:
    """Floating-point operations, a multiplication with its addition as two."""

    num_parameters: int
    """Trained ones."""
    num_frozen: int
    """That run in training and are not trained."""
    per_step: float
    """Forward and backward, mean of the first batches; the optimizer is not counted. Of a projector
    it is nearly all in what is frozen: the language model, which gradients pass through, and the
    image encoder."""
    per_row: float
    """Of a forward pass of one document or pair of these batches."""


def training_flops(config: object, cache: Path | None = None) -> TrainingFlops:
    """Matrix products, convolutions and attention, as torch counts them; nothing else.

    Args:
        cache: folder for encoded pictures; by default one that is removed.

    Raises:
        ConfigError: a configuration that trains no model.
    """
    if not isinstance(config, ModelTrainConfig):
        raise ConfigError("only training of models is counted: name the recipe of one")
    with tempfile.TemporaryDirectory() as folder:
        source, objective = prepare_model(config, cache or Path(folder))
        batches = [source.batch(step)[0] for step in range(NUM_BATCHES)]
    trained = sum(count_flops(objective, b, backward=True) for b in batches)
    read = sum(count_flops(objective, b, backward=False) for b in batches)
    every = list(objective.parameters())
    return TrainingFlops(
        num_parameters=sum(p.numel() for p in every if p.requires_grad),
        num_frozen=sum(p.numel() for p in every if not p.requires_grad),
        per_step=trained / NUM_BATCHES,
        per_row=read / NUM_BATCHES / config.global_batch_size,
    )


def count_flops(objective: nn.Module, batch: Any, *, backward: bool) -> int:
    """Of one batch, with what is computed twice (scores of attention in the backward pass)."""
    with torch.set_grad_enabled(backward), counting_flops() as counter:
        losses = objective(batch)
        if backward:
            losses.weighted_sum.backward()
    objective.zero_grad()
    return int(counter.get_total_flops())


def counting_flops() -> FlopCounterMode:
    """A context that counts; ask `get_total_flops` behind it."""
    return FlopCounterMode(display=False, custom_mapping=_ATTENTION)
