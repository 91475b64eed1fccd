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
    """-log p(token | tokens before it) + z_loss_weight * log(Z)^2, each times its loss weight.

    Beside the losses it measures, for each modality of the predicted token, the largest logit and
    the norm of the hidden state in front of the last norm: in Chameleon its growth told of a coming
    divergence long before the loss did (arXiv 2405.09818, section 2.3).
    """

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
        states = self.model(
            batch.token_ids[:, :-1],
            positions=batch.positions,
            indices=places,
            mask=mask,
            last_norm=False,
        )
        weights = batch.loss_weights[:, 1:]
        learned = weights > 0
        weights, states = weights[learned], states[learned]
        scored = self.model.head(self.model.norm(states), batch.token_ids[:, 1:][learned])
        nll = -scored.log_prob
        loss = nll + self.z_loss_weight * scored.log_normalizer.square()
        modality = batch.modality[:, 1:][learned]
        norms = torch.linalg.vector_norm(states.detach().float(), dim=-1)
        terms, counts, means, maxima = {}, {}, {}, {}
        for kind, name in TERMS.items():
            of_kind = modality == kind
            terms[name] = nll.detach()[of_kind].sum()
            counts[name] = of_kind.sum().float()
            means[f"hidden_norm_{name}"] = torch.stack([norms[of_kind].sum(), counts[name]])
            none = scored.max_logit.new_full((1,), -torch.inf)
            maxima[f"max_logit_{name}"] = torch.cat([scored.max_logit[of_kind], none]).amax()
        return Losses((loss * weights).sum(), terms, counts, means, maxima)


def modality_weights(text: float, image: float, video: float) -> tuple[float, ...]:
    """Loss weight by `Modality`; control tokens count as text."""
    by_kind = {
        Modality.CONTROL: text, Modality.TEXT: text, Modality.IMAGE: image, Modality.VIDEO: video,
    }  # fmt: skip
    return tuple(by_kind[kind] for kind in Modality)


def bfloat16_supported() -> bool:
    """Whether bfloat16 runs natively: any recent GPU, or a CPU with bf16 units."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    return bool(
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
