"""Tiny contrastive models of a few thousand parameters."""

from dataclasses import replace
from pathlib import Path

import torch

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.contrastive import ContrastiveConfig, ContrastiveTrainConfig
from genvlm.config.data import CaptionsSource
from genvlm.config.image_encoder import SmallImageEncoderConfig
from genvlm.config.text_encoder import SmallTextEncoderConfig
from genvlm.config.training import OptimizerConfig
from genvlm.models.auxiliary.contrastive import ContrastiveModel, DualEncoder, Loss
from genvlm.models.auxiliary.contrastive_folder import assemble_contrastive
from genvlm.models.image_encoder import build_image_encoder
from genvlm.models.text_encoder import small_texts
from genvlm.testing.tiny import tiny_text_tokenizer, write_tiny_captions

_STD = 0.2


def tiny_contrastive_config(loss: Loss = "infonce") -> ContrastiveConfig:
    """Width 16; pictures of 16x16 pixels in 16 patches."""
    return ContrastiveConfig(
        image_encoder=SmallImageEncoderConfig(
            side=16, patch_size=4, hidden_size=16, num_layers=1, num_heads=2
        ),
        text_encoder=SmallTextEncoderConfig(
            hidden_size=16, num_layers=1, num_heads=2, max_tokens=24
        ),
        embedding_dim=8,
        loss=loss,
    )


def tiny_contrastive(loss: Loss = "infonce", *, seed: int = 0) -> ContrastiveModel:
    """An untrained model whose embeddings differ by picture and by text."""
    config = tiny_contrastive_config(loss)
    assert isinstance(config.text_encoder, SmallTextEncoderConfig)
    images = build_image_encoder(config.image_encoder, seed=seed)
    texts = small_texts(config.text_encoder, tiny_text_tokenizer(), seed=seed)
    network = DualEncoder(images, texts, config.embedding_dim, loss)
    network.init_projections(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=_STD)
    return assemble_contrastive(network, config, texts, images.side)


def tiny_contrastive_train_config(
    folder: Path,
    loss: Loss = "infonce",
    *,
    num_steps: int = 8,
    global_batch_size: int = 4,
    checkpoint_every: int = 100,
) -> ContrastiveTrainConfig:
    """A run on the tiny pairs; tokenizer and pictures are written into `folder`."""
    (folder / "text").mkdir(parents=True, exist_ok=True)
    tiny_text_tokenizer().save(folder / "text")
    model = tiny_contrastive_config(loss)
    assert isinstance(model.text_encoder, SmallTextEncoderConfig)
    encoder = replace(model.text_encoder, tokenizer=str(folder / "text"))
    captions = CaptionsSource(path=str(write_tiny_captions(folder / "pairs")))
    return ContrastiveTrainConfig(
        model=replace(model, text_encoder=encoder),
        data=CaptionedDataConfig(sources=(captions,)),
        optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
        num_steps=num_steps,
        global_batch_size=global_batch_size,
        micro_batch_size=global_batch_size,
        log_every=1,
        checkpoint_every=checkpoint_every,
    )
