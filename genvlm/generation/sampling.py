"""From logits to tokens: allowed ids first, then guidance, temperature, top-k, top-p, one draw.

B rows, A allowed ids of a row (the others are -inf). Each row has its own random stream: what it
draws does not depend on its neighbours.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How to draw. The defaults draw from the model's own distribution over the allowed ids."""

    temperature: float = 1.0
    """0 takes the most likely token."""
    top_k: int | None = None
    top_p: float = 1.0
    guidance_scale: float = 1.0
    """Of images, against the same image without its text; 1 runs no unconditional row."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and math.isfinite(self.guidance_scale)):
            raise ConfigError("temperature and guidance_scale must be finite numbers")
        if self.temperature < 0:
            raise ConfigError(f"temperature is {self.temperature}: it must be 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}: it must be at least 1")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}: it must be in (0, 1]")


def mask_logits(
    logits: Float[Tensor, "batch vocab"], bounds: Int[Tensor, "batch 2"]
) -> Float[Tensor, "batch vocab"]:
    """Log-softmax over the allowed ids of each row; -inf for all others."""
    ids = torch.arange(logits.shape[-1], device=logits.device)
    allowed = (ids >= bounds[:, :1]) & (ids < bounds[:, 1:])
    return logits.masked_fill(~allowed, -math.inf).log_softmax(-1)


def guide(
    conditional: Float[Tensor, "batch vocab"],
    unconditional: Float[Tensor, "batch vocab"],
    scale: float,
) -> Float[Tensor, "batch vocab"]:
    """u + s (c - u) on log-probabilities (Ho and Salimans 2022); ids forbidden in c stay so."""
    forbidden = conditional == -math.inf
    c, u = conditional.masked_fill(forbidden, 0), unconditional.masked_fill(forbidden, 0)
    return (u + scale * (c - u)).masked_fill(forbidden, -math.inf)


def draw(
    log_probs: Float[Tensor, "batch vocab"],
    settings: SamplingSettings,
    generators: list[torch.Generator],
) -> Int[Tensor, " batch"]:
    """One id per row."""
    if settings.temperature == 0:
        return log_probs.argmax(-1)
    scaled = log_probs / settings.temperature
    if settings.top_k is not None and settings.top_k < scaled.shape[-1]:
        threshold = scaled.topk(settings.top_k, dim=-1).values[:, -1:]
        scaled = scaled.masked_fill(scaled < threshold, -math.inf)
    probs = scaled.softmax(-1)
    ordered, ids = probs.sort(dim=-1, descending=True, stable=True)
    mass = ordered.double().cumsum(-1)
    # An id stays while the mass before it is below top_p: at least one does.
    kept = torch.where(mass - ordered < settings.top_p, ordered.double(), 0)
    mass = kept.cumsum(-1)
    uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators]).to(
        mass.device
    )
    place = torch.searchsorted(mass, uniform * mass[:, -1:], right=True)
    last = (kept > 0).sum(-1, keepdim=True) - 1
    return ids.gather(-1, torch.minimum(place, last))[:, 0]


def row_generators(seed: int, num_rows: int, first_row: int = 0) -> list[torch.Generator]:
    """One random stream per row, from the seed and the row's number."""
    return [
        torch.Generator().manual_seed((seed * 1_000_003 + first_row + row) % 2**63)
        for row in range(num_rows)
    ]
