"""Llip (Lavoie et al. 2024, arXiv 2405.00740): a picture's embedding depends on the text.

B pictures, N texts, T tokens, K mixture tokens, E embedding.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from genvlm.config.contrastive import ContrastiveConfig
from genvlm.errors import ConfigError
from genvlm.models.auxiliary.contrastive import INITIAL, Scaled, unit_rows
from genvlm.models.auxiliary.folder import Built, Family
from genvlm.models.auxiliary.pair_model import PairModel
from genvlm.models.image_encoder import build_image_encoder
from genvlm.models.patches import PatchReader
from genvlm.models.text_encoder import Texts, build_texts, mean_state
from genvlm.nn.cross_attention import AttentionPooler, CrossAttention

_NORM_EPS = 1e-5


class Llip(Scaled, nn.Module):
    """Both encoders, mixture tokens that read the patches, and texts that mix the tokens.

    The paper's tokens go through all blocks of the encoder with the patches; these read its last
    states, so that it may be any encoder, and a frozen one.

    Raises:
        ConfigError: the configuration has no mixture tokens.
    """

    def __init__(self, images: PatchReader, texts: Texts, config: ContrastiveConfig) -> None:
        super().__init__()
        if config.mixture_tokens is None:
            raise ConfigError("Llip needs mixture_tokens: say how many")
        dim, heads = config.embedding_dim, config.mixture_tokens.num_heads
        self.image_encoder, self.text_encoder = images.encoder, texts.encoder
        self.tokens = AttentionPooler(
            config.mixture_tokens.num_tokens, dim, images.width, num_heads=heads, norm_eps=_NORM_EPS
        )
        self.text_projection = nn.Linear(texts.width, dim, bias=False)
        # Nothing is added to what it reads: a text must find in the picture what it is compared to.
        self.mixing = CrossAttention(dim, dim, num_heads=heads, norm_eps=_NORM_EPS)
        scale, bias = INITIAL[config.loss]
        self.log_scale = nn.Parameter(torch.tensor(scale))
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))

    def read_images(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch tokens embedding"]:
        """Mixture tokens of pixels in [-1, 1]."""
        tokens: Tensor = self.tokens(self.image_encoder(images))
        return tokens

    def embed_texts(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts embedding"]:
        """Embeddings of length 1, in float32 at least."""
        states = mean_state(self.text_encoder(pieces, mask), mask)
        return unit_rows(self.text_projection(states))

    def embed_images(
        self,
        tokens: Float[Tensor, "batch tokens embedding"],
        texts: Float[Tensor, "texts embedding"],
    ) -> Float[Tensor, "batch texts embedding"]:
        """Embeddings of length 1 of each picture as each text sees it, in float32 at least."""
        dtype = self.mixing.o_proj.weight.dtype
        queries = texts.to(dtype).expand(len(tokens), -1, -1)
        return unit_rows(self.mixing(queries, tokens.to(dtype)))

    def compare(
        self,
        tokens: Float[Tensor, "batch tokens embedding"],
        texts: Float[Tensor, "texts embedding"],
        scale: Float[Tensor, ""],
    ) -> Float[Tensor, "batch texts"]:
        """Scaled cosines of each text and each picture as the text sees it."""
        return scale * (self.embed_images(tokens, texts) * texts).sum(-1)

    def forward(
        self,
        images: Float[Tensor, "batch 3 side side"],
        pieces: Int[Tensor, "texts tokens"],
        mask: Bool[Tensor, "texts tokens"],
    ) -> tuple[Float[Tensor, "batch tokens embedding"], Float[Tensor, "texts embedding"]]:
        """Mixture tokens of the pictures and embeddings of the texts."""
        return self.read_images(images), self.embed_texts(pieces, mask)

    def init_weights(self, seed: int) -> None:
        """Normal with the inverse of the square root of the width; the encoders stay."""
        generator = torch.Generator().manual_seed(seed)
        for part in (self.tokens, self.text_projection, self.mixing):
            for parameter in part.parameters():
                if parameter.dim() > 1:
                    std = parameter.shape[1] ** -0.5
                    nn.init.normal_(parameter, std=std, generator=generator)


def build_llip(config: ContrastiveConfig, seed: int) -> Built[Llip]:
    """As `build_dual_encoder`."""
    images = build_image_encoder(config.image_encoder, seed=seed)
    texts = build_texts(config.text_encoder, seed=seed)
    network = Llip(images, texts, config)
    network.init_weights(seed)
    return Built(network, texts.coder, images.side)


LLIP = Family("llip", ContrastiveConfig, build_llip)


class LlipModel(PairModel[Llip]):
    """Compares pictures and texts. A picture has no embedding without a text."""

    @torch.no_grad()
    def cosines(
        self, image: UInt8[np.ndarray, "height width 3"], texts: Sequence[str]
    ) -> Float[Tensor, " texts"]:
        """Of each text and the picture as it sees it, on the CPU.

        Raises:
            TokenError: a text that is too long.
        """
        network = self.network
        tokens = network.read_images(self.pixels([image]))
        embedded = network.embed_texts(*self.pieces(texts))
        return network.compare(tokens, embedded, torch.ones_like(network.scale))[0].cpu()


def load_llip(folder: Path, device: str | torch.device = "cpu") -> LlipModel:
    """Read a folder; in eval mode, without gradients.

    Raises:
        CheckpointError: as `Family.load`.
        ConfigError: no such device.
    """
    return LlipModel.of(LLIP, *LLIP.load(folder)).to(device)
