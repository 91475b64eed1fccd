"""Configuration of a contrastive model and of its training."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.image_encoder import ImageEncoderConfig
from genvlm.config.schema import Positive, strict
from genvlm.config.text_encoder import TextEncoderConfig
from genvlm.config.training import RunConfig
from genvlm.errors import ConfigError


@strict
@dataclass(frozen=True, kw_only=True)
class MixtureTokensConfig:
    """Llip (Lavoie et al. 2024): several vectors of a picture, mixed as each text asks."""

    num_tokens: Positive
    num_heads: Positive
    """Of the attention to the patches, and of that of a text to the tokens."""


@strict
@dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Two encoders and the space in which they meet."""

    image_encoder: ImageEncoderConfig
    text_encoder: TextEncoderConfig
    embedding_dim: Positive
    loss: Literal["infonce", "sigmoid"] = "infonce"
    """infonce: CLIP's (Radford et al. 2021). sigmoid: SigLIP's (Zhai et al. 2023)."""
    # Not written where there are none: models without them keep their fingerprints.
    mixture_tokens: Annotated[
        MixtureTokensConfig | None, Field(exclude_if=lambda tokens: tokens is None)
    ] = None
    """None: a picture has one embedding, whatever the text."""

    def __post_init__(self) -> None:
        tokens = self.mixture_tokens
        if tokens is not None and self.embedding_dim % tokens.num_heads:
            raise ConfigError(
                f"embedding_dim {self.embedding_dim} is not a multiple of mixture_tokens.num_heads "
                f"{tokens.num_heads}, which share it"
            )


@strict
@dataclass(frozen=True, kw_only=True)
class ContrastiveObjectiveConfig:
    """All pairs of a batch against each other; a batch is what one forward pass of all processes
    sees, so that accumulation gives another loss."""

    negatives: bool = False
    """Captions that compare get a negative, what is compared swapped (NegCLIP, Yuksekgonul et al.
    2023): "b above a" for "a above b"."""
    chunk_rows: Positive | None = None
    """Logits of so many rows are there at once; None: of all."""


@strict
@dataclass(frozen=True, kw_only=True)
class ContrastiveTrainConfig(RunConfig):
    """A whole run of a contrastive model: `genvlm train FILE --out RUN`."""

    kind: Literal["contrastive"] = "contrastive"
    model: ContrastiveConfig
    data: CaptionedDataConfig
    objective: ContrastiveObjectiveConfig = field(default_factory=ContrastiveObjectiveConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pairs(self.global_batch_size)


def check_pairs(batch_size: int) -> None:
    """Raises ConfigError: no two pairs to tell apart."""
    if batch_size < 2:
        raise ConfigError(
            "a contrastive loss of one pair is zero whatever the model says: set "
            "global_batch_size and micro_batch_size to 2 at least"
        )
