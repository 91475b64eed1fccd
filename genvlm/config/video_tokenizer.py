"""Configuration of a causal video tokenizer and of its training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.data import CameraSource, MovingEmojiSource, PhysicsSource, VideosSource
from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.schema import Count, Positive, Probability, Seed, Weight, strict
from genvlm.errors import ConfigError

ClipSource = Annotated[
    PhysicsSource | MovingEmojiSource | CameraSource | VideosSource, Field(discriminator="kind")
]


@strict
@dataclass(frozen=True, kw_only=True)
class VideoVQConfig:
    """Shape of a causal 3-D VQ that is inflated from an image VQ-GAN."""

    image: VQGANConfig
    """Of the image VQ-GAN, whose grid and codebook size it has."""
    frames_per_latent: Annotated[int, Field(ge=2)] = 4
    """r: frames that become one frame of codes; the first frame of a clip has one to itself."""
    encoder_width: Positive = 128
    encoder_blocks: Positive = 2
    decoder_width: Positive = 96
    decoder_blocks: Positive = 4

    def num_latents(self, num_frames: int) -> int:
        """T' = 1 + (T - 1) / r. Raises ConfigError: no whole number."""
        if num_frames < 1 or (num_frames - 1) % self.frames_per_latent:
            fits = 1 + max(0, num_frames - 1) // self.frames_per_latent * self.frames_per_latent
            raise ConfigError(
                f"{num_frames} frames do not fit a video tokenizer that takes 1 + "
                f"{self.frames_per_latent} k: give it {fits} or {fits + self.frames_per_latent}"
            )
        return 1 + (num_frames - 1) // self.frames_per_latent

    def num_frames(self, num_latents: int) -> int:
        """T = 1 + r (T' - 1)."""
        return 1 + self.frames_per_latent * (num_latents - 1)


@strict
@dataclass(frozen=True, kw_only=True)
class VideoVQTrainConfig:
    """A whole video-tokenizer recipe: `genvlm train FILE --out RUN`."""

    kind: Literal["video_vq"] = "video_vq"
    initial: str = "tokenizers/image-emoji-64"
    """Folder of the image tokenizer that is inflated, or name of a shipped one."""
    train_codes: bool = False
    """Also train the image encoder and the codebook, which are else kept: then the codes of a first
    frame are those of the image tokenizer, and both share their ids."""
    frames_per_latent: Annotated[int, Field(ge=2)] = 4
    encoder_width: Positive = 128
    encoder_blocks: Positive = 2
    decoder_width: Positive = 96
    decoder_blocks: Positive = 4
    sources: Annotated[tuple[ClipSource, ...], Field(min_length=1)]
    """Each gives an equal share of a batch."""
    max_bad_share: Probability = 0.0
    """Most of the clips of `videos` that may be damaged videos, as of `DataConfig`."""
    num_frames: Positive = 17
    """Of a training clip, cut from a longer one at random."""
    num_steps: Positive
    batch_size: Positive = 8
    learning_rate: Weight = 2e-3
    warmup_steps: Count = 200
    l1_weight: Weight = 1.0
    l2_weight: Weight = 4.0
    motion_weight: Weight = 1.0
    """How much more a pixel counts that differs from the frame before."""
    commitment_weight: Weight = 0.25
    codebook_weight: Weight = 1.0
    """With `train_codes` only."""
    restart_after: Positive = 200
    """With `train_codes` only: steps a code may stay unused before it is moved."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """float32, or bfloat16 autocast where the processor supports it."""
    seed: Seed = 0
    checkpoint_every: Positive = 500
    weights_dtype: Literal["float16", "float32"] = "float16"
    """On disk; read back as float32."""

    def __post_init__(self) -> None:
        r = self.frames_per_latent
        if self.num_frames <= r or (self.num_frames - 1) % r:
            raise ConfigError(
                f"num_frames is {self.num_frames}: with frames_per_latent {r} it must be "
                f"{1 + r}, {1 + 2 * r}, {1 + 3 * r} and so on"
            )
        if self.batch_size < len(self.sources):
            raise ConfigError(
                f"batch_size is {self.batch_size}, and each of {len(self.sources)} sources has a "
                f"share of a batch: raise it to {len(self.sources)} or more"
            )
        for number, source in enumerate(self.sources):
            if source.num_frames < self.num_frames:
                raise ConfigError(
                    f"sources.{number} has clips of {source.num_frames} frames, and num_frames is "
                    f"{self.num_frames}: lower num_frames, or raise that of the source"
                )

    def model(self, image: VQGANConfig) -> VideoVQConfig:
        """Shape of the tokenizer that is inflated from an image tokenizer of this shape."""
        return VideoVQConfig(
            image=image,
            frames_per_latent=self.frames_per_latent,
            encoder_width=self.encoder_width,
            encoder_blocks=self.encoder_blocks,
            decoder_width=self.decoder_width,
            decoder_blocks=self.decoder_blocks,
        )
