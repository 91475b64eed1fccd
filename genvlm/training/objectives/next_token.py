"""Next-token prediction over all modalities, with a z-loss. B batch, T tokens, D hidden."""

import torch
from torch import nn

from genvlm.data.batches import Batch
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.nn.packed_rows import document_mask, places_in_documents
from genvlm.tokenization.vocabulary import Modality
from genvlm.training.objectives.losses import Losses

TERMS = {Modality.TEXT: "text", Modality.IMAGE: "image", Modality.VIDEO: "video"}


class NextTokenObjective(nn.Module):
    """-log p(token | tokens before it) + z_loss_weight * log(Z)^2, each times its loss weight."""

    def __init__(self, model: MixedModalTransformer, z_loss_weight: float) -> None:
        super().__init__()
        self.model = model
        self.z_loss_weight = z_loss_weight

    def forward(self, batch: Batch) -> Losses:
        """Losses of one micro-batch; positions of weight 0 are never computed by the head."""
        mask = places = None
        if batch.document_ids is not None:
            mask = document_mask(batch.document_ids[:, :-1])
            places = places_in_documents(batch.document_ids[:, :-1])
        hidden = self.model(
            batch.token_ids[:, :-1], positions=batch.positions, indices=places, mask=mask
        )
        weights = batch.loss_weights[:, 1:]
        learned = weights > 0
        weights = weights[learned]
        scored = self.model.head(hidden[learned], batch.token_ids[:, 1:][learned])
        nll = -scored.log_prob
        loss = nll + self.z_loss_weight * scored.log_normalizer.square()
        modality = batch.modality[:, 1:][learned]
        terms, counts = {}, {}
        for kind, name in TERMS.items():
            of_kind = modality == kind
            terms[name] = nll.detach()[of_kind].sum()
            counts[name] = of_kind.sum().float()
        return Losses((loss * weights).sum(), terms, counts)


def modality_weights(text: float, image: float) -> tuple[float, ...]:
    """Loss weight by `Modality`; control tokens count as text, video as image."""
    by_kind = {
        Modality.CONTROL: text, Modality.TEXT: text, Modality.IMAGE: image, Modality.VIDEO: image,
    }  # fmt: skip
    return tuple(by_kind[kind] for kind in Modality)


def bfloat16_supported() -> bool:
    """Whether bfloat16 runs natively: any recent GPU, or a CPU with bf16 units."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
