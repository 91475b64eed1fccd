"""Configuration of a diffusion model: network, text encoder, latents, schedule, training."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.schema import Beta, Positive, PositiveFloat, Probability, strict
from genvlm.config.text_encoder import TextEncoderConfig
from genvlm.config.training import RunConfig
from genvlm.errors import ConfigError

ScheduleKind = Literal["linear", "scaled_linear", "cosine", "flow"]
Prediction = Literal["epsilon", "v_prediction", "flow"]


@strict
@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Shape of diffusers' UNet2DConditionModel."""

    kind: Literal["unet"] = "unet"
    block_out_channels: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Channels of every level; each level halves the side of the one before it."""
    attention: tuple[bool, ...]
    """Whether a level reads the text; what lies under the last one always does."""
    layers_per_block: Positive = 2
    head_dim: Positive = 8
    norm_num_groups: Positive = 32
    dropout: Probability = 0.0

    def __post_init__(self) -> None:
        if len(self.attention) != len(self.block_out_channels):
            raise ConfigError(
                f"attention names {len(self.attention)} levels and block_out_channels "
                f"{len(self.block_out_channels)}: give one true or false a level"
            )
        attending = [*self.attention[:-1], True]  # the last one's channels are the middle's too
        for channels, attends in zip(self.block_out_channels, attending, strict=True):
            if channels % self.norm_num_groups:
                raise ConfigError(
                    f"{channels} of block_out_channels is not a multiple of norm_num_groups "
                    f"{self.norm_num_groups}"
                )
            if attends and channels % self.head_dim:
                raise ConfigError(
                    f"{channels} of block_out_channels is not a multiple of head_dim "
                    f"{self.head_dim}"
                )

    @property
    def side_factor(self) -> int:
        """What the latent's side must be a multiple of."""
        return int(2 ** (len(self.block_out_channels) - 1))


@strict
@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Shape of diffusers' PixArtTransformer2DModel: a DiT that reads text by cross-attention."""

    kind: Literal["dit"] = "dit"
    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    patch_size: Positive = 1
    """Side of what one token stands for."""
    dropout: Probability = 0.0

    def __post_init__(self) -> None:
        if self.hidden_size % self.num_heads or self.hidden_size % 4:
            raise ConfigError(
                f"hidden_size {self.hidden_size} must be a multiple of num_heads {self.num_heads} "
                "and, for positions in two dimensions, of 4"
            )

    @property
    def side_factor(self) -> int:
        """What the latent's side must be a multiple of."""
        return self.patch_size


@strict
@dataclass(frozen=True, kw_only=True)
class PixelSpaceConfig:
    """Pixels in [-1, 1]."""

    kind: Literal["pixels"] = "pixels"
    side: Positive


@strict
@dataclass(frozen=True, kw_only=True)
class VQLatentsConfig:
    """What our VQ-GAN's quantizer sees, standardised by the training pictures."""

    kind: Literal["vqgan"] = "vqgan"
    path: str = "tokenizers/image-emoji-64"
    """Folder of an image tokenizer, or the name of a shipped one."""


@strict
@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig:
    """Means of diffusers' AutoencoderKL, times the scaling factor of its configuration."""

    kind: Literal["kl"] = "kl"
    path: str
    """A local folder."""
    side: Positive
    """Of the square picture, in pixels."""


@strict
@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How noise grows with the level."""

    kind: ScheduleKind = "cosine"
    num_levels: Annotated[int, Field(ge=2)] = 1000


NetworkConfig = Annotated[UNetConfig | DiTConfig, Field(discriminator="kind")]
LatentsConfig = Annotated[
    PixelSpaceConfig | VQLatentsConfig | AutoencoderKLConfig, Field(discriminator="kind")
]


@strict
@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """The four parts of a diffusion model, and what its network predicts."""

    network: NetworkConfig
    text_encoder: TextEncoderConfig
    latents: LatentsConfig
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    prediction: Prediction = "v_prediction"

    def __post_init__(self) -> None:
        if self.prediction == "epsilon" and self.schedule.kind == "flow":
            raise ConfigError(
                "the flow schedule ends without signal, where noise tells nothing of the picture: "
                "set prediction to flow or v_prediction"
            )


@strict
@dataclass(frozen=True, kw_only=True)
class PairDataConfig(CaptionedDataConfig):
    """Captioned pictures, some of which lose their caption."""

    condition_dropout: Probability = 0.1
    """Probability that a picture loses its caption: p(image), which guidance needs, is learned."""


@strict
@dataclass(frozen=True, kw_only=True)
class DenoisingConfig:
    """Squared error of the network's prediction."""

    weighting: Literal["equal", "min_snr"] = "equal"
    """equal: every level as it is. min_snr: min(SNR, gamma) on the clean picture's error, written
    for what is predicted (Hang et al. 2023, arXiv 2303.09556)."""
    min_snr_gamma: PositiveFloat = 5.0
    level_sampling: Literal["uniform", "logit_normal"] = "uniform"
    """logit_normal: levels of the flow schedule around its middle (Esser et al. 2024, SD3)."""


@strict
@dataclass(frozen=True, kw_only=True)
class DiffusionTrainConfig(RunConfig):
    """A whole run of a diffusion model: `genvlm train FILE --out RUN`."""

    kind: Literal["diffusion"] = "diffusion"
    model: DiffusionConfig
    data: PairDataConfig
    objective: DenoisingConfig = field(default_factory=DenoisingConfig)
    ema_decay: Beta | None = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective.weighting == "min_snr" and self.model.prediction == "flow":
            raise ConfigError(
                "objective.weighting min_snr is for predictions epsilon and v_prediction: set it "
                "to equal for flow"
            )
        if self.objective.level_sampling == "logit_normal" and self.model.schedule.kind != "flow":
            raise ConfigError(
                "objective.level_sampling logit_normal is for the flow schedule: set it to uniform"
            )
