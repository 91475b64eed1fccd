"""Pictures as states of patches: a small vision transformer, or a frozen encoder.

B pictures, P patches, D width, S side in pixels.
"""

from typing import assert_never

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genvlm.config.image_encoder import (
    ForeignPatchesConfig,
    SmallImageEncoderConfig,
    VQPatchesConfig,
)
from genvlm.config.schema import to_plain
from genvlm.models.patches import PatchReader, build_patches
from genvlm.nn.encoder import EncoderBlock
from genvlm.nn.layers import rotary_table
from genvlm.nn.safetensors_folder import fingerprint_of

_NORM_EPS = 1e-5
_THETA = 100.0
_INITIALIZER_STD = 0.02


class SmallImageEncoder(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021) with rotary positions by row and column."""

    def __init__(self, config: SmallImageEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_size, self.num_kept = config.patch_size, config.num_kept
        self.embedding = nn.Linear(3 * config.patch_size**2, config.hidden_size)
        self.blocks = nn.ModuleList(
            EncoderBlock(config.hidden_size, num_heads=config.num_heads, norm_eps=_NORM_EPS)
            for _ in range(config.num_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=_NORM_EPS)
        self.dims = [config.hidden_size // config.num_heads // 2] * 2

    def forward(
        self,
        images: Float[Tensor, "batch 3 side side"],
        masked: Bool[Tensor, "batch patches"] | None = None,
        mask_patch: Float[Tensor, " dim"] | None = None,
    ) -> Float[Tensor, "batch patches dim"]:
        """States of the patches, row by row; in training of those that are not dropped.

        Args:
            masked: patches in whose place `mask_patch` is read.
        """
        size = self.patch_size
        patches = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=size, q=size)
        places = _places(len(images), images.shape[-1] // size, images.device)
        if self.training and self.num_kept < patches.shape[1]:
            kept = torch.rand(patches.shape[:2], device=images.device).argsort(1)
            kept = kept[:, : self.num_kept].sort(1).values[..., None]
            patches, places = (t.take_along_dim(kept, 1) for t in (patches, places))
        rotary = rotary_table(places, self.dims, [_THETA, _THETA])
        num = patches.shape[1]
        seen = torch.ones(len(images), 1, num, num, dtype=torch.bool, device=images.device)
        x = self.embedding(patches)
        if masked is not None and mask_patch is not None:
            x = torch.where(masked[..., None], mask_patch.to(x.dtype), x)
        for block in self.blocks:
            x = block(x, rotary, seen)
        normed: Tensor = self.norm(x)
        return normed

    def init_weights(self, seed: int) -> None:
        """Normal matrices, norms of 1, no bias."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=_INITIALIZER_STD, generator=generator)
        nn.init.zeros_(self.embedding.bias)


def _places(batch: int, rows: int, device: torch.device) -> Int[Tensor, "batch patches 2"]:
    one = torch.arange(rows, device=device)
    return torch.cartesian_prod(one, one).expand(batch, -1, -1)


def build_image_encoder(
    config: SmallImageEncoderConfig | ForeignPatchesConfig | VQPatchesConfig, *, seed: int = 0
) -> PatchReader:
    """The encoder; a small one is initialised from the seed.

    Raises:
        CheckpointError: a folder is missing or incomplete.
        ConfigError: it holds no vision encoder.
    """
    match config:
        case SmallImageEncoderConfig():
            encoder = SmallImageEncoder(config)
            encoder.init_weights(seed)
            return PatchReader(
                encoder=encoder,
                side=config.side,
                num_patches=config.num_patches,
                width=config.hidden_size,
                fingerprint=fingerprint_of(["small image encoder", to_plain(config)]),
                save=lambda folder: None,
            )
        case ForeignPatchesConfig() | VQPatchesConfig():
            return build_patches(config)
        case _:
            assert_never(config)
