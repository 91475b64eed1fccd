"""Folders of diffusion models: self-contained, without pickles.

config.yaml, model.safetensors (what was trained), tokenizers/ (of text, and of images where latents
are a VQ-GAN's), autoencoder/ and text_encoder/ (parts of other people, copied), manifest.json
(sha256 of every file), README.md (the card).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from genvlm.config.diffusion import DiffusionConfig
from genvlm.config.schema import dump_config, parse_config, strict
from genvlm.errors import CheckpointError
from genvlm.models.diffusion.build import (
    AUTOENCODER,
    SCHEMA,
    TEXT_ENCODER,
    TOKENIZERS,
    assemble,
    build_denoiser,
    in_folder,
)
from genvlm.models.diffusion.latents import KLLatents, LatentScale, VQLatents, build_latents
from genvlm.models.diffusion.model import Denoiser, DiffusionModel
from genvlm.models.model_folder import (
    CARD,
    CONFIG,
    WEIGHTS,
    check_part,
    check_whole,
    is_of_kind,
    publish_model_folder,
    read_model_config,
)
from genvlm.models.text_encoder import (
    ForeignCoder,
    FrozenTextEncoder,
    PieceCoder,
    Texts,
    build_texts,
)
from genvlm.nn.safetensors_folder import load_into, load_tensors, save_tensors


@strict
@dataclass(frozen=True, kw_only=True)
class DiffusionFolderConfig:
    """`config.yaml` of a folder."""

    kind: Literal["diffusion"] = "diffusion"
    schema_version: int
    model: DiffusionConfig
    condition_dropout: float
    """What it was trained with; without it, p(image) was never learned."""
    latent_mean: tuple[float, ...] | None = None
    """By channel; of a VQ-GAN's latents only."""
    latent_std: tuple[float, ...] | None = None
    latent_space: str
    """Fingerprint."""
    texts: str
    """Fingerprint of the text coder."""
    fingerprint: str
    """Of the model."""


def is_diffusion(folder: Path) -> bool:
    """Whether this is, or was to be, the folder of a diffusion model."""
    return is_of_kind(folder, "diffusion")


def save_diffusion(model: DiffusionModel, config: DiffusionConfig, folder: Path, card: str) -> None:
    """Write a folder, which appears whole or not at all; an earlier one is replaced."""
    publish_model_folder(folder, lambda temporary: _write(model, config, temporary, card))


def _write(model: DiffusionModel, config: DiffusionConfig, folder: Path, card: str) -> None:
    scale = model.latents.scale if isinstance(model.latents, VQLatents) else None
    written = DiffusionFolderConfig(
        schema_version=SCHEMA,
        model=in_folder(config),
        condition_dropout=model.condition_dropout,
        latent_mean=tuple(scale.mean.tolist()) if scale else None,
        latent_std=tuple(scale.std.tolist()) if scale else None,
        latent_space=model.latents.fingerprint,
        texts=model.texts.fingerprint,
        fingerprint=model.fingerprint,
    )
    if isinstance(model.latents, VQLatents):
        model.latents.tokenizer.save(folder / TOKENIZERS)
    if isinstance(model.latents, KLLatents):
        model.latents.save(folder / AUTOENCODER)
    if isinstance(model.texts, PieceCoder):
        (folder / TOKENIZERS).mkdir(exist_ok=True)
        model.texts.tokenizer.save(folder / TOKENIZERS)
    if isinstance(model.texts, ForeignCoder):
        model.texts.save(folder / TEXT_ENCODER)
    save_tensors(trained_state(model.denoiser), folder / WEIGHTS)
    (folder / CONFIG).write_text(dump_config(written))
    (folder / CARD).write_text(card)


def trained_state(denoiser: Denoiser) -> dict[str, Tensor]:
    """The weights without those of a frozen text encoder."""
    frozen = isinstance(denoiser.text_encoder, FrozenTextEncoder)
    state: dict[str, Tensor] = denoiser.state_dict()
    return {n: t for n, t in state.items() if not (frozen and n.startswith("text_encoder."))}


def restore_denoiser(
    config: DiffusionConfig,
    shape: tuple[int, int, int],
    texts: Texts,
    trained: Mapping[str, Tensor],
    source: str,
) -> Denoiser:
    """Network and text encoder with their trained weights; a frozen encoder stays as it was read.

    Raises:
        CheckpointError: the weights are of another configuration; `source` names them.
    """
    denoiser = build_denoiser(config, shape, texts)
    state: dict[str, Tensor] = denoiser.state_dict()
    frozen = {n: t for n, t in state.items() if n not in trained_state(denoiser)}
    load_into(denoiser, {**trained, **frozen}, source)
    return denoiser


def load_diffusion(folder: Path, device: str | torch.device = "cpu") -> DiffusionModel:
    """Read a folder; in eval mode, without gradients.

    Raises:
        CheckpointError: no folder of a diffusion model, a file missing or altered, the scale of the
            latents missing, parts of another model.
    """
    content = read_model_config(folder, "diffusion", SCHEMA)
    written = parse_config(DiffusionFolderConfig, content, str(folder / CONFIG))
    config = in_folder(written.model, f"{folder.resolve()}/")
    scale = None
    if written.latent_mean is not None and written.latent_std is not None:
        scale = LatentScale(torch.tensor(written.latent_mean), torch.tensor(written.latent_std))
    try:
        latents = build_latents(config.latents, scale)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    texts = build_texts(config.text_encoder)
    check_part(folder, "latent space", latents.fingerprint, written.latent_space)
    check_part(folder, "text encoder's tokenizer", texts.coder.fingerprint, written.texts)
    tensors = load_tensors(folder / WEIGHTS)
    denoiser = restore_denoiser(config, latents.shape, texts, tensors, str(folder / WEIGHTS))
    model = assemble(denoiser, config, latents, texts.coder, written.condition_dropout)
    check_whole(folder, model.fingerprint, written.fingerprint)
    return model.to(device)
