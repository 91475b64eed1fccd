"""Pictures for a frozen language model: a projector from patches to vectors that it reads.

B rows, N pictures, P patches, D width of the language model, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from genvlm.config.projector import ProjectorConfig
from genvlm.models.auxiliary.language_model import Language, LanguageModel
from genvlm.models.patches import PatchReader
from genvlm.nn.devices import move_to
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors
from genvlm.tokenization.image import fit_squares, to_pixels
from genvlm.tokenization.image_slots import Prompt, Row, lay_out

SCHEMA = 1
# Pictures that are encoded at once.
_BATCH = 32


class Projector(nn.Module):
    """One linear layer (MiniGPT-4), or two with GELU between them (LLaVA 1.5)."""

    def __init__(self, patch_width: int, width: int, kind: Literal["linear", "mlp"]) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(patch_width, width)
        self.linear_2 = nn.Linear(width, width) if kind == "mlp" else None

    def init_weights(self, seed: int) -> None:
        """As torch's own linear layers, from a seed."""
        generator = torch.Generator().manual_seed(seed)
        for layer in (self.linear_1, self.linear_2):
            if layer is not None:
                bound = layer.in_features**-0.5
                nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)

    def forward(
        self, states: Float[Tensor, "pictures patches dim"]
    ) -> Float[Tensor, "pictures patches width"]:
        """Vectors of patches."""
        vectors: Tensor = self.linear_1(states)
        if self.linear_2 is not None:
            vectors = self.linear_2(F.gelu(vectors))
        return vectors


def fill_rows(
    language: LanguageModel,
    token_ids: Int[Tensor, "batch tokens"],
    is_image: Bool[Tensor, "batch tokens"],
    vectors: Float[Tensor, "pictures patches width"],
) -> Float[Tensor, "batch tokens width"]:
    """What the language model reads: vectors of tokens, and of patches where pictures stand."""
    embedded = language.embed(token_ids)
    return embedded.masked_scatter(is_image[..., None], vectors.to(embedded.dtype))


@dataclass(frozen=True, kw_only=True)
class ProjectorModel:
    """A projector with the two frozen models that it joins."""

    projector: Projector
    patches: PatchReader
    language: Language
    prompt: str
    """What stood in front of captions in training, with `{image}` in it."""
    fingerprint: str
    """sha256 over projector, frozen models and configuration. No paths."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.projector.linear_1.weight.device

    @torch.no_grad()
    def project(
        self, images: Sequence[UInt8[np.ndarray, "height width 3"]]
    ) -> Float[Tensor, "pictures patches width"]:
        """Vectors of pictures of any size, which are scaled to fit and padded to a white square."""
        parts = [torch.zeros(0, self.patches.num_patches, self.language.model.width)]
        for start in range(0, len(images), _BATCH):
            pixels = to_pixels(fit_squares(images[start:][:_BATCH], self.patches.side))
            states = self.patches.encoder(pixels.to(self.device))
            parts.append(self.projector(states))
        return torch.cat([part.to(self.device) for part in parts])

    def lay_out(self, prompt: Prompt, num_images: int, answer: str | None = None) -> Row:
        """Tokens of a prompt, and of an answer behind it. Raises TokenError: they do not fit."""
        return lay_out(
            prompt, self.language.coder,
            num_images=num_images, num_patches=self.patches.num_patches,
            answer=answer, context=self.language.model.context,
        )  # fmt: skip

    @torch.no_grad()
    def read(
        self, prompt: Prompt, vectors: Float[Tensor, "pictures patches width"]
    ) -> Float[Tensor, "1 tokens width"]:
        """What the language model reads of a prompt.

        Args:
            vectors: of the pictures, in the order of the prompt's slots.

        Raises:
            TokenError: pictures and slots are not as many, or the prompt is too long.
        """
        row = self.lay_out(prompt, len(vectors))
        token_ids = torch.tensor([row.token_ids], device=self.device)
        is_image = torch.tensor([row.is_image], device=self.device)
        return fill_rows(self.language.model, token_ids, is_image, vectors)


def assemble_projector(
    projector: Projector, config: ProjectorConfig, patches: PatchReader, language: Language
) -> ProjectorModel:
    """The model of these parts, in eval mode and without gradients."""
    projector.eval().requires_grad_(False)
    payload = {
        "schema": SCHEMA,
        "weights": fingerprint_tensors(projector.state_dict()),
        "projector": config.projector,
        "prompt": config.prompt,
        "image_encoder": patches.fingerprint,
        "language_model": language.fingerprint,
    }
    return ProjectorModel(
        projector=projector,
        patches=patches,
        language=language,
        prompt=config.prompt,
        fingerprint=fingerprint_of(payload),
    )


def build_projector(config: ProjectorConfig, patches: PatchReader, language: Language) -> Projector:
    """A projector of the widths of what it joins."""
    return Projector(patches.width, language.model.width, config.projector)


def move_projector(model: ProjectorModel, device: str | torch.device) -> ProjectorModel:
    """The model with all its parts on a device. Raises ConfigError: there is no such one."""
    for part in (model.projector, model.patches.encoder, model.language.model):
        move_to(part, device)
    return model
