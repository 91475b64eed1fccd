"""Builds every model family from its configuration; the only module that knows them all."""

import torch

from genvlm.config.transformer import TransformerConfig
from genvlm.models.mixed_modal.transformer import MixedModalTransformer


def build_transformer(
    config: TransformerConfig, vocab_size: int, *, seed: int | None = None
) -> MixedModalTransformer:
    """A mixed-modal transformer; with `seed`, freshly initialised from it."""
    model = MixedModalTransformer(config, vocab_size)
    if seed is not None:
        model.init_weights(torch.Generator().manual_seed(seed))
    return model
