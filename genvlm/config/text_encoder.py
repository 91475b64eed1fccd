"""Configuration of what reads texts: a small encoder of our own, or a frozen one."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from genvlm.config.schema import Positive, strict
from genvlm.errors import ConfigError


def check_heads(hidden_size: int, num_heads: int) -> None:
    """Raises ConfigError: heads are no whole, even part of the width."""
    if hidden_size % (2 * num_heads):
        raise ConfigError(
            f"hidden_size {hidden_size} is not a multiple of twice num_heads {num_heads}: rotary "
            "positions turn pairs"
        )


@strict
@dataclass(frozen=True, kw_only=True)
class SmallTextEncoderConfig:
    """A bidirectional transformer over pieces of our text tokenizer, trained with the network."""

    kind: Literal["small"] = "small"
    tokenizer: str = "tokenizers/text-emoji"
    """Folder of a text tokenizer, or the name of a shipped one."""
    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    max_tokens: Positive = 32
    """Most tokens of a text, the one that every text begins with included."""

    def __post_init__(self) -> None:
        check_heads(self.hidden_size, self.num_heads)


@strict
@dataclass(frozen=True, kw_only=True)
class FrozenTextEncoderConfig:
    """A text encoder of transformers with its tokenizer, as it is: CLIP's, T5's and the like."""

    kind: Literal["transformers"] = "transformers"
    path: str
    """A local folder."""
    max_tokens: Positive
    """Most tokens of a text, those that its tokenizer adds included."""


TextEncoderConfig = Annotated[
    SmallTextEncoderConfig | FrozenTextEncoderConfig, Field(discriminator="kind")
]
