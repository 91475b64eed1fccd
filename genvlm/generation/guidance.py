"""Guidance: an image or video drawn against companions of its row, which have read less.

A companion of kind BLIND has read nothing but BOS and the image or video being drawn; one of kind
IMAGES all that is not text: the images before, and in infilling the picture around the gap. Which
of them a row needs is decided here, and so is what they have read; they ride in the row's batch.
"""

import math
from collections.abc import Sequence
from enum import Enum

from jaxtyping import Float
from torch import Tensor

from genvlm.errors import ConfigError
from genvlm.generation.sampling import SamplingSettings
from genvlm.tokenization.vocabulary import Vocabulary


class Companion(Enum):
    """What a companion row reads."""

    BLIND = "the image or video being drawn"
    IMAGES = "all but text"


def companions(settings: SamplingSettings, *, infilling: bool) -> list[Companion]:
    """Companions of every row, the one that knows most first; none without guidance.

    Raises:
        ConfigError: two scales in infilling, where the images belong to what is drawn.
    """
    if not settings.guided:
        return []
    if settings.image_guidance_scale is None:
        return [Companion.IMAGES if infilling else Companion.BLIND]
    if infilling:
        raise ConfigError(
            "image_guidance_scale is for images behind images: leave it out where gaps are filled"
        )
    if settings.image_guidance_scale == 1:  # u + (i - u) is i
        return [Companion.IMAGES]
    return [Companion.IMAGES, Companion.BLIND]


def companion_prefix(kind: Companion, sequence: Sequence[int], vocabulary: Vocabulary) -> list[int]:
    """What a companion has read of a row's prompt."""
    v = vocabulary
    if kind is Companion.IMAGES:
        return [i for i in sequence if i not in v.text_range]
    begin = max((i for i, t in enumerate(sequence) if t in (v.boi, v.bov)), default=None)
    if begin is None:
        return [v.bos]
    end = v.eoi if sequence[begin] == v.boi else v.eov
    return [v.bos, *([] if end in sequence[begin:] else sequence[begin:])]


def combine(
    log_probs: Sequence[Float[Tensor, "batch vocab"]], settings: SamplingSettings
) -> Float[Tensor, "batch vocab"]:
    """Scores of images from log-probabilities of the rows and of their companions in order."""
    conditional, *known = log_probs
    if settings.contrastive_top_k is not None:
        return contrast(
            conditional, known[0], settings.contrastive_top_k, settings.contrastive_alpha
        )
    scale = settings.image_guidance_scale
    if scale is None or len(known) == 1:
        return guide(conditional, known[0], settings.guidance_scale)
    images, blind = known
    base = guide(images, blind, scale)
    return _plus_difference(base, conditional, images, settings.guidance_scale)


def guide(
    conditional: Float[Tensor, "batch vocab"],
    unconditional: Float[Tensor, "batch vocab"],
    scale: float,
) -> Float[Tensor, "batch vocab"]:
    """u + s (c - u) on log-probabilities (Ho and Salimans 2022); ids forbidden in c stay so."""
    return _plus_difference(unconditional, conditional, unconditional, scale)


def contrast(
    expert: Float[Tensor, "batch vocab"],
    amateur: Float[Tensor, "batch vocab"],
    top_k: int,
    alpha: float,
) -> Float[Tensor, "batch vocab"]:
    """Contrastive decoding TopK (CM3leon, Yu et al. 2023, section 3.2).

    log p_expert - log p_amateur for the ids whose p_expert is at least alpha times the k-th largest
    one; -inf for the others. Fewer than k allowed ids: the smallest of them counts.
    """
    num_allowed = (expert > -math.inf).sum(-1, keepdim=True)
    at = (num_allowed - 1).clamp(max=top_k - 1)
    ordered = expert.topk(min(top_k, expert.shape[-1]), dim=-1).values
    threshold = ordered.gather(-1, at) + math.log(alpha)
    plausible = (expert >= threshold) & (expert > -math.inf)
    difference = expert - amateur.masked_fill(~plausible, 0)
    return difference.masked_fill(~plausible, -math.inf)


def _plus_difference(base: Tensor, to: Tensor, of: Tensor, scale: float) -> Tensor:
    """base + scale (to - of), where `to` allows; never -inf minus -inf."""
    forbidden = to == -math.inf
    filled = [t.masked_fill(forbidden, 0) for t in (base, to, of)]
    return (filled[0] + scale * (filled[1] - filled[2])).masked_fill(forbidden, -math.inf)
