"""Tiny models of other paradigms, of a few thousand parameters."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.coca import CaptionDecoderConfig, CoCaConfig, CoCaTrainConfig
from genvlm.config.contrastive import (
    ContrastiveConfig,
    ContrastiveTrainConfig,
    MixtureTokensConfig,
)
from genvlm.config.data import CaptionsSource
from genvlm.config.image_encoder import SmallImageEncoderConfig
from genvlm.config.masked import MaskedConfig, MaskedTrainConfig
from genvlm.config.text_encoder import SmallTextEncoderConfig
from genvlm.config.training import OptimizerConfig
from genvlm.models.auxiliary.coca import COCA, CoCa, CoCaModel
from genvlm.models.auxiliary.contrastive import (
    CONTRASTIVE,
    ContrastiveModel,
    DualEncoder,
    Loss,
)
from genvlm.models.auxiliary.folder import Built
from genvlm.models.auxiliary.llip import LLIP, Llip, LlipModel
from genvlm.models.auxiliary.masked import MASKED, MaskedEncoders, MaskedModel
from genvlm.models.image_encoder import build_image_encoder
from genvlm.models.text_encoder import PieceCoder, small_texts
from genvlm.testing.tiny import (
    tiny_image_tokenizer,
    tiny_text_tokenizer,
    write_tiny_captions,
)

_STD = 0.2


_IMAGES = SmallImageEncoderConfig(side=16, patch_size=4, hidden_size=16, num_layers=1, num_heads=2)


def tiny_contrastive_config(loss: Loss = "infonce") -> ContrastiveConfig:
    """Width 16; pictures of 16x16 pixels in 16 patches."""
    return ContrastiveConfig(
        image_encoder=_IMAGES,
        text_encoder=SmallTextEncoderConfig(
            hidden_size=16, num_layers=1, num_heads=2, max_tokens=24
        ),
        embedding_dim=8,
        loss=loss,
    )


def tiny_contrastive(loss: Loss = "infonce", *, seed: int = 0) -> ContrastiveModel:
    """An untrained model whose embeddings differ by picture and by text."""
    return ContrastiveModel.of(
        CONTRASTIVE, tiny_contrastive_config(loss), tiny_dual_encoder(loss, seed=seed)
    )


def tiny_dual_encoder(loss: Loss = "infonce", *, seed: int = 0) -> Built[DualEncoder]:
    """Its network, in eval mode."""
    config = tiny_contrastive_config(loss)
    assert isinstance(config.text_encoder, SmallTextEncoderConfig)
    images = build_image_encoder(config.image_encoder, seed=seed)
    texts = small_texts(config.text_encoder, tiny_text_tokenizer(), seed=seed)
    network = DualEncoder(images, texts, config.embedding_dim, loss)
    network.init_projections(seed)
    _shake(network, seed)
    return Built(network, texts.coder, images.side)


def tiny_llip_config(loss: Loss = "sigmoid", *, num_tokens: int = 3) -> ContrastiveConfig:
    """As `tiny_contrastive_config`, with mixture tokens read by 2 heads."""
    tokens = MixtureTokensConfig(num_tokens=num_tokens, num_heads=2)
    return replace(tiny_contrastive_config(loss), mixture_tokens=tokens)


def tiny_llip(loss: Loss = "sigmoid", *, num_tokens: int = 3, seed: int = 0) -> LlipModel:
    """An untrained model whose cosines differ by picture and by text."""
    config = tiny_llip_config(loss, num_tokens=num_tokens)
    return LlipModel.of(LLIP, config, tiny_llip_network(config, seed=seed))


def tiny_llip_network(config: ContrastiveConfig, *, seed: int = 0) -> Built[Llip]:
    """Its network, in eval mode."""
    assert isinstance(config.text_encoder, SmallTextEncoderConfig)
    images = build_image_encoder(config.image_encoder, seed=seed)
    texts = small_texts(config.text_encoder, tiny_text_tokenizer(), seed=seed)
    network = Llip(images, texts, config)
    network.init_weights(seed)
    _shake(network, seed)
    return Built(network, texts.coder, images.side)


def _shake(network: nn.Module, seed: int) -> None:
    """Move weights away from their beginning, at which inputs hardly differ; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=_STD)
    network.eval().requires_grad_(False)


