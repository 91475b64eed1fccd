"""Tiny random pipelines of the shapes of Stable Diffusion 1.5 and 2.1, as diffusers writes them."""

import json
from pathlib import Path
from typing import Any, Literal

import torch

SIDE = 16
"""Of a picture; its latent is 8 x 8 of 4 channels."""
CONTEXT = 77
_WIDTH = 16


def write_tiny_stable_diffusion(
    folder: Path, version: Literal["1.5", "2.1"] = "1.5", *, seed: int = 0
) -> Any:
    """Write a pipeline; returns it. 1.5 predicts epsilon, 2.1 v."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    first = version == "1.5"
    tokenizer = tiny_clip_tokenizer(folder / "tokenizer", pad="<|endoftext|>" if first else "!")
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=_WIDTH, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=CONTEXT, projection_dim=_WIDTH,
        hidden_act="quick_gelu" if first else "gelu", bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = diffusers.UNet2DConditionModel(
            sample_size=SIDE // 2, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), norm_num_groups=4,
            cross_attention_dim=_WIDTH, attention_head_dim=2 if first else (2, 4),
            use_linear_projection=not first,
        )  # fmt: skip
        vae = diffusers.AutoencoderKL(
            block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=4,
            sample_size=SIDE, scaling_factor=0.18215,
        )  # fmt: skip
        text_encoder = CLIPTextModel(text)
    betas: dict[str, Any] = {
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    }  # fmt: skip
    if first:
        scheduler = diffusers.PNDMScheduler(**betas, skip_prk_steps=True, steps_offset=1)
    else:
        scheduler = diffusers.DDIMScheduler(
            **betas, prediction_type="v_prediction", clip_sample=False, steps_offset=1
        )
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return pipeline


def tiny_clip_tokenizer(folder: Path, *, pad: str) -> Any:
    """CLIP's tokenizer with letters and one word, read from files as they are published."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    merges = ["r e", "re d</w>"]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "re", "red</w>"]
    controls = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *controls.values()])}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    settings = {
        **controls, "unk_token": "<|endoftext|>", "pad_token": pad, "model_max_length": CONTEXT,
        "tokenizer_class": "CLIPTokenizer", "do_lower_case": True,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
