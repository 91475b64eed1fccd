"""Configuration of a contrastive captioner (CoCa) and of its training."""

from dataclasses import dataclass, field
from typing import Literal

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.contrastive import check_pairs
from genvlm.config.image_encoder import ImageEncoderConfig
from genvlm.config.schema import Positive, Weight, strict
from genvlm.config.text_encoder import check_heads
from genvlm.config.training import RunConfig


@strict
@dataclass(frozen=True, kw_only=True)
class CaptionDecoderConfig:
    """A causal transformer over pieces; its first half sees no picture and gives the embedding."""

    tokenizer: str = "tokenizers/text-emoji"
    """Folder of a text tokenizer, or the name of a shipped one."""
    hidden_size: Positive
    num_unimodal_layers: Positive
    num_multimodal_layers: Positive
    num_heads: Positive
    max_tokens: Positive = 32
    """Most tokens of a text, the one that every text begins with included."""

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_heads)


@strict
@dataclass(frozen=True, kw_only=True)
class CoCaConfig:
    """CoCa (Yu et al. 2022): one image encoder, read by a decoder and by a contrastive loss."""

    image_encoder: ImageEncoderConfig
    decoder: CaptionDecoderConfig
    num_queries: Positive = 16
    """States of a picture that the decoder reads, pooled by learned queries."""
    embedding_dim: Positive


@strict
@dataclass(frozen=True, kw_only=True)
class CoCaObjectiveConfig:
    """The published weights of both losses."""

    contrastive_weight: Weight = 1.0
    caption_weight: Weight = 2.0
    chunk_rows: Positive | None = None
    """As of a contrastive model."""


@strict
@dataclass(frozen=True, kw_only=True)
class CoCaTrainConfig(RunConfig):
    """A whole run of a contrastive captioner: `genvlm train FILE --out RUN`."""

    kind: Literal["coca"] = "coca"
    model: CoCaConfig
    data: CaptionedDataConfig
    objective: CoCaObjectiveConfig = field(default_factory=CoCaObjectiveConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pairs(self.global_batch_size)
