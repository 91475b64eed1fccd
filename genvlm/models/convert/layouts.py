"""Which layout a checkpoint has, and the way from each to each."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from genvlm.errors import CheckpointError
from genvlm.models.convert.chameleon import (
    ChameleonCheckpoint,
    load_from_model_folder,
    save_as_model_folder,
)
from genvlm.models.convert.huggingface import is_huggingface, read_huggingface, write_huggingface
from genvlm.models.convert.meta import meta_folder, read_meta, write_meta
from genvlm.models.convert.vqgan import read_vqgan, write_taming
from genvlm.models.pretrained import is_finished
from genvlm.tokenization.image import CONFIG_FILE, ImageTokenizer, load_image_tokenizer

Layout = Literal["genvlm", "hf-chameleon", "meta-chameleon", "taming"]


def convert(
    source: Path,
    target: Path,
    layout: Layout,
    *,
    resolution: int = 256,
    vqgan: Path | None = None,
) -> str:
    """Write `source` as `target` in another layout; returns one sentence about what was done.

    Args:
        resolution: of a VQ-GAN file, which does not tell.
        vqgan: `vqgan.ckpt` with the decoder that Hugging Face's folder lacks.

    Raises:
        CheckpointError: unknown layout, a way that there is not, or what does not fit; `target` is
            there already.
    """
    if target.exists():
        raise CheckpointError(f"{target} is there already: name a new path")
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        tokenizer, left_out = read_vqgan(source, resolution=resolution)
        return _write_tokenizer(tokenizer, target, layout, source, left_out)
    if (source / CONFIG_FILE).is_file():
        return _write_tokenizer(load_image_tokenizer(source), target, layout, source, 0)
    checkpoint = _read_chameleon(source)
    if vqgan is not None:
        checkpoint = _with_decoder(checkpoint, vqgan)
    match layout:
        case "genvlm":
            save_as_model_folder(checkpoint, target, _card(checkpoint, source))
        case "hf-chameleon":
            write_huggingface(checkpoint, target)
        case "meta-chameleon":
            write_meta(checkpoint, target)
        case "taming":
            write_taming(checkpoint.image_tokenizer, target)
    return f"{source}: {len(checkpoint.tensors)} tensors of a transformer written to {target}"


def _read_chameleon(source: Path) -> ChameleonCheckpoint:
    if is_finished(source):
        return load_from_model_folder(source)
    if is_huggingface(source):
        return read_huggingface(source)
    if (model := meta_folder(source)) is not None:
        return read_meta(model)
    raise CheckpointError(
        f"{source} is of no known layout: a model folder or image tokenizer of genvlm, a folder "
        "with config.json of Hugging Face's Chameleon, one with params.json of Meta's, or a .ckpt, "
        ".pt or .pth file of a VQ-GAN"
    )


def _write_tokenizer(
    tokenizer: ImageTokenizer, target: Path, layout: Layout, source: Path, left_out: int
) -> str:
    match layout:
        case "genvlm":
            tokenizer.save(target)
        case "taming":
            write_taming(tokenizer, target)
        case _:
            raise CheckpointError(
                f"{source} is an image tokenizer alone: write it as genvlm or taming"
            )
    note = f"; {left_out} tensors of its training were left out" if left_out else ""
    return f"{source}: image tokenizer written to {target}{note}"


def _with_decoder(checkpoint: ChameleonCheckpoint, path: Path) -> ChameleonCheckpoint:
    own = checkpoint.image_tokenizer
    tokenizer, _ = read_vqgan(path, resolution=own.config.resolution)
    codebooks = [t.network.quantize.embedding.weight for t in (own, tokenizer)]
    if codebooks[0].shape != codebooks[1].shape or not torch.equal(*codebooks):
        raise CheckpointError(
            f"{path} has another codebook than the model: take its own vqgan.ckpt"
        )
    return replace(checkpoint, image_tokenizer=tokenizer)


def _card(checkpoint: ChameleonCheckpoint, source: Path) -> str:
    num = sum(t.numel() for t in checkpoint.tensors.values())
    return f"""# Chameleon, converted from {source.name}

{num:,} parameters of the transformer. The licence is that of the release it came from. Whether
conditions were dropped in training is not known: guidance and p(image) alone are not offered.
`genvlm convert` writes it back bit for bit.
"""
