"""Which parameters are stepped by which optimizer, and how fast."""

import math

import torch
from torch import nn

from genvlm.config.training import OptimizerConfig
from genvlm.training.muon import Muon

# Learned tables that shift and scale activations: shaped like matrices and none all the same.
_NO_MATRICES = ("norm", "scale_shift_table")


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
