"""Contrastive and caption loss of one pass (CoCa, Yu et al. 2022, section 3.2)."""

import torch
from torch import nn

from genvlm.data.caption_batches import CaptionBatch
from genvlm.data.pairs import as_pixels
from genvlm.models.auxiliary.coca import CoCa
from genvlm.training.objectives.contrastive import contrast
from genvlm.training.objectives.losses import Losses


class CoCaObjective(nn.Module):
    """A pair's loss is contrastive_weight times InfoNCE and caption_weight times -log p(caption |
    picture), both in nats."""

    def __init__(
        self,
        model: CoCa,
        *,
        contrastive_weight: float,
        caption_weight: float,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__()
        self.model, self.chunk_rows = model, chunk_rows
        self.contrastive_weight, self.caption_weight = contrastive_weight, caption_weight

    def forward(self, batch: CaptionBatch) -> Losses:
        """Losses of one micro-batch.

        Raises:
            TrainingError: as `contrast`.
        """
        pixels = as_pixels(batch.images, self.model.image_projection.weight.dtype)
        pooled, images = self.model.read_images(pixels)
        texts = self.model.read_texts(batch.pieces, batch.mask)
        found = contrast(
            images, texts.embedding, self.model.scale, allowed=batch.allowed,
            chunk_rows=self.chunk_rows,
        )  # fmt: skip
        nll = -self.model.log_probs(texts.tokens, pooled, batch.pieces, batch.mask).sum()
        loss = self.contrastive_weight * found.loss + self.caption_weight * nll
        num = torch.tensor(float(len(images)), device=images.device)
        terms = {"infonce": found.loss.detach(), "caption": nll.detach()}
        counts = {"infonce": num, "caption": batch.mask.sum().float()}
        return Losses(loss, terms, counts, found.means, {})
