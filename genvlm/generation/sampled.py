"""A sampled document: token ids, and the segments that they stand for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from genvlm.models.pretrained import PretrainedModel
from genvlm.tokenization.document import Image, Segment, Video, decode_document
from genvlm.tokenization.infilling import unrotate


@dataclass(frozen=True, eq=False)
class SampledDocument:
    """A document that was continued from its prompt, or whose gaps were filled."""

    token_ids: Int[np.ndarray, " tokens"]
    segments: Sequence[Segment]
    num_prompt_tokens: int
    ended: bool
    """Whether its EOS was drawn: False where the token limit, or its first visual, ended it."""

    @property
    def images(self) -> list[Int[np.ndarray, "rows columns"]]:
        """Codes of all its images."""
        return [s.codes for s in self.segments if isinstance(s, Image)]

    @property
    def videos(self) -> list[Int[np.ndarray, "latents rows columns"]]:
        """Codes of all its videos."""
        return [s.codes for s in self.segments if isinstance(s, Video)]


def sampled_document(
    pretrained: PretrainedModel, sequence: Sequence[int], num_prompt_tokens: int
) -> SampledDocument:
    """Token ids as a document, gaps filled in."""
    v, token_ids = pretrained.vocabulary, np.asarray(sequence)
    whole = unrotate(token_ids, v)
    segments = decode_document(whole, v, pretrained.text_tokenizer, grid=pretrained.grammar.grid)
    return SampledDocument(
        token_ids, segments, num_prompt_tokens, ended=bool(token_ids[-1] == v.eos)
    )
