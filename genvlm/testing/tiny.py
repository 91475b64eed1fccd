"""Tiny tokenizers, models and training runs with real code inside, built in well under a second.

Everything is a pure function of its arguments; weights are random but seeded.
"""

import json
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from genvlm.config.data import CaptionsSource, DataConfig
from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.syntax import SyntaxConfig
from genvlm.config.training import OptimizerConfig, TokenizersConfig, TrainConfig
from genvlm.config.transformer import TransformerConfig
from genvlm.config.video_tokenizer import VideoVQConfig
from genvlm.data.images import RGBImage, save_image
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import PretrainedModel, build_vocabulary
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.text import SentencePieceTokenizer, train_sentencepiece
from genvlm.tokenization.video import VideoTokenizer, inflate
from genvlm.tokenization.vqgan import VQGAN

COLOURS = {
    "red": (230, 30, 30),
    "green": (30, 200, 60),
    "blue": (40, 60, 230),
    "yellow": (240, 220, 40),
}
SHAPES = ("square", "bar", "corner")


def tiny_image_config(
    *, resolution: int = 16, codebook_size: int = 16, patch_size: int = 2
) -> VQGANConfig:
    """A VQ-GAN with its resolution by twice the patch size, here a quarter, as grid side."""
    return VQGANConfig(
        resolution=resolution,
        patch_size=patch_size,
        channels=32,
        channel_multipliers=(1, 1),
        num_res_blocks=1,
        z_channels=8,
        codebook_size=codebook_size,
        codebook_dim=4,
        l2_normalized=True,
    )


def published_vqgan_config() -> VQGANConfig:
    """The layout of the published f=16 model (vqgan_imagenet_f16_1024), an eighth of its width."""
    return VQGANConfig(
        resolution=32,
        channels=32,
        channel_multipliers=(1, 1, 2, 2, 4),
        num_res_blocks=2,
        attn_resolutions=(2,),
        z_channels=32,
        codebook_size=64,
        codebook_dim=32,
    )


