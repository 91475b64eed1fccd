"""All pairs of a batch against each other. n own pairs, N of all processes, E embedding."""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from genvlm.data.caption_batches import CaptionBatch
from genvlm.data.pairs import as_pixels
from genvlm.errors import TrainingError
from genvlm.models.auxiliary.contrastive import DualEncoder, scaled_products
from genvlm.models.auxiliary.llip import Llip
from genvlm.training.gathered import gather_rows
from genvlm.training.objectives.contrastive_losses import (
    Compare,
    info_nce,
    pairwise_sigmoid,
)
from genvlm.training.objectives.losses import Losses


class Contrast(NamedTuple):
    """Of the own pairs of a micro-batch."""

    loss: Float[Tensor, ""]
    """The sum, in nats."""
    means: dict[str, Float[Tensor, "2"]]
    """(sum, count) of what is logged beside it; detached."""


class ContrastiveObjective(nn.Module):
    """InfoNCE, or the pairwise sigmoid where the model has a bias; in float32."""

    def __init__(self, model: DualEncoder | Llip, chunk_rows: int | None = None) -> None:
        super().__init__()
        self.model, self.chunk_rows = model, chunk_rows

    def forward(self, batch: CaptionBatch) -> Losses:
        """Losses of one micro-batch. Raises TrainingError as `contrast`."""
        pixels = as_pixels(batch.images, self.model.text_projection.weight.dtype)
        images, texts = self.model(pixels, batch.pieces, batch.mask)
        scale, bias = self.model.scale, self.model.bias
        found = contrast(
            images, texts, scale, bias, compare=self.model.compare, allowed=batch.allowed,
            chunk_rows=self.chunk_rows,
        )  # fmt: skip
        name = "infonce" if bias is None else "sigmoid"
        counts = {name: torch.tensor(float(len(images)), device=images.device)}
        return Losses(found.loss, {name: found.loss.detach()}, counts, found.means, {})


def contrast(
    images: Float[Tensor, "own ..."],
    texts: Float[Tensor, "texts embedding"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""] | None = None,
    *,
    compare: Compare = scaled_products,
    allowed: Bool[Tensor, " texts"],
    chunk_rows: int | None,
) -> Contrast:
    """The loss of own pairs against those of all processes, and how many pictures of this process
    have no caption of it nearer than their own.

    Args:
        texts: own captions, and own negatives behind them.
        bias: the pairwise sigmoid has one, InfoNCE none.
        compare: as of `info_nce`.

    Raises:
        TrainingError: one pair alone, or another number of pairs in another process.
    """
    num = len(images)
    captions, negatives = texts[:num], texts[num:]
    every, own = gather_rows(images)
    if len(every) < 2:
        raise TrainingError(
            "a contrastive loss of one pair is zero whatever the model says: raise micro_batch_size"
        )
    all_texts = torch.cat([gather_rows(captions).rows, gather_rows(negatives).rows])
    there = gather_rows(allowed[num:, None].float()).rows[:, 0] > 0
    counted = torch.cat([torch.ones(len(every), dtype=torch.bool, device=there.device), there])
    of_pairs = info_nce if bias is None else partial(pairwise_sigmoid, bias=bias.float())
    with torch.autocast(images.device.type, enabled=False):
        loss = of_pairs(
            every, all_texts, scale.float(), own=own, compare=compare, allowed=counted,
            chunk_rows=chunk_rows,
        )  # fmt: skip
    with torch.no_grad():
        nearest = compare(images, captions, scale).argmax(1)
    right = (nearest == torch.arange(num, device=images.device)).sum().float()
    means = {
        "own_caption_nearest": torch.stack([right, right.new_tensor(float(num))]),
        "scale": torch.stack([scale.detach().float(), right.new_ones(())]),
    }
    return Contrast(loss, means)
