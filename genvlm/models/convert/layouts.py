"""Which layout a checkpoint has, and the way from each to each."""

import os
import shutil
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
from genvlm.models.model_folder import is_finished
from genvlm.nn.whole_files import publish_folder
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
    if not source.exists():
        raise CheckpointError(f"no file or folder at {source}: check the path")
    if layout == "genvlm" and is_finished(source):
        raise CheckpointError(f"{source} is a model folder already: copy it")
    try:
        read = _read(source, resolution, vqgan)
    except (KeyError, TypeError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        # Each number of a foreign file may contradict its tensors; ours would have been checked.
        first = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
        raise CheckpointError(f"{source} contradicts itself ({first}): copy it again") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        said = _write(read, source, staged, layout)
        if staged.is_dir():
            publish_folder(staged, target)
        else:
            staged.replace(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if staged.is_file():
            staged.unlink()
    return f"{source}: {said} written to {target}"


Read = ChameleonCheckpoint | tuple[ImageTokenizer, int]
"""A Chameleon, or an image tokenizer and how many tensors of its training were left out."""


def _read(source: Path, resolution: int, vqgan: Path | None) -> Read:
    is_tokenizer = source.is_file() or (source / CONFIG_FILE).is_file()
    if is_tokenizer and vqgan is not None:
        raise CheckpointError(f"{source} is an image tokenizer itself: leave --vqgan out")
    if source.is_file():
        return read_vqgan(source, resolution=resolution)
    if is_tokenizer:
        return load_image_tokenizer(source), 0
    checkpoint = _read_chameleon(source)
    return checkpoint if vqgan is None else _with_decoder(checkpoint, vqgan)


def _write(read: Read, source: Path, target: Path, layout: Layout) -> str:
    if isinstance(read, tuple):
        tokenizer, left_out = read
        _write_tokenizer(tokenizer, target, layout, source)
        note = f" ({left_out} tensors of its training were left out)" if left_out else ""
        return f"image tokenizer{note}"
    match layout:
        case "genvlm":
            save_as_model_folder(read, target, _card(read, source))
        case "hf-chameleon":
            write_huggingface(read, target)
        case "meta-chameleon":
            write_meta(read, target)
        case "taming":
            write_taming(read.image_tokenizer, target)
    return f"{len(read.tensors)} tensors of a transformer"


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


def _write_tokenizer(tokenizer: ImageTokenizer, target: Path, layout: Layout, source: Path) -> None:
    match layout:
        case "genvlm":
            tokenizer.save(target)
        case "taming":
            write_taming(tokenizer, target)
        case _:
            raise CheckpointError(
                f"{source} is an image tokenizer alone: write it as genvlm or taming"
            )


def _with_decoder(checkpoint: ChameleonCheckpoint, path: Path) -> ChameleonCheckpoint:
    own = checkpoint.image_tokenizer
    tokenizer, _ = read_vqgan(path, resolution=own.config.resolution)
    theirs = tokenizer.network.state_dict()
    # Hugging Face may have rounded what it kept.
    dtypes = {n.removeprefix("model.vqmodel."): t.dtype for n, t in checkpoint.extra.items()}
    for name, tensor in own.network.state_dict().items():
        other = theirs.get(name)
        dtype = dtypes.get(name, torch.float32)
        if other is None or not torch.equal(tensor, other.to(dtype).float()):
            raise CheckpointError(
                f"{path} has another {name} than the model: take the vqgan.ckpt of its own release"
            )
    return replace(checkpoint, image_tokenizer=tokenizer)


def _card(checkpoint: ChameleonCheckpoint, source: Path) -> str:
    num = sum(t.numel() for t in checkpoint.tensors.values())
    return f"""# Chameleon, converted from {source.name}

{num:,} parameters of the transformer. The licence is that of the release it came from. Whether
conditions were dropped in training is not known: guidance and p(image) alone are not offered.
`genvlm convert` writes the transformer back bit for bit.
"""
