"""Losses over all pairs of a batch: InfoNCE (CLIP) and the pairwise sigmoid (SigLIP).

N pairs of the whole batch, of all processes; M texts, N and negatives behind them; n own pairs, of
this process; D embedding. A loss is the sum over own pairs, in nats: summed over processes and
divided by N it is the published one.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from genvlm.models.auxiliary.contrastive import scaled_products

Compare = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Images, texts and scale to scaled cosines, (images, texts)."""


def info_nce(
    images: Float[Tensor, "pairs ..."],
    texts: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    own: range,
    *,
    compare: Compare = scaled_products,
    allowed: Bool[Tensor, " texts"] | None = None,
    chunk_rows: int | None = None,
) -> Float[Tensor, ""]:
    """The symmetric cross-entropy of CLIP (Radford et al. 2021, figure 3) over own pairs.

    Half of it is that of a pair's text among all texts given its image, half that of its image
    among all images given its text. For the first, texts behind the N of the pairs are negatives
    alike (NegCLIP, Yuksekgonul et al. 2023).

    Args:
        images, texts: embeddings, the i-th of each are a pair.
        scale: factor of cosines, the inverse of the temperature.
        own: which pairs are summed.
        compare: what reads `images`, where they are no embeddings.
        allowed: texts that count; None: all.
        chunk_rows: logits of so many rows are there at once, and made again for gradients; None:
            of all.
    """

    def of_texts(rows: Tensor, targets: Tensor) -> Tensor:
        logits = _allowed(compare(rows, texts, scale), allowed)
        return F.cross_entropy(logits, targets, reduction="sum")

    def of_images(rows: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(compare(images, rows, scale).T, targets, reduction="sum")

    both = _sum_over_rows(of_texts, images, own, chunk_rows)
    both = both + _sum_over_rows(of_images, texts[: len(images)], own, chunk_rows)
    return both / 2


def pairwise_sigmoid(
    images: Float[Tensor, "pairs ..."],
    texts: Float[Tensor, "texts dim"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    own: range,
    *,
    compare: Compare = scaled_products,
    allowed: Bool[Tensor, " texts"] | None = None,
    chunk_rows: int | None = None,
) -> Float[Tensor, ""]:
    """-log sigmoid(z (scale x.y + bias)) over own images and all texts (Zhai et al. 2023, eq. 1).

    z is 1 for the text of the image and -1 for all others. Arguments as `info_nce`.
    """

    def of_rows(rows: Tensor, targets: Tensor) -> Tensor:
        logits = _allowed(compare(rows, texts, scale) + bias, allowed)
        is_pair = torch.zeros_like(logits, dtype=torch.bool)
        is_pair[torch.arange(len(rows), device=rows.device), targets] = True
        return F.softplus(torch.where(is_pair, -logits, logits)).sum()

    return _sum_over_rows(of_rows, images, own, chunk_rows)


def _allowed(
    logits: Float[Tensor, "rows texts"], allowed: Bool[Tensor, " texts"] | None
) -> Float[Tensor, "rows texts"]:
    return logits if allowed is None else logits.masked_fill(~allowed, -torch.inf)


def _sum_over_rows(
    loss: Callable[[Tensor, Tensor], Tensor],
    rows: Float[Tensor, "pairs ..."],
    own: range,
    chunk_rows: int | None,
) -> Float[Tensor, ""]:
    """Sum of `loss` over chunks of own rows, each with the places of its partners."""
    targets = torch.arange(own.start, own.stop, device=rows.device)
    rows = rows[own.start : own.stop]
    if chunk_rows is None or len(rows) <= chunk_rows:
        return loss(rows, targets)
    total = rows.new_zeros(())
    for part, of_part in zip(rows.split(chunk_rows), targets.split(chunk_rows), strict=True):
        total = total + checkpoint(loss, part, of_part, use_reentrant=False)
    return total
