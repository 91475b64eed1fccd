"""VQ-GAN checkpoints of taming-transformers (Chameleon's too) and of LlamaGen.

Both say nothing of their shape beside the tensors; all but the resolution can be read off them.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.nn.foreign_tensors import read_pickled
from genvlm.nn.safetensors_folder import load_into
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.vqgan import VQGAN

LEFT_OUT = ("loss.", "quantize.codebook_used")
"""LPIPS and discriminator (taming), the usage statistics (LlamaGen): no part of the tokenizer."""


def read_vqgan(path: Path, *, resolution: int) -> tuple[ImageTokenizer, int]:
    """An image tokenizer from a published file, and how many tensors of its training were left out.

    Args:
        resolution: side in pixels that it was trained for; the tensors do not tell.

    Raises:
        CheckpointError: unreadable without running code, or no VQ-GAN.
    """
    return vqgan_from_tensors(read_pickled(path), str(path), resolution=resolution)


def vqgan_from_tensors(
    tensors: Mapping[str, Tensor], source: str, *, resolution: int
) -> tuple[ImageTokenizer, int]:
    """As `read_vqgan`, from the tensors."""
    kept = {name: t.float() for name, t in tensors.items() if not name.startswith(LEFT_OUT)}
    is_llamagen = any(name.startswith("encoder.conv_blocks.") for name in kept)
    if is_llamagen:
        kept = _rename_llamagen(kept)
    try:
        config = infer_config(kept, resolution=resolution, l2_normalized=is_llamagen)
    except (KeyError, IndexError, ValueError, ConfigError) as error:
        raise CheckpointError(f"{source} is no VQ-GAN of a known layout ({error})") from None
    network = VQGAN(config)
    load_into(network, kept, source)
    return ImageTokenizer(config, network), len(tensors) - len(kept)


def write_taming(tokenizer: ImageTokenizer, path: Path) -> None:
    """A `.ckpt` as taming-transformers reads it.

    Raises:
        CheckpointError: what taming's modules cannot express.
    """
    config = tokenizer.config
    odd = {
        "patch_size": config.patch_size != 1,
        "encoder_margin": config.encoder_margin is not None,
        "l2_normalized": config.l2_normalized,
        "decoder": not config.decoder,
    }
    if any(odd.values()):
        raise CheckpointError(
            f"taming-transformers has no {', '.join(k for k, v in odd.items() if v)}: this "
            "tokenizer cannot be written in its layout"
        )
    torch.save({"state_dict": dict(tokenizer.network.state_dict())}, path)


def infer_config(
    tensors: Mapping[str, Tensor], *, resolution: int, l2_normalized: bool
) -> VQGANConfig:
    """The shape that a VQ-GAN's tensors, in taming's names, must have come from."""
    levels = 1 + max(_numbers(tensors, r"encoder\.down\.(\d+)\."))
    channels = tensors["encoder.conv_in.weight"].shape[0]
    widths = [tensors[f"encoder.down.{i}.block.0.conv1.weight"].shape[0] for i in range(levels)]
    with_attention = set(_numbers(tensors, r"encoder\.down\.(\d+)\.attn\."))
    codebook_size, codebook_dim = tensors["quantize.embedding.weight"].shape
    return VQGANConfig(
        resolution=resolution,
        channels=channels,
        channel_multipliers=tuple(w // channels for w in widths),
        num_res_blocks=1 + max(_numbers(tensors, r"encoder\.down\.0\.block\.(\d+)\.")),
        attn_resolutions=tuple(resolution >> i for i in sorted(with_attention)),
        z_channels=tensors["encoder.conv_out.weight"].shape[0],
        codebook_size=codebook_size,
        codebook_dim=codebook_dim,
        l2_normalized=l2_normalized,
        decoder=any(name.startswith("decoder.") for name in tensors),
    )


def _numbers(tensors: Mapping[str, Tensor], pattern: str) -> list[int]:
    return [int(m[1]) for name in tensors if (m := re.match(pattern, name))]


def _rename_llamagen(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """LlamaGen's modules are taming's under other names; its decoder counts levels from the top."""
    last = max(_numbers(tensors, r"decoder\.conv_blocks\.(\d+)\."), default=0)
    middle = {"0": "block_1", "1": "attn_1", "2": "block_2"}

    def level(match: re.Match[str]) -> str:
        side, number, kind = match.groups()
        part = {"res": "block", "attn": "attn"}.get(kind, kind)
        if side == "encoder":
            return f"encoder.down.{number}.{part}"
        return f"decoder.up.{last - int(number)}.{part}"

    renamed = {}
    for name, tensor in tensors.items():
        new = re.sub(r"^(encoder|decoder)\.conv_blocks\.(\d+)\.(\w+)", level, name)
        new = re.sub(r"\.mid\.(\d)\.", lambda m: f".mid.{middle[m[1]]}.", new)
        renamed[new] = tensor
    return renamed