def tiny_coca_config() -> CoCaConfig:
    """Width 16; pictures of 16x16 pixels, read by 3 queries."""
    return CoCaConfig(
        image_encoder=_IMAGES,
        decoder=CaptionDecoderConfig(
            hidden_size=16, num_unimodal_layers=1, num_multimodal_layers=1, num_heads=2,
            max_tokens=24,
        ),
        num_queries=3,
        embedding_dim=8,
    )  # fmt: skip


def tiny_coca(*, seed: int = 0) -> CoCaModel:
    """An untrained model whose log-probabilities differ by picture and by text."""
    return CoCaModel.of(COCA, tiny_coca_config(), tiny_captioner(seed=seed))


def tiny_captioner(*, seed: int = 0) -> Built[CoCa]:
    """Its network, in eval mode."""
    config = tiny_coca_config()
    images = build_image_encoder(config.image_encoder, seed=seed)
    coder = PieceCoder(tiny_text_tokenizer(), config.decoder.max_tokens)
    network = CoCa(config, images, coder.tokenizer.size + 1)
    network.init_weights(seed)
    _shake(network, seed)
    return Built(network, coder, images.side)


def tiny_coca_train_config(folder: Path, *, num_steps: int = 8) -> CoCaTrainConfig:
    """A run on the tiny pairs; tokenizer and pictures are written into `folder`."""
    model, of_pairs = tiny_coca_config(), tiny_contrastive_train_config(folder, num_steps=num_steps)
    decoder = replace(model.decoder, tokenizer=str(folder / "text"))
    return CoCaTrainConfig(
        model=replace(model, decoder=decoder),
        data=of_pairs.data,
        optimizer=of_pairs.optimizer,
        num_steps=num_steps,
        global_batch_size=8,
        micro_batch_size=8,
        log_every=1,
    )


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


def tiny_masked_config() -> MaskedConfig:
    """Width 16; 16 patches, which are the cells of `tiny_image_tokenizer`."""
    return MaskedConfig(
        image_encoder=_IMAGES,
        text_encoder=SmallTextEncoderConfig(
            hidden_size=16, num_layers=1, num_heads=2, max_tokens=24
        ),
        codebook_size=16,
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        embedding_dim=8,
    )


def tiny_masked(*, seed: int = 0) -> MaskedModel:
    """An untrained model whose scores differ by picture and by text."""
    return MaskedModel.of(MASKED, tiny_masked_config(), tiny_masked_encoders(seed=seed))


def tiny_masked_encoders(*, seed: int = 0) -> Built[MaskedEncoders]:
    """Its network, in eval mode."""
    config = tiny_masked_config()
    coder = PieceCoder(tiny_text_tokenizer(), config.text_encoder.max_tokens)
    network = MaskedEncoders(config, coder.tokenizer.size + 1)
    network.init_weights(seed)
    _shake(network, seed)
    return Built(network, coder, config.image_encoder.side)


def tiny_masked_train_config(folder: Path, *, num_steps: int = 8) -> MaskedTrainConfig:
    """A run on the tiny pairs; tokenizers and pictures are written into `folder`."""
    model, of_pairs = tiny_masked_config(), tiny_contrastive_train_config(folder)
    tiny_image_tokenizer().save(folder / "image")
    encoder = replace(model.text_encoder, tokenizer=str(folder / "text"))
    return MaskedTrainConfig(
        model=replace(model, text_encoder=encoder, image_tokenizer=str(folder / "image")),
        data=of_pairs.data,
        optimizer=of_pairs.optimizer,
        num_steps=num_steps,
        global_batch_size=8,
        micro_batch_size=8,
        log_every=1,
    )
