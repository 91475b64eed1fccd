"""Folders of contrastive models: self-contained, without pickles.

config.yaml, model.safetensors (what was trained), tokenizers/ or text_encoder/ (a frozen one,
copied), image_encoder/ (the same), manifest.json (sha256 of every file), README.md (the card).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from genvlm.config.assets import resolve_path
from genvlm.config.contrastive import ContrastiveConfig
from genvlm.config.image_encoder import FrozenImageEncoderConfig
from genvlm.config.schema import dump_config, parse_config, read_yaml, strict, to_plain
from genvlm.config.text_encoder import FrozenTextEncoderConfig, SmallTextEncoderConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.auxiliary.contrastive import ContrastiveModel, DualEncoder
from genvlm.models.foreign import copy_part
from genvlm.models.image_encoder import build_image_encoder
from genvlm.models.model_folder import (
    CARD,
    CONFIG,
    WEIGHTS,
    publish_model_folder,
    verify_folder,
)
from genvlm.models.text_encoder import ForeignCoder, PieceCoder, Texts, build_texts
from genvlm.nn.safetensors_folder import (
    fingerprint_of,
    fingerprint_tensors,
    load_into,
    load_tensors,
    save_tensors,
)

SCHEMA = 1
TOKENIZERS, TEXT_ENCODER, IMAGE_ENCODER = "tokenizers", "text_encoder", "image_encoder"


@strict
@dataclass(frozen=True, kw_only=True)
class ContrastiveFolderConfig:
    """`config.yaml` of a folder."""

    kind: Literal["contrastive"] = "contrastive"
    schema_version: int
    model: ContrastiveConfig
    texts: str
    """Fingerprint of the text coder."""
    fingerprint: str
    """Of the model."""


def is_contrastive(folder: Path) -> bool:
    """Whether this is, or was to be, the folder of a contrastive model of ours."""
    try:
        return read_yaml(folder / CONFIG).get("kind") == "contrastive"
    except ConfigError:
        return False


def build_dual_encoder(
    config: ContrastiveConfig, *, seed: int = 0
) -> tuple[DualEncoder, Texts, int]:
    """The network, freshly initialised, its texts and the side of its pictures.

    Raises:
        CheckpointError: a folder of a frozen encoder is missing or incomplete.
        ConfigError: it holds something else.
    """
    images = build_image_encoder(config.image_encoder, seed=seed)
    texts = build_texts(config.text_encoder, seed=seed)
    network = DualEncoder(images, texts, config.embedding_dim, config.loss)
    network.init_projections(seed)
    return network, texts, images.side


def assemble_contrastive(
    network: DualEncoder, config: ContrastiveConfig, texts: Texts, side: int
) -> ContrastiveModel:
    """The model of these weights, in eval mode and without gradients."""
    network.eval().requires_grad_(False)
    payload = {
        "schema": SCHEMA,
        "weights": fingerprint_tensors(network.state_dict()),
        "config": to_plain(_in_folder(config)),
        "texts": texts.coder.fingerprint,
    }
    return ContrastiveModel(
        network=network, texts=texts.coder, side=side, fingerprint=fingerprint_of(payload)
    )


def trained_state(network: DualEncoder, config: ContrastiveConfig) -> dict[str, Tensor]:
    """The weights without those of frozen encoders."""
    frozen = _frozen_prefixes(config)
    state: dict[str, Tensor] = network.state_dict()
    return {name: t for name, t in state.items() if not name.startswith(frozen)}


def restore_contrastive(
    config: ContrastiveConfig, trained: Mapping[str, Tensor], source: str
) -> ContrastiveModel:
    """The model of trained weights; frozen encoders stay as they are read.

    Raises:
        CheckpointError: the weights are of another configuration; `source` names them.
    """
    network, texts, side = build_dual_encoder(config)
    state: dict[str, Tensor] = network.state_dict()
    frozen = {n: t for n, t in state.items() if n.startswith(_frozen_prefixes(config))}
    load_into(network, {**trained, **frozen}, source)
    return assemble_contrastive(network, config, texts, side)


def save_contrastive(
    model: ContrastiveModel, config: ContrastiveConfig, folder: Path, card: str
) -> None:
    """Write a folder, which appears whole or not at all; an earlier one is replaced."""
    publish_model_folder(folder, lambda temporary: _write(model, config, temporary, card))


def _write(model: ContrastiveModel, config: ContrastiveConfig, folder: Path, card: str) -> None:
    written = ContrastiveFolderConfig(
        schema_version=SCHEMA,
        model=_in_folder(config),
        texts=model.texts.fingerprint,
        fingerprint=model.fingerprint,
    )
    if isinstance(model.texts, PieceCoder):
        (folder / TOKENIZERS).mkdir()
        model.texts.tokenizer.save(folder / TOKENIZERS)
    if isinstance(model.texts, ForeignCoder):
        model.texts.save(folder / TEXT_ENCODER)
    if isinstance(config.image_encoder, FrozenImageEncoderConfig):
        copy_part((resolve_path(config.image_encoder.path),), folder / IMAGE_ENCODER)
    save_tensors(trained_state(model.network, config), folder / WEIGHTS)
    (folder / CONFIG).write_text(dump_config(written))
    (folder / CARD).write_text(card)


def load_contrastive(folder: Path, device: str | torch.device = "cpu") -> ContrastiveModel:
    """Read a folder; in eval mode, without gradients.

    Raises:
        CheckpointError: no folder of a contrastive model, a file missing or altered, parts of
            another model.
    """
    verify_folder(folder)
    content = read_yaml(folder / CONFIG)
    if content.get("kind") != "contrastive":
        raise CheckpointError(f"{folder} is no contrastive model: its {CONFIG} says another kind")
    if content.get("schema_version") != SCHEMA:
        raise CheckpointError(
            f"{folder} has schema {content.get('schema_version')}; this genvlm reads {SCHEMA}: "
            "use the version that wrote it"
        )
    written = parse_config(ContrastiveFolderConfig, content, str(folder / CONFIG))
    config = _in_folder(written.model, f"{folder.resolve()}/")
    model = restore_contrastive(config, load_tensors(folder / WEIGHTS), str(folder / WEIGHTS))
    if model.fingerprint != written.fingerprint:
        raise CheckpointError(
            f"{folder} computes something else than the model that was written (fingerprint "
            f"{model.fingerprint[:12]}, expected {written.fingerprint[:12]}): copy it again"
        )
    return model.to(device)


def _frozen_prefixes(config: ContrastiveConfig) -> tuple[str, ...]:
    """First words of the names of weights that are not trained."""
    parts = (("image_encoder.", config.image_encoder), ("text_encoder.", config.text_encoder))
    frozen = (FrozenImageEncoderConfig, FrozenTextEncoderConfig)
    return tuple(name for name, part in parts if isinstance(part, frozen))


def _in_folder(config: ContrastiveConfig, root: str = "") -> ContrastiveConfig:
    """The configuration with its parts where a model folder has them, behind `root`."""
    text, image = config.text_encoder, config.image_encoder
    if isinstance(text, SmallTextEncoderConfig):
        text = replace(text, tokenizer=root + TOKENIZERS)
    else:
        text = replace(text, path=root + TEXT_ENCODER)
    if isinstance(image, FrozenImageEncoderConfig):
        image = replace(image, path=root + IMAGE_ENCODER)
    return replace(config, text_encoder=text, image_encoder=image)