def tiny_image_tokenizer(
    *, resolution: int = 16, codebook_size: int = 16, patch_size: int = 2, seed: int = 0
) -> ImageTokenizer:
    """An untrained image tokenizer; resolution 16 gives 4x4 codes, 8 gives 2x2."""
    config = tiny_image_config(
        resolution=resolution, codebook_size=codebook_size, patch_size=patch_size
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ImageTokenizer(config, VQGAN(config))


def tiny_video_tokenizer(
    *,
    resolution: int = 16,
    codebook_size: int = 16,
    patch_size: int = 2,
    frames_per_latent: int = 4,
    seed: int = 0,
) -> VideoTokenizer:
    """An untrained video tokenizer with the codebook of the tiny image tokenizer of this seed.

    Its temporal layers begin at random, since as the identity they would hide every fault.
    """
    image = tiny_image_tokenizer(
        resolution=resolution, codebook_size=codebook_size, patch_size=patch_size, seed=seed
    )
    config = VideoVQConfig(
        image=image.config,
        frames_per_latent=frames_per_latent,
        encoder_width=8,
        encoder_blocks=1,
        decoder_width=8,
        decoder_blocks=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = inflate(image, config)
        for last in (tokenizer.network.encoder.leave, tokenizer.network.decoder.leave):
            torch.nn.init.normal_(last.weight, std=0.5)
    return tokenizer


@cache
def tiny_text_tokenizer() -> SentencePieceTokenizer:
    """SentencePiece trained on the captions of the tiny corpus, with byte fallback."""
    return train_sentencepiece([caption for caption, _ in tiny_pairs()], vocab_size=288)


def tiny_transformer_config(
    *,
    context_length: int = 64,
    num_kv_heads: int = 2,
    qk_norm: Literal["rms", "layer"] | None = "rms",
    qk_norm_per_head: bool = False,
    norm_order: Literal["pre", "swin"] = "pre",
    tie_head: bool = False,
    initializer_std: float = 0.2,
    rotary_dims: tuple[int, int, int, int] | None = (2, 2, 2, 2),
) -> TransformerConfig:
    """Two layers of width 32; the large initial weights make its predictions differ."""
    return TransformerConfig(
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        num_kv_heads=num_kv_heads,
        head_dim=8,
        intermediate_size=48,
        context_length=context_length,
        qk_norm=qk_norm,
        qk_norm_per_head=qk_norm_per_head,
        norm_order=norm_order,
        tie_head=tie_head,
        initializer_std=initializer_std,
        rotary_dims=rotary_dims,
    )


def tiny_pretrained(
    *,
    resolution: int = 16,
    codebook_size: int = 16,
    patch_size: int = 2,
    context_length: int | None = None,
    initializer_std: float = 0.2,
    condition_dropout: float = 0.1,
    dtype: torch.dtype = torch.float32,
    syntax: SyntaxConfig | None = None,
    video: bool = False,
    own_video_codes: bool = False,
    seed: int = 0,
) -> PretrainedModel:
    """An untrained model with its tokenizers.

    Args:
        context_length: 64 by default, or 256 with videos: 33 frames are 144 codes.
        video: it also has the tiny video tokenizer, r = 4.
        own_video_codes: whose codebook is then not the image tokenizer's.
    """
    text = tiny_text_tokenizer()
    shape = {
        "resolution": resolution, "codebook_size": codebook_size, "patch_size": patch_size,
    }  # fmt: skip
    image = tiny_image_tokenizer(**shape, seed=seed)
    clips = tiny_video_tokenizer(**shape, seed=seed + own_video_codes) if video else None
    config = tiny_transformer_config(
        context_length=context_length or (256 if video else 64), initializer_std=initializer_std
    )
    syntax = syntax or SyntaxConfig()
    vocabulary = build_vocabulary(text, image, syntax, clips)
    model = build_transformer(config, vocabulary.size, seed=seed)
    return PretrainedModel(
        model=model.to(dtype).eval().requires_grad_(False),
        text_tokenizer=text,
        image_tokenizer=image,
        condition_dropout=condition_dropout,
        syntax=syntax,
        video_tokenizer=clips,
    )


def tiny_pairs(size: int = 16) -> list[tuple[str, RGBImage]]:
    """Captions and pictures: every colour in every shape on white."""
    pairs = []
    for name, colour in COLOURS.items():
        for shape in SHAPES:
            image = np.full((size, size, 3), 255, np.uint8)
            rows, columns = {
                "square": (slice(size // 4, -size // 4), slice(size // 4, -size // 4)),
                "bar": (slice(0, size), slice(0, size // 4)),
                "corner": (slice(size // 2, size), slice(size // 2, size)),
            }[shape]
            image[rows, columns] = colour
            pairs.append((f"a {name} {shape} on a white page", image))
    return pairs


def write_tiny_captions(folder: Path) -> Path:
    """A captions folder with the tiny pairs."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (caption, image) in enumerate(tiny_pairs()):
        save_image(image, folder / f"{number}.png")
        lines.append(json.dumps({"id": str(number), "image": f"{number}.png", "text": caption}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def tiny_train_config(
    folder: Path,
    *,
    num_steps: int = 8,
    global_batch_size: int = 4,
    micro_batch_size: int = 4,
    checkpoint_every: int = 4,
    deepspeed: str | None = None,
) -> TrainConfig:
    """A run on the tiny pairs; tokenizers and pictures are written into `folder`."""
    (folder / "text").mkdir(parents=True, exist_ok=True)
    tiny_text_tokenizer().save(folder / "text")
    tiny_image_tokenizer().save(folder / "image")
    captions = write_tiny_captions(folder / "pairs")
    return TrainConfig(
        model=tiny_transformer_config(initializer_std=0.05),
        tokenizers=TokenizersConfig(text=str(folder / "text"), image=str(folder / "image")),
        data=DataConfig(sources=(CaptionsSource(path=str(captions)),)),
        optimizer=OptimizerConfig(learning_rate=3e-3, warmup_steps=2),
        num_steps=num_steps,
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
        deepspeed=deepspeed,
        log_every=1,
        checkpoint_every=checkpoint_every,
    )
