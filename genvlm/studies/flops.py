"""Training compute of a configuration, counted on its own first batches."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from genvlm.config.coca import CoCaTrainConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.diffusion import DiffusionTrainConfig
from genvlm.config.kinds import ModelTrainConfig
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.projector import ProjectorTrainConfig
from genvlm.config.training import TrainConfig
from genvlm.errors import ConfigError
from genvlm.training.caption_run import PreparedCaptions, prepare_captions
from genvlm.training.coca import coca_run
from genvlm.training.contrastive import contrastive_run
from genvlm.training.diffusion import DiffusionRun, prepare_diffusion
from genvlm.training.loop import TransformerRun, prepare_transformer
from genvlm.training.masked import masked_run
from genvlm.training.projector import ProjectorRun, prepare_projector

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
    per_step: float
    """Forward and backward, mean of the first batches; the optimizer is not counted. Of a projector
    it is nearly all in the frozen language model, which gradients pass through."""
    per_row: float
    """Of a forward pass of one document or pair of these batches."""


def training_flops(config: object) -> TrainingFlops:
    """Matrix products, convolutions and attention, as torch counts them; nothing else.

    Raises:
        ConfigError: a configuration that trains no model.
    """
    if not isinstance(config, ModelTrainConfig):
        raise ConfigError("only training of models is counted: name the recipe of one")
    batch = config.global_batch_size
    with tempfile.TemporaryDirectory() as folder:
        run: TransformerRun | DiffusionRun | ProjectorRun | PreparedCaptions
        match config:
            case TrainConfig():
                run = prepare_transformer(config, Path(folder))
            case DiffusionTrainConfig():
                run = prepare_diffusion(config, Path(folder))
            case ContrastiveTrainConfig():
                run = prepare_captions(config, contrastive_run(config), Path(folder))
            case CoCaTrainConfig():
                run = prepare_captions(config, coca_run(config), Path(folder))
            case MaskedTrainConfig():
                run = prepare_captions(config, masked_run(config), Path(folder))
            case ProjectorTrainConfig():
                run = prepare_projector(config, Path(folder))
            case _:
                assert_never(config)
        batches = [run.source.batch(step)[0] for step in range(NUM_BATCHES)]
    objective = run.objective
    trained = sum(count_flops(objective, b, backward=True) for b in batches)
    read = sum(count_flops(objective, b, backward=False) for b in batches)
    return TrainingFlops(
        num_parameters=sum(p.numel() for p in objective.parameters() if p.requires_grad),
        per_step=trained / NUM_BATCHES,
        per_row=read / NUM_BATCHES / batch,
    )


def count_flops(objective: nn.Module, batch: Any, *, backward: bool) -> int:
    """Of one batch, with what is computed twice (scores of attention in the backward pass)."""
    counter = FlopCounterMode(display=False, custom_mapping=_ATTENTION)
    with torch.set_grad_enabled(backward), counter:
        losses = objective(batch)
        if backward:
            losses.weighted_sum.backward()
    objective.zero_grad()
    return int(counter.get_total_flops())
