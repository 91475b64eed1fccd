"""A contrastive model: one encoder for pictures, one for texts, and the angle between both.

B pictures, N texts, T tokens, E embedding.
"""

import math
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genvlm.config.contrastive import ContrastiveConfig
from genvlm.errors import ConfigError
from genvlm.models.auxiliary.folder import Built, Family
from genvlm.models.auxiliary.pair_model import EmbeddingModel
from genvlm.models.image_encoder import build_image_encoder
from genvlm.models.patches import PatchReader
from genvlm.models.text_encoder import Texts, build_texts, mean_state

Loss = Literal["infonce", "sigmoid"]
MOST_LOG_SCALE = math.log(100.0)
INITIAL_LOG_SCALE = math.log(1 / 0.07)
INITIAL = {"infonce": (INITIAL_LOG_SCALE, None), "sigmoid": (math.log(10.0), -10.0)}
"""log scale and bias at the beginning (CLIP section 2.5, SigLIP section 3.2)."""


def scaled_products(
    images: Float[Tensor, "images embedding"],
    texts: Float[Tensor, "texts embedding"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, "images texts"]:
    """Scaled cosines of embeddings that do not depend on each other."""
    return scale * images @ texts.T


class Scaled:
    """A network with a learned factor of cosines."""

    log_scale: nn.Parameter

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The factor, at most 100 as in CLIP."""
        return self.log_scale.clamp(max=MOST_LOG_SCALE).exp()


class DualEncoder(Scaled, nn.Module):
    """Both encoders, their states averaged, projected and scaled to length 1.

    Args:
        loss: infonce has a learned scale, sigmoid a bias too.
    """

    def __init__(self, images: PatchReader, texts: Texts, embedding_dim: int, loss: Loss) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = images.encoder, texts.encoder
        self.image_projection = nn.Linear(images.width, embedding_dim, bias=False)
        self.text_projection = nn.Linear(texts.width, embedding_dim, bias=False)
        scale, bias = INITIAL[loss]
        self.log_scale = nn.Parameter(torch.tensor(scale))
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def embed_images(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch embedding"]:
        """Embeddings of length 1 of pixels in [-1, 1], in float32 at least."""
        return unit_rows(self.image_projection(self.image_encoder(images).mean(1)))

    def embed_texts(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts embedding"]:
        """Embeddings of length 1, in float32 at least."""
        states = mean_state(self.text_encoder(pieces, mask), mask)
        return unit_rows(self.text_projection(states))

    def forward(
        self,
        images: Float[Tensor, "batch 3 side side"],
        pieces: Int[Tensor, "texts tokens"],
        mask: Bool[Tensor, "texts tokens"],
    ) -> tuple[Float[Tensor, "batch embedding"], Float[Tensor, "texts embedding"]]:
        """Embeddings of both."""
        return self.embed_images(images), self.embed_texts(pieces, mask)

    compare = staticmethod(scaled_products)

    def init_projections(self, seed: int) -> None:
        """Normal with the inverse of the square root of the width (CLIP)."""
        generator = torch.Generator().manual_seed(seed)
        for projection in (self.image_projection, self.text_projection):
            std = projection.in_features**-0.5
            nn.init.normal_(projection.weight, std=std, generator=generator)


def unit_rows(x: Float[Tensor, "rows embedding"]) -> Float[Tensor, "rows embedding"]:
    """Rows scaled to length 1, in float32 at least."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def build_dual_encoder(config: ContrastiveConfig, seed: int) -> Built[DualEncoder]:
    """The network, freshly initialised, with its texts and the side of its pictures.

    Raises:
        CheckpointError: a folder of a frozen encoder is missing or incomplete.
        ConfigError: it holds something else, or the configuration is Llip's.
    """
    if config.mixture_tokens is not None:
        raise ConfigError("a dual encoder has no mixture_tokens: build it with `build_llip`")
    images = build_image_encoder(config.image_encoder, seed=seed)
    texts = build_texts(config.text_encoder, seed=seed)
    network = DualEncoder(images, texts, config.embedding_dim, config.loss)
    network.init_projections(seed)
    return Built(network, texts.coder, images.side)


CONTRASTIVE = Family("contrastive", ContrastiveConfig, build_dual_encoder)


class ContrastiveModel(EmbeddingModel[DualEncoder]):
    """Embeds pictures and texts."""

    def embed_pixels(
        self, pixels: Float[Tensor, "images 3 side side"]
    ) -> Float[Tensor, "images embedding"]:
        """Of the image encoder."""
        return self.network.embed_images(pixels)

    def embed_pieces(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts embedding"]:
        """Of the text encoder."""
        return self.network.embed_texts(pieces, mask)


def load_contrastive(folder: Path, device: str | torch.device = "cpu") -> ContrastiveModel:
    """Read a folder; in eval mode, without gradients.

    Raises:
        CheckpointError: as `Family.load`.
        ConfigError: no such device.
    """
    return ContrastiveModel.of(CONTRASTIVE, *CONTRASTIVE.load(folder)).to(device)
