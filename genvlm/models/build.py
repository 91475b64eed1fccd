"""Builds every model family from its configuration; the only module that knows them all."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from genvlm.config.transformer import TransformerConfig
from genvlm.models.mixed_modal.transformer import MixedModalTransformer


def build_transformer(
    config: TransformerConfig,
    vocab_size: int,
    *,
    seed: int | None = None,
    codebooks: Sequence[Float[Tensor, "codes dim"]] = (),
) -> MixedModalTransformer:
    """A mixed-modal transformer; with `seed`, freshly initialised from it.

    Args:
        codebooks: what the first ids of the vocabulary stand for, of images and of videos that have
            their own; the model then begins with like codes alike.
    """
    model = MixedModalTransformer(config, vocab_size)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        model.init_weights(generator)
        start = 0
        for codebook in codebooks:
            model.init_codes(codebook, generator, start=start)
            start += len(codebook)
    return model
