"""All pairs of a batch against each other. n own pairs, N of all processes."""

import torch
from torch import Tensor, nn

from genvlm.data.caption_batches import CaptionBatch
from genvlm.errors import TrainingError
from genvlm.models.auxiliary.contrastive import DualEncoder
from genvlm.training.gathered import gather_rows
from genvlm.training.objectives.contrastive_losses import info_nce, pairwise_sigmoid
from genvlm.training.objectives.losses import Losses


class ContrastiveObjective(nn.Module):
    """InfoNCE, or the pairwise sigmoid where the model has a bias; in float32."""

    def __init__(self, model: DualEncoder, chunk_rows: int | None = None) -> None:
        super().__init__()
        self.model, self.chunk_rows = model, chunk_rows

    def forward(self, batch: CaptionBatch) -> Losses:
        """The loss of own pairs against all, and how often a picture's own caption is the nearest.

        Raises:
            TrainingError: one pair alone, or another number of pairs in another process.
        """
        dtype = self.model.image_projection.weight.dtype  # bfloat16 under DeepSpeed
        pixels = batch.images.to(dtype) / 127.5 - 1
        images, texts = self.model(pixels, batch.pieces, batch.mask)
        num = len(images)
        gathered = gather_rows(images)
        captions, negatives = (gather_rows(part).rows for part in (texts[:num], texts[num:]))
        every, own = gathered.rows, gathered.own
        if len(every) < 2:
            raise TrainingError(
                "a contrastive loss of one pair is zero whatever the model says: raise "
                "micro_batch_size"
            )
        there = gather_rows(batch.allowed[num:, None].float()).rows[:, 0] > 0
        allowed = torch.cat([torch.ones_like(captions[:, 0], dtype=torch.bool), there])
        all_texts = torch.cat([captions, negatives])
        scale, bias = self.model.scale, self.model.bias
        with torch.autocast(every.device.type, enabled=False):
            if bias is None:
                loss = info_nce(
                    every, all_texts, scale, own, allowed=allowed, chunk_rows=self.chunk_rows
                )
            else:
                loss = pairwise_sigmoid(
                    every, all_texts, scale, bias, own, allowed=allowed, chunk_rows=self.chunk_rows
                )
        name = "infonce" if bias is None else "sigmoid"
        counted = torch.tensor(float(num), device=every.device)
        right = _num_right(images.detach(), captions.detach(), own)
        means = {
            "own_caption_nearest": torch.stack([right, counted]),
            "scale": torch.stack([scale.detach(), torch.ones_like(scale)]),
        }
        return Losses(loss, {name: loss.detach()}, {name: counted}, means, {})


def _num_right(images: Tensor, captions: Tensor, own: range) -> Tensor:
    """Pictures of which no caption of the batch is nearer than their own."""
    cosines = images @ captions.T
    at = torch.arange(own.start, own.stop, device=images.device)
    return (cosines.argmax(1) == at).sum().float()
