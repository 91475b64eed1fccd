"""Captioning by a frozen language model that reads vectors of pictures. B rows, T tokens."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from genvlm.data.captioning import CaptioningBatch
from genvlm.data.pairs import as_pixels
from genvlm.models.auxiliary.language_model import LanguageModel
from genvlm.models.auxiliary.projector import Projector, fill_rows
from genvlm.nn.frozen import Frozen
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.training.objectives.losses import Losses


class CaptioningObjective(nn.Module):
    """-log p(token of a caption | picture, tokens before it).

    Its state dict is of what is trained: a checkpoint repeats no frozen weights.
    """

    def __init__(
        self, projector: Projector, image_encoder: nn.Module, language_model: LanguageModel
    ) -> None:
        super().__init__()
        self.projector = projector
        self.image_encoder, self.language_model = image_encoder, language_model
        self.register_state_dict_post_hook(_drop_frozen)
        self.register_load_state_dict_pre_hook(_add_frozen)

    def forward(self, batch: CaptioningBatch) -> Losses:
        """Losses of one micro-batch; nothing is computed of what stands in front of captions."""
        dtype = next(self.projector.parameters()).dtype
        states = self.image_encoder(as_pixels(batch.images, dtype))
        rows = fill_rows(
            self.language_model, batch.token_ids, batch.is_image, self.projector(states)
        )
        weights = batch.loss_weights[:, 1:]
        first = int((weights > 0).any(0).int().argmax())
        logits = self.language_model(rows[:, :-1], weights.shape[1] - first)
        weights, targets = weights[:, first:], batch.token_ids[:, 1:][:, first:]
        learned = weights > 0
        chosen = logits[learned]
        log_probs = (chosen if chosen.dtype == torch.float64 else chosen.float()).log_softmax(-1)
        nll = -log_probs.gather(-1, targets[learned][:, None])[:, 0]
        num = learned.sum().float()
        return Losses(
            (nll * weights[learned]).sum(),
            {"caption": nll.detach().sum()},
            {"caption": num},
            {},
            {},
        )

    def frozen_parts(self) -> Mapping[str, nn.Module]:
        """What no step may change, by its name."""
        parts = {"image encoder": self.image_encoder, "language model": self.language_model}
        return {name: part for name, part in parts.items() if isinstance(part, Frozen)}


def fingerprint_frozen(objective: CaptioningObjective) -> dict[str, str]:
    """sha256 over the weights of each frozen part."""
    parts = objective.frozen_parts().items()
    return {name: fingerprint_tensors(part.state_dict()) for name, part in parts}


def _drop_frozen(
    module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    for name in _frozen_state(module, prefix):
        del state[name]


def _add_frozen(module: nn.Module, state: dict[str, Any], prefix: str, *unused: object) -> None:
    state.update(_frozen_state(module, prefix))


def _frozen_state(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    assert isinstance(module, CaptioningObjective)
    found: dict[str, Tensor] = {}
    for part, frozen in module.frozen_parts().items():
        frozen.state_dict(destination=found, prefix=f"{prefix}{part.replace(' ', '_')}.")
    return found
