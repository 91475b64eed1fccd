"""Vector quantizer: nearest code, straight-through gradient, restart of codes that nobody uses.

B batch, C codebook dimension, H W latent height and width, K codebook size.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

# A piece of all products of latents and codes: 2 MB stay in a processor's cache; a GPU wants few
# large pieces.
_ROWS = 1024
_CODES_CPU, _CODES_GPU = 512, 2**16


class Quantized(NamedTuple):
    """Result of one quantization."""

    latents: Float[Tensor, "batch dim height width"]
    """Straight-through: gradients reach the encoder unchanged."""
    codes: Int[Tensor, "batch height width"]
    codebook_loss: Float[Tensor, ""]
    commitment_loss: Float[Tensor, ""]


class VectorQuantizer(nn.Module):
    """VQ-VAE quantizer (van den Oord et al. 2017); `l2_normalized`: ViT-VQGAN's (Yu et al. 2022).

    The codebook is `embedding.weight`, the name published taming checkpoints use.
    """

    def __init__(self, codebook_size: int, codebook_dim: int, *, l2_normalized: bool) -> None:
        super().__init__()
        self.l2_normalized = l2_normalized
        self.embedding = nn.Embedding(codebook_size, codebook_dim)
        nn.init.uniform_(self.embedding.weight, -1 / codebook_size, 1 / codebook_size)
        if l2_normalized:
            nn.init.normal_(self.embedding.weight)
        self.steps_unused: Tensor
        self.register_buffer(
            "steps_unused", torch.zeros(codebook_size, dtype=torch.long), persistent=False
        )

    @property
    def codebook(self) -> Float[Tensor, "codes dim"]:
        """The vectors that codes stand for."""
        weight = self.embedding.weight
        return F.normalize(weight, dim=-1) if self.l2_normalized else weight

    def forward(self, latents: Float[Tensor, "batch dim height width"]) -> Quantized:
        """Replace every latent by its nearest code. Losses are means over all elements."""
        latents = latents.float()
        if self.l2_normalized:
            latents = F.normalize(latents, dim=1)
        codes = self.nearest(latents)
        quantized = self.lookup(codes)
        codebook_loss = F.mse_loss(quantized, latents.detach())
        commitment_loss = F.mse_loss(latents, quantized.detach())
        straight_through = latents + (quantized - latents).detach()
        return Quantized(straight_through, codes, codebook_loss, commitment_loss)

    @torch.no_grad()
    def nearest(
        self, latents: Float[Tensor, "batch dim height width"]
    ) -> Int[Tensor, "batch height width"]:
        """Codes with the smallest Euclidean distance; the lower code wins a tie.

        argmin |z - e|^2 = argmax z.e - |e|^2 / 2, one matrix product without the |z|^2 term.
        """
        flat = rearrange(latents.float(), "b c h w -> (b h w) c")
        if self.l2_normalized:
            flat = F.normalize(flat, dim=-1)
        codebook = self.codebook.float()
        bias = -0.5 * codebook.square().sum(-1)
        best = [_argmax_in_pieces(rows, codebook, bias) for rows in flat.split(_ROWS)]
        return torch.cat(best).view(latents.shape[0], *latents.shape[2:])

    def lookup(
        self, codes: Int[Tensor, "batch height width"]
    ) -> Float[Tensor, "batch dim height width"]:
        """The latents that codes stand for."""
        return rearrange(F.embedding(codes, self.codebook), "b h w c -> b c h w")

    @torch.no_grad()
    def restart_unused(
        self,
        codes: Int[Tensor, "batch height width"],
        latents: Float[Tensor, "batch dim height width"],
        *,
        restart_after: int,
        generator: torch.Generator,
    ) -> int:
        """Move codes unused for `restart_after` calls onto random current latents.

        Returns:
            How many codes were moved.
        """
        self.steps_unused += 1
        self.steps_unused[codes.unique()] = 0
        dead = (self.steps_unused >= restart_after).nonzero()[:, 0]
        if len(dead) == 0:
            return 0
        flat = rearrange(latents.float(), "b c h w -> (b h w) c")
        pick = torch.randint(len(flat), (len(dead),), generator=generator, device="cpu")
        self.embedding.weight[dead] = flat[pick.to(flat.device)].to(self.embedding.weight.dtype)
        self.steps_unused[dead] = 0
        return len(dead)


def _argmax_in_pieces(
    rows: Float[Tensor, "rows dim"], codebook: Float[Tensor, "codes dim"], bias: Tensor
) -> Int[Tensor, " rows"]:
    """argmax of rows @ codebook.T + bias; of equal ones the lowest code."""
    best = rows.new_full((len(rows),), -math.inf)
    codes = torch.zeros(len(rows), dtype=torch.long, device=rows.device)
    piece = _CODES_GPU if rows.is_cuda else _CODES_CPU
    for start in range(0, len(codebook), piece):
        part = slice(start, start + piece)
        top, place = torch.addmm(bias[part], rows, codebook[part].T).max(-1)
        better = top > best
        best = torch.where(better, top, best)
        codes = torch.where(better, place + start, codes)
    return codes
