"""What documents of a model may hold beyond text and images of one size."""

from dataclasses import dataclass

from genvlm.config.schema import Count, strict


@strict
@dataclass(frozen=True, kw_only=True)
class SyntaxConfig:
    """Decides about ids of the vocabulary, so that a trained model keeps it for good."""

    num_gaps: Count = 0
    """Most spans of a document that are filled in behind it (CM3); 0: no infilling, also not of
    runs of codes."""
    max_side: Count = 0
    """Most rows and columns of codes of an image that tells its own size (layout `sized`); 0:
    every image has the tokenizer's square grid (layout `fixed`)."""
