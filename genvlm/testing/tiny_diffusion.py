"""Tiny diffusion models of a few thousand parameters, and tiny foreign parts as folders."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from genvlm.config.data import CaptionsSource
from genvlm.config.diffusion import (
    DiffusionConfig,
    DiffusionTrainConfig,
    DiTConfig,
    PairDataConfig,
    PixelSpaceConfig,
    Prediction,
    ScheduleConfig,
    ScheduleKind,
    UNetConfig,
    VQLatentsConfig,
)
from genvlm.config.text_encoder import SmallTextEncoderConfig
from genvlm.config.training import OptimizerConfig
from genvlm.models.diffusion.build import assemble, build_denoiser
from genvlm.models.diffusion.latents import PixelSpace, VQLatents, measure_scale, raw_latents
from genvlm.models.diffusion.model import DiffusionModel, LatentSpace
from genvlm.models.text_encoder import small_texts
from genvlm.testing.foreign_models import tiny_tokenizer
from genvlm.testing.tiny import (
    tiny_image_tokenizer,
    tiny_pairs,
    tiny_text_tokenizer,
    write_tiny_captions,
)

_SIDE = 8
# How far weights are moved from their beginning, at which nothing would be predicted yet.
_STD = 0.2

NetworkKind = Literal["dit", "unet"]
LatentKind = Literal["pixels", "vqgan"]


def tiny_diffusion_config(
    kind: NetworkKind = "dit",
    latent: LatentKind = "pixels",
    prediction: Prediction = "v_prediction",
    *,
    schedule: ScheduleKind | None = None,
    num_levels: int = 1000,
    max_tokens: int = 24,
) -> DiffusionConfig:
    """Width 16; the schedule is flow for flow prediction and cosine for others."""
    network = (
        DiTConfig(hidden_size=16, num_layers=1, num_heads=2, patch_size=2)
        if kind == "dit"
        else UNetConfig(
            block_out_channels=(8, 16),
            attention=(False, True),
            layers_per_block=1,
            head_dim=8,
            norm_num_groups=4,
        )
    )
    return DiffusionConfig(
        network=network,
        text_encoder=SmallTextEncoderConfig(
            hidden_size=16, num_layers=1, num_heads=2, max_tokens=max_tokens
        ),
        latents=PixelSpaceConfig(side=_SIDE) if latent == "pixels" else VQLatentsConfig(),
        schedule=ScheduleConfig(
            kind=schedule or ("flow" if prediction == "flow" else "cosine"), num_levels=num_levels
        ),
        prediction=prediction,
    )


def tiny_diffusion(
    kind: NetworkKind = "dit",
    latent: LatentKind = "pixels",
    prediction: Prediction = "v_prediction",
    *,
    schedule: ScheduleKind | None = None,
    num_levels: int = 1000,
    max_tokens: int = 24,
    condition_dropout: float = 0.1,
    seed: int = 0,
) -> DiffusionModel:
    """An untrained model whose predictions differ by picture, level and text.

    Pixels are 8 x 8 of 3 channels, latents of a VQ-GAN 4 x 4 of 4.
    """
    config = tiny_diffusion_config(
        kind, latent, prediction,
        schedule=schedule, num_levels=num_levels, max_tokens=max_tokens,
    )  # fmt: skip
    space: LatentSpace = PixelSpace(_SIDE)
    if latent == "vqgan":
        tokenizer = tiny_image_tokenizer()
        pictures = [picture for _, picture in tiny_pairs()]
        space = VQLatents(tokenizer, measure_scale(raw_latents(tokenizer, pictures)))
    assert isinstance(config.text_encoder, SmallTextEncoderConfig)
    texts = small_texts(config.text_encoder, tiny_text_tokenizer(), seed=seed)
    denoiser = build_denoiser(config, space.shape, texts, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=_STD)
    return assemble(denoiser, config, space, texts.coder, condition_dropout)


def tiny_diffusion_train_config(
    folder: Path,
    kind: NetworkKind = "dit",
    prediction: Prediction = "v_prediction",
    *,
    num_steps: int = 8,
    global_batch_size: int = 4,
    micro_batch_size: int = 4,
    deepspeed: str | None = None,
) -> DiffusionTrainConfig:
    """A run on the tiny pairs; tokenizer and pictures are written into `folder`."""
    (folder / "text").mkdir(parents=True, exist_ok=True)
    tiny_text_tokenizer().save(folder / "text")
    model = tiny_diffusion_config(kind, "pixels", prediction, max_tokens=32)
    assert isinstance(model.text_encoder, SmallTextEncoderConfig)
    encoder = replace(model.text_encoder, tokenizer=str(folder / "text"))
    captions = CaptionsSource(path=str(write_tiny_captions(folder / "pairs")))
    return DiffusionTrainConfig(
        model=replace(model, text_encoder=encoder),
        data=PairDataConfig(sources=(captions,)),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        ema_decay=0.9,
        num_steps=num_steps,
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        deepspeed=deepspeed,
        log_every=1,
        checkpoint_every=4,
    )


def write_tiny_text_encoder(folder: Path, kind: Literal["clip", "t5"] = "clip") -> Path:
    """A random CLIPTextModel or T5EncoderModel of width 16 with a tokenizer of whole words."""
    import transformers

    tokenizer = tiny_tokenizer(bos=kind == "clip", eos=True)
    shape = {"vocab_size": len(tokenizer), "num_layers": 1, "num_heads": 2}
    ids = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "clip":
            model = transformers.CLIPTextModel(
                transformers.CLIPTextConfig(
                    vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32,
                    num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=16, **ids,
                )
            )  # fmt: skip
        else:
            model = transformers.T5EncoderModel(
                transformers.T5Config(d_model=16, d_kv=8, d_ff=32, **shape, **ids)
            )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_tiny_autoencoder(folder: Path) -> Path:
    """A random AutoencoderKL: a quarter of the side, 4 channels, scaling_factor 0.5."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        autoencoder = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8), norm_num_groups=4, sample_size=16, scaling_factor=0.5,
            mid_block_add_attention=False,
        )  # fmt: skip
    autoencoder.save_pretrained(folder)
    return folder
