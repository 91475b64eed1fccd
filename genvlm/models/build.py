"""Builds every model family from its configuration; the only module that knows them all."""

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
    codebook: Float[Tensor, "codes dim"] | None = None,
) -> MixedModalTransformer:
    """A mixed-modal transformer; with `seed`, freshly initialised from it.

    Args:
        codebook: what the first ids of the vocabulary stand for; the model then begins with like
            codes alike.
    """
    model = MixedModalTransformer(config, vocab_size)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        model.init_weights(generator)
        if codebook is not None:
            model.init_codes(codebook, generator)
    return model
