"""Configuration of a SentencePiece text tokenizer."""

from dataclasses import dataclass
from typing import Literal

from genvlm.config.schema import Count, Positive, Seed, strict


@strict
@dataclass(frozen=True, kw_only=True)
class TextTokenizerConfig:
    """Trained on emoji captions of the training families and on scene and story sentences."""

    kind: Literal["sentencepiece"] = "sentencepiece"
    vocab_size: Positive = 2048
    """Pieces, 256 of them for single bytes."""
    num_scenes: Count = 4000
    num_stories: Count = 500
    seed: Seed = 0
