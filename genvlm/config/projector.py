"""Configuration of a projector between an image encoder and a frozen language model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.image_encoder import (
    ForeignPatchesConfig,
    OwnPatchesConfig,
    SmallImageEncoderConfig,
    VQPatchesConfig,
)
from genvlm.config.schema import Positive, strict
from genvlm.config.text_encoder import check_heads
from genvlm.config.training import RunConfig
from genvlm.errors import ConfigError

IMAGE_SLOT = "{image}"
"""Where a picture stands in a prompt."""


@strict
@dataclass(frozen=True, kw_only=True)
class ForeignLanguageConfig:
    """A causal language model of transformers with its tokenizer."""

    kind: Literal["transformers"] = "transformers"
    path: str
    """A local folder."""


@strict
@dataclass(frozen=True, kw_only=True)
class OwnLanguageConfig:
    """The text half of our own mixed-modal transformer, trained on texts alone or on pictures too.

    It reads and writes no codes here.
    """

    kind: Literal["genvlm"] = "genvlm"
    path: str
    """A model folder."""


# Flat, since overrides on the command line take no union within a union.
SeeingConfig = Annotated[
    SmallImageEncoderConfig | ForeignPatchesConfig | VQPatchesConfig | OwnPatchesConfig,
    Field(discriminator="kind"),
]
LanguageConfig = Annotated[ForeignLanguageConfig | OwnLanguageConfig, Field(discriminator="kind")]


@strict
@dataclass(frozen=True, kw_only=True)
class QueriesConfig:
    """Learned queries that read the patches, as those of BLIP-2's Q-Former do."""

    num_queries: Positive
    """Vectors of a picture, however many patches it has."""
    hidden_size: Positive
    num_layers: Positive = 2
    num_heads: Positive

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_heads)


@strict
@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """A frozen language model, what sees for it, and what is learned between them."""

    image_encoder: SeeingConfig
    """small: trained with the projector, through the language model (Frozen). Others are frozen."""
    language_model: LanguageConfig
    projector: Literal["linear", "mlp", "queries"] = "mlp"
    """linear: one layer (MiniGPT-4). mlp: two with GELU between them (LLaVA 1.5). Both give a
    vector for each patch. queries: as many as `queries` says."""
    queries: QueriesConfig | None = None
    prompt: str = IMAGE_SLOT
    """What stands in front of a caption, with the picture at `{image}`."""

    def __post_init__(self) -> None:
        if self.prompt.count(IMAGE_SLOT) != 1:
            raise ConfigError(
                f"prompt {self.prompt!r} must hold {IMAGE_SLOT} once, where the picture stands"
            )
        if (self.projector == "queries") != (self.queries is not None):
            raise ConfigError(
                f"projector {self.projector} {'lacks' if self.queries is None else 'takes no'} "
                "`queries`: projector queries needs them, and no other has them"
            )
        encoder = self.image_encoder
        if isinstance(encoder, SmallImageEncoderConfig) and encoder.patch_dropout:
            raise ConfigError(
                f"patch_dropout {encoder.patch_dropout:g} would give a picture fewer patches in "
                "training than the projector is for: set it to 0"
            )


@strict
@dataclass(frozen=True, kw_only=True)
class ProjectorTrainConfig(RunConfig):
    """A whole run of a projector: `genvlm train FILE --out RUN`."""

    kind: Literal["projector"] = "projector"
    model: ProjectorConfig
    data: CaptionedDataConfig

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.deepspeed is not None:
            raise ConfigError(
                "deepspeed shards what is trained, which is little beside the frozen parts: leave "
                "it out"
            )
        if self.optimizer.kind == "muon":
            raise ConfigError(
                "optimizer.kind muon is for models whose matrices lie inside blocks, which most "
                "projectors lack: set it to adamw"
            )
        if self.activation_checkpointing or self.compile:
            raise ConfigError(
                "activation_checkpointing and compile are for models that are trained, and here "
                "nearly all is frozen: set both to false"
            )
