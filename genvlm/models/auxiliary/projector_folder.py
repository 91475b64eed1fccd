"""Folders of projectors: self-contained, without pickles.

config.yaml, model.safetensors (what was trained), image_encoder/ and language_model/ (what was
frozen, copied), manifest.json (sha256 of every file), README.md (the card).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from genvlm.config.image_encoder import SmallImageEncoderConfig
from genvlm.config.projector import LanguageConfig, ProjectorConfig
from genvlm.config.schema import dump_config, parse_config, strict
from genvlm.models.auxiliary.language_model import Language
from genvlm.models.auxiliary.projector import (
    SCHEMA,
    ProjectorModel,
    assemble_projector,
    build_projector,
    load_trained,
    move_projector,
    trained_state,
)
from genvlm.models.auxiliary.seeing import build_seeing
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
from genvlm.nn.safetensors_folder import load_tensors, save_tensors

_IMAGE_ENCODER, _LANGUAGE_MODEL = "image_encoder", "language_model"
KIND = "projector"

BuildLanguage = Callable[[LanguageConfig], Language]
"""Language models of other families are known to the caller alone."""


@strict
@dataclass(frozen=True, kw_only=True)
class ProjectorFolderConfig:
    """`config.yaml` of a folder."""

    kind: Literal["projector"] = "projector"
    schema_version: int
    model: ProjectorConfig
    image_encoder: str
    """Fingerprint."""
    language_model: str
    """Fingerprint."""
    fingerprint: str
    """Of the model."""


def is_projector(folder: Path) -> bool:
    """Whether this is, or was to be, the folder of a projector."""
    return is_of_kind(folder, KIND)


def save_projector(model: ProjectorModel, config: ProjectorConfig, folder: Path, card: str) -> None:
    """Write a folder, which appears whole or not at all; an earlier one is replaced."""

    def write(temporary: Path) -> None:
        written = ProjectorFolderConfig(
            schema_version=SCHEMA,
            model=_in_folder(config),
            image_encoder=model.patches.fingerprint,
            language_model=model.language.fingerprint,
            fingerprint=model.fingerprint,
        )
        model.patches.save(temporary / _IMAGE_ENCODER)
        model.language.save(temporary / _LANGUAGE_MODEL)
        save_tensors(trained_state(model.projector, model.patches.encoder), temporary / WEIGHTS)
        (temporary / CONFIG).write_text(dump_config(written))
        (temporary / CARD).write_text(card)

    publish_model_folder(folder, write)


def load_projector(
    folder: Path, build_language: BuildLanguage, device: str | torch.device = "cpu"
) -> ProjectorModel:
    """Read a folder; in eval mode, without gradients.

    Raises:
        CheckpointError: no folder of a projector, a file missing or altered, parts of another
            model.
        ConfigError: no such device.
    """
    content = read_model_config(folder, KIND, SCHEMA)
    written = parse_config(ProjectorFolderConfig, content, str(folder / CONFIG))
    config = _in_folder(written.model, f"{folder.resolve()}/")
    patches = build_seeing(config.image_encoder)
    language = build_language(config.language_model)
    check_part(folder, "image encoder", patches.fingerprint, written.image_encoder)
    check_part(folder, "language model", language.fingerprint, written.language_model)
    projector = build_projector(config, patches, language)
    weights = load_tensors(folder / WEIGHTS)
    load_trained(projector, patches.encoder, weights, str(folder / WEIGHTS))
    model = assemble_projector(projector, config, patches, language)
    check_whole(folder, model.fingerprint, written.fingerprint)
    return move_projector(model, device)


def _in_folder(config: ProjectorConfig, root: str = "") -> ProjectorConfig:
    """The configuration with its frozen parts where a model folder has them, behind `root`."""
    encoder = config.image_encoder
    if not isinstance(encoder, SmallImageEncoderConfig):
        encoder = replace(encoder, path=root + _IMAGE_ENCODER)
    language = replace(config.language_model, path=root + _LANGUAGE_MODEL)
    return replace(config, image_encoder=encoder, language_model=language)
