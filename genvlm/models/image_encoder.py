"""Pictures as states of patches: a small vision transformer, or a frozen encoder of transformers.

B pictures, P patches, D width, S side in pixels.
"""

from pathlib import Path
from typing import NamedTuple, assert_never

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from genvlm.config.assets import resolve_path
from genvlm.config.image_encoder import FrozenImageEncoderConfig, SmallImageEncoderConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.foreign import import_transformers, load_part, read_config
from genvlm.nn.encoder import EncoderBlock
from genvlm.nn.layers import rotary_table

_NORM_EPS = 1e-5
_THETA = 100.0
_INITIALIZER_STD = 0.02


class ImageReader(NamedTuple):
    """An encoder and what it takes."""

    encoder: nn.Module
    """forward(images) -> states, (B, 3, S, S) pixels in [-1, 1] to (B, P, D)."""
    side: int
    """S."""
    width: int
    """D."""


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
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches dim"]:
        """States of the patches, row by row; in training of those that are not dropped."""
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


class FrozenImageEncoder(nn.Module):
    """A vision encoder of transformers, always in eval mode and without gradients.

    Args:
        mean, std: by channel, of pixels in [0, 1].
    """

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    def train(self, mode: bool = True) -> "FrozenImageEncoder":
        """Stays in eval mode."""
        super().train(False)
        return self

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches dim"]:
        """The last hidden states, that of a class token included where there is one."""
        pixels = ((images + 1) / 2 - self.mean) / self.std
        states: Tensor = self.model(pixel_values=pixels).last_hidden_state
        return states


def build_image_encoder(
    config: SmallImageEncoderConfig | FrozenImageEncoderConfig, *, seed: int = 0
) -> ImageReader:
    """The encoder; a small one is initialised from the seed.

    Raises:
        CheckpointError: a folder is missing or incomplete.
        ConfigError: it holds no vision encoder.
    """
    match config:
        case SmallImageEncoderConfig():
            encoder = SmallImageEncoder(config)
            encoder.init_weights(seed)
            return ImageReader(encoder, config.side, config.hidden_size)
        case FrozenImageEncoderConfig():
            return load_frozen_images(resolve_path(config.path))
        case _:
            assert_never(config)


def load_frozen_images(folder: Path) -> ImageReader:
    """A vision encoder of transformers.

    Raises:
        CheckpointError: the folder is missing or incomplete.
        ConfigError: it holds another kind of model.
    """
    transformers = import_transformers()
    name = str((read_config(folder).get("architectures") or [None])[0])
    cls = getattr(transformers, name, None)
    if not name.endswith("VisionModel") or cls is None:
        raise ConfigError(
            f"{folder} is a {name!r}: give a folder of a vision encoder of transformers such as "
            "CLIPVisionModel or SiglipVisionModel"
        )
    read = read_config(folder, "preprocessor_config.json")
    try:
        mean, std = (torch.tensor(read[key], dtype=torch.float32) for key in _STATISTICS)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(
            f"{folder}/preprocessor_config.json lacks {' or '.join(_STATISTICS)}: copy the folder "
            "again"
        ) from None
    model = load_part(cls, folder)
    return ImageReader(
        FrozenImageEncoder(model, mean, std), model.config.image_size, model.config.hidden_size
    )


_STATISTICS = ("image_mean", "image_std")
