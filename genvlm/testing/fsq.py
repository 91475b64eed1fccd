"""Finite scalar quantization (Mentzer et al. 2023), to be compared with our vector quantizer."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from genvlm.nn.quantizer import Quantized

# Keeps the outermost levels within reach of tanh.
_ROOM = 1e-3


class FiniteScalarQuantizer(nn.Module):
    """Rounds each channel to one of a few levels; a code is the number of their combination.

    It stands in for `VectorQuantizer`: nothing is learned, so that both losses are 0, and no code
    is ever restarted.
    """

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.l2_normalized = False
        self.levels: Tensor
        self.basis: Tensor
        self.steps_unused: Tensor
        size = torch.tensor(levels).view(-1, 1, 1)
        self.register_buffer("levels", size)
        self.register_buffer("basis", torch.cumprod(size, 0) // size)
        self.register_buffer("steps_unused", torch.zeros(math.prod(levels), dtype=torch.long))

    def forward(self, latents: Float[Tensor, "batch dim height width"]) -> Quantized:
        """Latents in [-1, 1], straight-through, and their codes."""
        half = (self.levels - 1) * (1 + _ROOM) / 2
        offset = (self.levels % 2 == 0) * 0.5
        bounded = torch.tanh(latents.float() + torch.atanh(offset / half)) * half - offset
        rounded = bounded + (bounded.round() - bounded).detach()
        middle = self.levels // 2
        codes = ((bounded.round() + middle) * self.basis).sum(1).long()
        zero = latents.new_zeros(())
        return Quantized(rounded / middle, codes, zero, zero)

    def restart_unused(self, *_batch: object, **_settings: object) -> int:
        """Nothing: every code has its place."""
        return 0
