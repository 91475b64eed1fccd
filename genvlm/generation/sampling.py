"""From log-probabilities to tokens: repetition penalty, temperature, top-k, top-p, one draw.

B rows, A allowed ids of a row (the others are -inf). Each row has its own random stream: what it
draws does not depend on its neighbours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How to draw from a distribution. The defaults take it as it is."""

    temperature: float = 1.0
    """0 takes the most likely token."""
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.temperature):
            raise ConfigError(f"temperature is {self.temperature}: it must be a finite number")
        if self.temperature < 0:
            raise ConfigError(f"temperature is {self.temperature}: it must be 0 or more")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}: it must be at least 1")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}: it must be in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class SamplingSettings(Draw):
    """How to draw documents: what `Draw` says goes for images, and for text unless it has its own.

    The defaults draw from the model's own distribution over the allowed ids.
    """

    text: Draw | None = None
    """Of text and control tokens."""
    repetition_penalty: float = 1.0
    """Of text alone (Keskar et al. 2019): pieces that the document holds have their
    log-probability multiplied by it; images repeat themselves and should."""
    guidance_scale: float = 1.0
    """Of images, towards their text (classifier-free guidance, Ho and Salimans 2022); 1 runs no
    unconditional row."""
    image_guidance_scale: float | None = None
    """Of images, towards the images before them (InstructPix2Pix, Brooks et al. 2023): with it,
    `guidance_scale` goes from these images alone to images and text. Three rows a document."""
    contrastive_top_k: int | None = None
    """Contrastive decoding TopK of images instead of guidance (CM3leon, Yu et al. 2023)."""
    contrastive_alpha: float = 0.5
    """Share of the k-th largest probability that an id needs in contrastive decoding."""
    bfloat16_cache: bool = False
    """Keys and values are kept in half the memory, rounded."""

    def __post_init__(self) -> None:
        super().__post_init__()
        scales = (self.guidance_scale, self.image_guidance_scale or 0.0, self.repetition_penalty)
        if not all(math.isfinite(scale) for scale in scales):
            raise ConfigError("guidance scales and repetition_penalty must be finite numbers")
        if self.repetition_penalty <= 0:
            raise ConfigError(
                f"repetition_penalty is {self.repetition_penalty}: it must be above 0, and above "
                "1 to avoid repetition"
            )
        if not 0 < self.contrastive_alpha <= 1:
            raise ConfigError(f"contrastive_alpha is {self.contrastive_alpha}: it is in (0, 1]")
        if self.contrastive_top_k is None:
            return
        if self.contrastive_top_k < 1:
            raise ConfigError(f"contrastive_top_k is {self.contrastive_top_k}: at least 1")
        if self.guidance_scale != 1 or self.image_guidance_scale is not None:
            raise ConfigError("contrastive_top_k takes the place of guidance: choose one of both")

    @property
    def guided(self) -> bool:
        """Whether images are drawn against rows that know less."""
        return (
            self.guidance_scale != 1
            or self.image_guidance_scale not in (None, 1)
            or self.contrastive_top_k is not None
        )


def mask_logits(
    logits: Float[Tensor, "batch vocab"], bounds: Int[Tensor, "batch 2"]
) -> Float[Tensor, "batch vocab"]:
    """Log-softmax over the allowed ids of each row; -inf for all others."""
    ids = torch.arange(logits.shape[-1], device=logits.device)
    allowed = (ids >= bounds[:, :1]) & (ids < bounds[:, 1:])
    return logits.masked_fill(~allowed, -math.inf).log_softmax(-1)


def penalise_repetition(
    log_probs: Float[Tensor, "batch vocab"], seen: Sequence[Sequence[int]], penalty: float
) -> Float[Tensor, "batch vocab"]:
    """Each row's seen ids with `penalty` times their log-probability; not normalised."""
    penalised = log_probs.clone()
    for row, ids in enumerate(seen):
        if ids:
            penalised[row, list(set(ids))] *= penalty
    return penalised


def draw(
    log_probs: Float[Tensor, "batch vocab"],
    settings: Draw,
    generators: Sequence[torch.Generator],
) -> Int[Tensor, " batch"]:
    """One id per row: temperature, then top-k, then top-p, then the row's own random number."""
    if settings.temperature == 0:
        return log_probs.argmax(-1)
    # The largest becomes 0, so that no temperature, however low, makes all of them -inf.
    scaled = (log_probs - log_probs.amax(-1, keepdim=True)) / settings.temperature
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
