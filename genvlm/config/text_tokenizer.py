"""Configuration of a SentencePiece text tokenizer."""

from dataclasses import dataclass
from typing import Literal

from genvlm.config.schema import Seed, strict


@strict
@dataclass(frozen=True, kw_only=True)
class TextTokenizerConfig:
    """Trained on emoji captions of the training families and on scene and story sentences."""

    kind: Literal["sentencepiece"] = "sentencepiece"
    vocab_size: int = 2048
    """Pieces, 256 of them for single bytes."""
    num_scenes: int = 4000
    num_stories: int = 500
    seed: Seed = 0
