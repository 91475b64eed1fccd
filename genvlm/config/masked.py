"""Configuration of a masked model (FLAVA) and of its training."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.contrastive import check_pairs
from genvlm.config.image_encoder import SmallImageEncoderConfig
from genvlm.config.schema import Positive, Weight, strict
from genvlm.config.text_encoder import SmallTextEncoderConfig, check_heads
from genvlm.config.training import RunConfig
from genvlm.errors import ConfigError

MaskedShare = Annotated[float, Field(gt=0, lt=1)]


@strict
@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """FLAVA (Singh et al. 2022): an encoder each for pictures and texts, and one for both."""

    image_encoder: SmallImageEncoderConfig
    """Its patches are the cells of the image tokenizer."""
    text_encoder: SmallTextEncoderConfig
    image_tokenizer: str = "tokenizers/image-emoji-64"
    """Whose codes stand for what a masked patch shows; only training needs it."""
    codebook_size: Positive = 8192
    """Of the image tokenizer; fewer: its codes are merged into so many."""
    hidden_size: Positive
    """Of the encoder of both."""
    num_layers: Positive
    num_heads: Positive
    embedding_dim: Positive

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_heads)
        if self.image_encoder.patch_dropout:
            raise ConfigError("a masked model learns from all patches: set patch_dropout to 0")


@strict
@dataclass(frozen=True, kw_only=True)
class MaskedObjectiveConfig:
    """Shares that are masked, and the weights of the losses, of which 0 is measured alone."""

    image_share: MaskedShare = 0.4
    text_share: MaskedShare = 0.3
    image_weight: Weight = 1.0
    """Of masked patches by the image encoder alone."""
    text_weight: Weight = 1.0
    """Of masked pieces by the text encoder alone."""
    multimodal_weight: Weight = 1.0
    """Of both, by the encoder of both."""
    multimodal: Literal["both_masked", "one_masked"] = "both_masked"
    """both_masked: patches and pieces of a pair at once (FLAVA). one_masked: patches beside the
    whole text, and pieces beside the whole picture (MaskVLM, Kwon et al. 2023)."""
    contrastive_weight: Weight = 1.0
    matching_weight: Weight = 1.0
    chunk_rows: Positive | None = None
    """As of a contrastive model."""


@strict
@dataclass(frozen=True, kw_only=True)
class MaskedTrainConfig(RunConfig):
    """A whole run of a masked model: `genvlm train FILE --out RUN`."""

    kind: Literal["masked"] = "masked"
    model: MaskedConfig
    data: CaptionedDataConfig
    objective: MaskedObjectiveConfig = field(default_factory=MaskedObjectiveConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pairs(self.micro_batch_size)  # a pair that does not match takes two, too
