"""Configuration of what reads pictures: a small vision transformer, or frozen encoders."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.schema import Positive, Probability, strict
from genvlm.errors import ConfigError


@strict
@dataclass(frozen=True, kw_only=True)
class SmallImageEncoderConfig:
    """A vision transformer over square patches of pixels, trained with the rest."""

    kind: Literal["small"] = "small"
    side: Positive = 64
    """Of the square picture, in pixels."""
    patch_size: Positive = 8
    """Side of a patch, in pixels."""
    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    patch_dropout: Probability = 0.0
    """Share of the patches that a picture loses in training (FLIP, Li et al. 2023): cheaper."""

    def __post_init__(self) -> None:
        if self.side % self.patch_size:
            raise ConfigError(f"side {self.side} is no multiple of patch_size {self.patch_size}")
        if self.hidden_size % (4 * self.num_heads):
            raise ConfigError(
                f"hidden_size {self.hidden_size} is no multiple of four times num_heads "
                f"{self.num_heads}: rotary positions turn pairs, by row and by column"
            )
        if self.num_kept < 1:
            raise ConfigError(
                f"patch_dropout {self.patch_dropout:g} leaves none of {self.num_patches} patches: "
                "lower it"
            )

    @property
    def num_patches(self) -> int:
        """Of a picture."""
        return int((self.side // self.patch_size) ** 2)

    @property
    def num_kept(self) -> int:
        """Patches of a picture in training."""
        return round((1 - self.patch_dropout) * self.num_patches)


@strict
@dataclass(frozen=True, kw_only=True)
class ForeignPatchesConfig:
    """States of the patches of a vision encoder of transformers: CLIPVisionModel's and the like."""

    kind: Literal["transformers"] = "transformers"
    path: str
    """A local folder with `preprocessor_config.json`, or a newer `processor_config.json`."""
    layer: int = -2
    """Whose states: -1 is the last layer, -2 the one before it (LLaVA)."""


@strict
@dataclass(frozen=True, kw_only=True)
class VQPatchesConfig:
    """What the encoder of our VQ-GAN gives of each cell, before it is quantized."""

    kind: Literal["vqgan"] = "vqgan"
    path: str = "tokenizers/image-emoji-64"
    """Folder of an image tokenizer, or the name of a shipped one."""


@strict
@dataclass(frozen=True, kw_only=True)
class OwnPatchesConfig:
    """Last states of the patches, of the small image encoder of a model that we trained."""

    kind: Literal["genvlm"] = "genvlm"
    path: str
    """A model folder of kind contrastive, llip, coca or masked."""


ImageEncoderConfig = Annotated[
    SmallImageEncoderConfig | ForeignPatchesConfig | VQPatchesConfig, Field(discriminator="kind")
]
