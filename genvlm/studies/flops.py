"""Training compute of a configuration, counted on its own first batches."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from genvlm.config.diffusion import DiffusionTrainConfig
from genvlm.config.training import TrainConfig
from genvlm.errors import ConfigError
from genvlm.training.diffusion import DiffusionRun, prepare_diffusion
from genvlm.training.loop import TransformerRun, prepare_transformer

NUM_BATCHES = 10


@dataclass(frozen=True)
class TrainingFlops:
    """Floating-point operations, a multiplication with its addition as two."""

    num_parameters: int
    per_step: float
    """Forward and backward, mean of the first batches; the optimizer is not counted."""
    per_row: float
    """Of a forward pass of one document or pair of these batches."""


def training_flops(config: object) -> TrainingFlops:
    """Matrix products, convolutions and attention, as torch counts them; nothing else.

    Raises:
        ConfigError: a configuration that trains no transformer and no diffusion model.
    """
    if not isinstance(config, TrainConfig | DiffusionTrainConfig):
        raise ConfigError("only transformers and diffusion models are counted: name one's recipe")
    batch = config.global_batch_size
    with tempfile.TemporaryDirectory() as folder:
        run: TransformerRun | DiffusionRun
        if isinstance(config, TrainConfig):
            run = prepare_transformer(config, Path(folder))
        else:
            run = prepare_diffusion(config, Path(folder))
        batches = [run.source.batch(step)[0] for step in range(NUM_BATCHES)]
    objective = run.objective
    trained = sum(_count(objective, b, backward=True) for b in batches)
    read = sum(_count(objective, b, backward=False) for b in batches)
    return TrainingFlops(
        num_parameters=sum(p.numel() for p in objective.parameters() if p.requires_grad),
        per_step=trained / NUM_BATCHES,
        per_row=read / NUM_BATCHES / batch,
    )


def _count(objective: nn.Module, batch: Any, *, backward: bool) -> int:
    with torch.set_grad_enabled(backward), FlopCounterMode(display=False) as counter:
        losses = objective(batch)
        if backward:
            losses.weighted_sum.backward()
    objective.zero_grad()
    return int(counter.get_total_flops())
