"""CoCa (Yu et al. 2022, arXiv 2205.01917): captions and a contrastive embedding from one model.

B pictures, T tokens, P patches, Q queries, D hidden, E embedding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from genvlm.config.assets import resolve_path
from genvlm.config.coca import CoCaConfig
from genvlm.models.auxiliary.contrastive import INITIAL_LOG_SCALE, Scaled, unit_rows
from genvlm.models.auxiliary.folder import Built, Family
from genvlm.models.auxiliary.pair_model import EmbeddingModel
from genvlm.models.image_encoder import build_image_encoder
from genvlm.models.patches import PatchReader
from genvlm.models.text_encoder import PieceCoder
from genvlm.nn.cross_attention import AttentionPooler, ReadingBlock
from genvlm.nn.encoder import EncoderBlock
from genvlm.nn.layers import Rotary, TokenHead, rotary_table
from genvlm.tokenization.text import load_text_tokenizer

_NORM_EPS = 1e-5
_THETA = 10_000.0
_INITIALIZER_STD = 0.02


class TextStates(NamedTuple):
    """A text read without its picture."""

    tokens: Float[Tensor, "batch tokens hidden"]
    embedding: Float[Tensor, "batch embedding"]
    """Of length 1, from a last token that sees all others."""


class CoCa(Scaled, nn.Module):
    """Image encoder, two poolers one behind the other, and a decoder of two halves.

    The begin token of texts also ends them.
    """

    def __init__(self, config: CoCaConfig, images: PatchReader, num_pieces: int) -> None:
        super().__init__()
        text = config.decoder
        hidden, heads = text.hidden_size, text.num_heads
        self.head_dim = hidden // heads
        self.image_encoder = images.encoder
        self.pooler = AttentionPooler(
            config.num_queries, hidden, images.width, num_heads=heads, norm_eps=_NORM_EPS
        )
        self.embedding_pooler = AttentionPooler(
            1, hidden, hidden, num_heads=heads, norm_eps=_NORM_EPS
        )
        self.embedding = nn.Embedding(num_pieces, hidden)
        self.class_token = nn.Parameter(torch.empty(hidden))
        self.unimodal_blocks = nn.ModuleList(
            EncoderBlock(hidden, num_heads=heads, norm_eps=_NORM_EPS)
            for _ in range(text.num_unimodal_layers)
        )
        self.multimodal_blocks = nn.ModuleList(
            ReadingBlock(hidden, num_heads=heads, norm_eps=_NORM_EPS)
            for _ in range(text.num_multimodal_layers)
        )
        self.text_norm = nn.RMSNorm(hidden, eps=_NORM_EPS)
        self.norm = nn.RMSNorm(hidden, eps=_NORM_EPS)
        self.head = TokenHead(hidden, num_pieces)
        self.image_projection = nn.Linear(hidden, config.embedding_dim, bias=False)
        self.text_projection = nn.Linear(hidden, config.embedding_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def read_images(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> tuple[Float[Tensor, "batch queries hidden"], Float[Tensor, "batch embedding"]]:
        """What the decoder reads, and the embedding of length 1, of pixels in [-1, 1]."""
        pooled = self.pooler(self.image_encoder(images))
        return pooled, unit_rows(self.image_projection(self.embedding_pooler(pooled)[:, 0]))

    def read_texts(
        self, pieces: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> TextStates:
        """The half of the decoder that sees no picture."""
        batch, num = pieces.shape
        last = self.class_token.expand(batch, 1, -1).to(self.embedding.weight.dtype)
        x = torch.cat([self.embedding(pieces), last], 1)
        rotary = self._rotary(mask, class_token=True)
        seen = torch.ones(num + 1, num + 1, dtype=torch.bool, device=x.device).tril()
        seen = seen.expand(batch, 1, -1, -1).clone()
        seen[:, 0, -1, :-1] = mask
        for block in self.unimodal_blocks:
            x = block(x, rotary, seen)
        embedding = unit_rows(self.text_projection(self.text_norm(x[:, -1])))
        return TextStates(x[:, :-1], embedding)

    def log_probs(
        self,
        tokens: Float[Tensor, "batch tokens hidden"],
        pooled: Float[Tensor, "batch queries hidden"],
        pieces: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch tokens"]:
        """log p(next piece, or the end, | picture, pieces so far), in nats; 0 behind the end.

        Args:
            tokens: `TextStates.tokens`.
        """
        rotary = self._rotary(mask, class_token=False)
        num = pieces.shape[1]
        seen = torch.ones(num, num, dtype=torch.bool, device=pieces.device).tril()
        seen = seen.expand(len(pieces), 1, -1, -1)
        x = tokens
        for block in self.multimodal_blocks:
            x = block(x, rotary, seen, pooled)
        following = torch.cat([pieces[:, 1:], pieces[:, :1]], 1)
        ends = torch.arange(num, device=pieces.device) == mask.sum(1, keepdim=True) - 1
        targets = torch.where(ends, pieces[:, :1], following)
        scored = self.head(self.norm(x)[mask], targets[mask])
        found = scored.log_prob.new_zeros(mask.shape)
        return found.masked_scatter(mask, scored.log_prob)

    def _rotary(self, mask: Bool[Tensor, "batch tokens"], *, class_token: bool) -> Rotary:
        """Positions of the tokens; the class token stands behind the last one, not behind padding,
        so that nothing depends on what else is in the batch."""
        places = torch.arange(mask.shape[1], device=mask.device).expand(len(mask), -1)
        if class_token:
            places = torch.cat([places, mask.sum(1, keepdim=True)], 1)
        return rotary_table(places[..., None], [self.head_dim], [_THETA])

    def init_weights(self, seed: int) -> None:
        """Normal matrices; the image encoder stays as it is."""
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            if name.startswith("image_encoder.") or (parameter.dim() < 2 and "class" not in name):
                continue
            std = _INITIALIZER_STD
            if name.endswith("_projection.weight"):
                std = parameter.shape[1] ** -0.5
            nn.init.normal_(parameter, std=std, generator=generator)


def build_coca(config: CoCaConfig, seed: int) -> Built[CoCa]:
    """The network, freshly initialised, with its texts and the side of its pictures.

    Raises:
        CheckpointError: a folder of a tokenizer or a frozen encoder is missing or incomplete.
        ConfigError: it holds something else.
    """
    images = build_image_encoder(config.image_encoder, seed=seed)
    tokenizer = load_text_tokenizer(resolve_path(config.decoder.tokenizer))
    network = CoCa(config, images, tokenizer.size + 1)
    network.init_weights(seed)
    return Built(network, PieceCoder(tokenizer, config.decoder.max_tokens), images.side)


COCA = Family("coca", CoCaConfig, build_coca)


class CoCaModel(EmbeddingModel[CoCa]):
    """Embeds pictures and texts, and scores texts given a picture."""

    def embed_pixels(
        self, pixels: Float[Tensor, "images 3 side side"]
    ) -> Float[Tensor, "images embedding"]:
        """Of the image encoder."""
        return self.network.read_images(pixels)[1]

    def embed_pieces(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts embedding"]:
        """Of the text encoder."""
        return self.network.read_texts(pieces, mask).embedding

    @torch.no_grad()
    def score_texts(
        self, image: UInt8[np.ndarray, "height width 3"], texts: Sequence[str]
    ) -> tuple[Float[Tensor, "texts tokens"], Bool[Tensor, "texts tokens"]]:
        """log p of each piece of each text, and of its end, given one picture, on the CPU.

        Raises:
            TokenError: a text that is too long.
        """
        pieces, mask = self.pieces(texts)
        pooled = self.network.read_images(self.pixels([image]))[0].expand(len(pieces), -1, -1)
        tokens = self.network.read_texts(pieces, mask).tokens
        return self.network.log_probs(tokens, pooled, pieces, mask).cpu(), mask.cpu()


def load_coca(folder: Path, device: str | torch.device = "cpu") -> CoCaModel:
    """Read a folder; in eval mode, without gradients.

    Raises:
        CheckpointError: as `Family.load`.
        ConfigError: no such device.
    """
    return CoCaModel.of(COCA, *COCA.load(folder)).to(device)
