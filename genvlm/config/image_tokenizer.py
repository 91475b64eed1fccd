"""Configuration of a VQ-GAN image tokenizer and of its training."""

from dataclasses import dataclass
from typing import Literal

from genvlm.config.data import Vendors
from genvlm.config.schema import Count, Positive, Probability, Seed, Weight, strict
from genvlm.errors import ConfigError


@strict
@dataclass(frozen=True, kw_only=True)
class VQGANConfig:
    """Shape of a VQ-GAN built from taming-transformers' Encoder and Decoder.

    The defaults of the published f=8..16 models: patch_size 1, l2_normalized false.
    """

    resolution: Positive
    """Side of the square picture in pixels."""
    patch_size: Positive = 1
    """Space-to-depth factor in front of the encoder: 2 works at half resolution, 4x cheaper."""
    channels: Positive = 128
    channel_multipliers: tuple[int, ...] = (1, 1, 2, 2, 4)
    num_res_blocks: Positive = 2
    attn_resolutions: tuple[int, ...] = ()
    """Feature-map sides, after space-to-depth, that get spatial self-attention."""
    encoder_margin: Count | None = None
    """Pixels around its own cell that a code sees, by `LocalEncoder`: equal surroundings get equal
    codes. None is taming's Encoder, which sees all."""
    z_channels: Positive = 256
    codebook_size: Positive = 8192
    codebook_dim: Positive = 256
    decoder: bool = True
    """False: pictures can be read and not drawn (Hugging Face's Chameleon comes without)."""
    l2_normalized: bool = False
    """Codes and latents on the unit sphere (ViT-VQGAN): needed for low-dimensional codebooks."""

    def __post_init__(self) -> None:
        if self.downsample_factor < 1 or self.resolution % self.downsample_factor:
            raise ConfigError(
                f"resolution {self.resolution} is not a multiple of the downsample factor "
                f"{self.downsample_factor}: change resolution, patch_size or channel_multipliers"
            )
        if self.channels % 32:
            raise ConfigError(
                f"channels is {self.channels}: taming's GroupNorm needs a multiple of 32"
            )

    @property
    def downsample_factor(self) -> int:
        """Pixels per code along one side."""
        return int(self.patch_size * 2 ** (len(self.channel_multipliers) - 1))

    @property
    def grid_size(self) -> int:
        """Codes along one side of a picture."""
        return self.resolution // self.downsample_factor


@strict
@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Patch discriminator (taming's NLayerDiscriminator) and its schedule."""

    start_step: int
    """Step from which its gradient reaches the generator; -1 trains without a discriminator."""
    warmup_steps: Count = 300
    """Steps before `start_step` in which the discriminator alone learns."""
    weight: Weight = 0.1
    """Times the adaptive weight |grad reconstruction| / |grad adversarial| (VQGAN, Eq. 7)."""
    channels: Positive = 32
    num_layers: Positive = 2
    learning_rate: Weight = 4e-4


@strict
@dataclass(frozen=True, kw_only=True)
class VQGANTrainConfig:
    """A whole image-tokenizer recipe."""

    kind: Literal["vqgan"] = "vqgan"
    model: VQGANConfig
    adversarial: AdversarialConfig
    num_steps: Positive
    batch_size: Positive = 32
    learning_rate: Weight = 1e-3
    warmup_steps: Count = 200
    l1_weight: Weight = 1.0
    l2_weight: Weight = 4.0
    commitment_weight: Weight = 0.25
    codebook_weight: Weight = 1.0
    restart_after: Positive = 200
    """Steps a code may stay unused before it is moved onto a current latent."""
    vendors: Vendors = ("noto", "twemoji")
    scene_share: Probability = 0.25
    """Share of composed scenes in a batch; the rest are single drawings."""
    augment_share: Probability = 0.4
    """Share of single drawings that are moved, turned and scaled; half of all are recoloured."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """float32, or bfloat16 autocast where the processor supports it."""
    initial: str | None = None
    """Folder of an image tokenizer of this `model` to go on from. `genvlm convert` makes one of a
    published checkpoint; taming's `legacy: true` is commitment_weight 1, codebook_weight 0.25."""
    seed: Seed = 0
    checkpoint_every: Positive = 500
    weights_dtype: Literal["float16", "float32"] = "float16"
    """On disk; read back as float32."""
