"""FLAVA (Singh et al. 2022, arXiv 2112.04482): what is masked is told from what is not.

B pairs, P patches, T tokens, D hidden, K codes, V pieces, E embedding.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from genvlm.config.assets import resolve_path
from genvlm.config.masked import MaskedConfig
from genvlm.models.auxiliary.contrastive import INITIAL_LOG_SCALE, Scaled, unit_rows
from genvlm.models.auxiliary.folder import Built, Family
from genvlm.models.auxiliary.pair_model import EmbeddingModel
from genvlm.models.image_encoder import SmallImageEncoder
from genvlm.models.text_encoder import PieceCoder, SmallTextEncoder, mean_state
from genvlm.nn.encoder import EncoderBlock
from genvlm.nn.layers import rotary_table
from genvlm.tokenization.text import load_text_tokenizer

_NORM_EPS = 1e-5
_INITIALIZER_STD = 0.02


class MaskedEncoders(Scaled, nn.Module):
    """Encoders of pictures, texts and both, with a head for each loss.

    Args:
        num_pieces: of the text tokenizer, with the begin token behind them; a mask token follows.
    """

    def __init__(self, config: MaskedConfig, num_pieces: int) -> None:
        super().__init__()
        hidden, image, text = config.hidden_size, config.image_encoder, config.text_encoder
        self.mask_piece = num_pieces
        self.head_dim = hidden // config.num_heads
        self.image_encoder = SmallImageEncoder(image)
        self.mask_patch = nn.Parameter(torch.empty(image.hidden_size))
        self.text_encoder = SmallTextEncoder(text, num_pieces + 1)
        self.from_image = nn.Linear(image.hidden_size, hidden)
        self.from_text = nn.Linear(text.hidden_size, hidden)
        self.class_token = nn.Parameter(torch.empty(hidden))
        self.blocks = nn.ModuleList(
            EncoderBlock(hidden, num_heads=config.num_heads, norm_eps=_NORM_EPS)
            for _ in range(config.num_layers)
        )
        self.norm = nn.RMSNorm(hidden, eps=_NORM_EPS)
        self.code_head = nn.Linear(image.hidden_size, config.codebook_size)
        self.piece_head = nn.Linear(text.hidden_size, num_pieces)
        self.joint_code_head = nn.Linear(hidden, config.codebook_size)
        self.joint_piece_head = nn.Linear(hidden, num_pieces)
        self.match_head = nn.Linear(hidden, 1)
        self.image_projection = nn.Linear(image.hidden_size, config.embedding_dim, bias=False)
        self.text_projection = nn.Linear(text.hidden_size, config.embedding_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def read_images(
        self,
        images: Float[Tensor, "batch 3 side side"],
        masked: Bool[Tensor, "batch patches"] | None = None,
    ) -> Float[Tensor, "batch patches dim"]:
        """States of patches of pixels in [-1, 1]; masked ones are not seen."""
        states: Tensor = self.image_encoder(images, masked, self.mask_patch)
        return states

    def read_texts(
        self,
        pieces: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
        masked: Bool[Tensor, "batch tokens"] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """States of pieces; masked ones are not seen."""
        if masked is not None:
            pieces = pieces.masked_fill(masked, self.mask_piece)
        states: Tensor = self.text_encoder(pieces, mask)
        return states

    def read_both(
        self,
        images: Float[Tensor, "batch patches dim"],
        texts: Float[Tensor, "batch tokens dim"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch both hidden"]:
        """States of a class token, of the patches and of the pieces, each of which sees all.

        The states of either encoder tell where they stand, so that no positions are added.
        """
        first = self.class_token.to(images.dtype).expand(len(images), 1, -1)
        x = torch.cat([first, self.from_image(images), self.from_text(texts)], 1)
        num_seen = 1 + images.shape[1]
        seen = torch.cat([mask.new_ones(len(mask), num_seen), mask], 1)
        seen = seen[:, None, None].expand(-1, -1, x.shape[1], -1)
        nowhere = torch.zeros(1, x.shape[1], 1, dtype=torch.long, device=x.device)
        rotary = rotary_table(nowhere, [self.head_dim], [1.0])
        for block in self.blocks:
            x = block(x, rotary, seen)
        normed: Tensor = self.norm(x)
        return normed

    def embed_images(
        self, states: Float[Tensor, "batch patches dim"]
    ) -> Float[Tensor, "batch embedding"]:
        """Embeddings of length 1 of pictures of which nothing is masked."""
        return unit_rows(self.image_projection(states.mean(1)))

    def embed_texts(
        self, states: Float[Tensor, "texts tokens dim"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts embedding"]:
        """The same of texts."""
        return unit_rows(self.text_projection(mean_state(states, mask)))

    def init_weights(self, seed: int) -> None:
        """Normal matrices, norms of 1, no bias."""
        generator = torch.Generator().manual_seed(seed)
        self.image_encoder.init_weights(seed)
        self.text_encoder.init_weights(seed)
        for name, parameter in self.named_parameters():
            if name.startswith(("image_encoder.", "text_encoder.")):
                continue
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() > 1 or name in ("mask_patch", "class_token"):
                std = _INITIALIZER_STD
                if name.endswith("_projection.weight"):
                    std = parameter.shape[1] ** -0.5
                nn.init.normal_(parameter, std=std, generator=generator)


def build_masked(config: MaskedConfig, seed: int) -> Built[MaskedEncoders]:
    """The network, freshly initialised, with its texts and the side of its pictures.

    Raises:
        CheckpointError: the folder of the text tokenizer is missing or incomplete.
    """
    tokenizer = load_text_tokenizer(resolve_path(config.text_encoder.tokenizer))
    network = MaskedEncoders(config, tokenizer.size + 1)
    network.init_weights(seed)
    coder = PieceCoder(tokenizer, config.text_encoder.max_tokens)
    return Built(network, coder, config.image_encoder.side)


MASKED = Family("masked", MaskedConfig, build_masked)


class MaskedModel(EmbeddingModel[MaskedEncoders]):
    """Embeds pictures and texts, tells whether they match, and guesses pieces from all others."""

    def embed_pixels(
        self, pixels: Float[Tensor, "images 3 side side"]
    ) -> Float[Tensor, "images embedding"]:
        """Of the image encoder."""
        return self.network.embed_images(self.network.read_images(pixels))

    def embed_pieces(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts embedding"]:
        """Of the text encoder."""
        return self.network.embed_texts(self.network.read_texts(pieces, mask), mask)

    @torch.no_grad()
    def pseudo_log_probs(
        self, image: UInt8[np.ndarray, "height width 3"], text: str
    ) -> Float[Tensor, " pieces"]:
        """log p of each piece of a text given the picture and all other pieces, on the CPU.

        Raises:
            TokenError: a text that is too long.
        """
        pieces, mask = self.pieces([text])
        num = pieces.shape[1] - 1  # the begin token is given
        if num == 0:
            return torch.zeros(0)
        masked = torch.zeros(num, num + 1, dtype=torch.bool, device=self.device)
        masked[:, 1:].fill_diagonal_(True)
        rows, of_rows = pieces.expand(num, -1), mask.expand(num, -1)
        texts = self.network.read_texts(rows, of_rows, masked)
        images = self.network.read_images(self.pixels([image])).expand(num, -1, -1)
        both = self.network.read_both(images, texts, of_rows)[:, 1 + images.shape[1] :]
        log_probs = self.network.joint_piece_head(both[masked]).double().log_softmax(-1)
        return log_probs.gather(1, pieces[0, 1:, None])[:, 0].cpu()

    @torch.no_grad()
    def match(
        self, image: UInt8[np.ndarray, "height width 3"], texts: Sequence[str]
    ) -> Float[Tensor, " texts"]:
        """log p / (1 - p) of each text to be the picture's, on the CPU.

        Raises:
            TokenError: a text that is too long.
        """
        pieces, mask = self.pieces(texts)
        images = self.network.read_images(self.pixels([image])).expand(len(pieces), -1, -1)
        both = self.network.read_both(images, self.network.read_texts(pieces, mask), mask)
        return self.network.match_head(both[:, 0])[:, 0].cpu()


def load_masked(folder: Path, device: str | torch.device = "cpu") -> MaskedModel:
    """Read a folder; in eval mode, without gradients.

    Raises:
        CheckpointError: as `Family.load`.
        ConfigError: no such device.
    """
    return MaskedModel.of(MASKED, *MASKED.load(folder)).to(device)
