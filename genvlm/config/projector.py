"""Configuration of a projector between a frozen image encoder and a frozen language model."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.image_encoder import PatchesConfig
from genvlm.config.schema import strict
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


LanguageConfig = Annotated[ForeignLanguageConfig | OwnLanguageConfig, Field(discriminator="kind")]


@strict
@dataclass(frozen=True, kw_only=True)
class ProjectorConfig:
    """Two frozen models and what is learned between them."""

    image_encoder: PatchesConfig
    language_model: LanguageConfig
    projector: Literal["linear", "mlp"] = "mlp"
    """linear: one layer (MiniGPT-4). mlp: two with GELU between them (LLaVA 1.5)."""
    prompt: str = IMAGE_SLOT
    """What stands in front of a caption, with the picture at `{image}`."""

    def __post_init__(self) -> None:
        if self.prompt.count(IMAGE_SLOT) != 1:
            raise ConfigError(
                f"prompt {self.prompt!r} must hold {IMAGE_SLOT} once, where the picture stands"
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
                "deepspeed shards what is trained, which is the projector alone: leave it out"
            )
        if self.optimizer.kind == "muon":
            raise ConfigError(
                "optimizer.kind muon is for matrices inside blocks, and a projector has none: set "
                "it to adamw"
            )
        if self.activation_checkpointing or self.compile:
            raise ConfigError(
                "activation_checkpointing and compile are for blocks that are trained, and a "
                "projector has none: set both to false"
            )
