"""What a projector sees with: any image encoder, also that of a model of our own."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genvlm.config.assets import resolve_path
from genvlm.config.image_encoder import OwnPatchesConfig, SmallImageEncoderConfig
from genvlm.config.projector import SeeingConfig
from genvlm.config.schema import to_plain
from genvlm.errors import ConfigError
from genvlm.models.auxiliary.coca import COCA
from genvlm.models.auxiliary.contrastive import CONTRASTIVE
from genvlm.models.auxiliary.folder import Family
from genvlm.models.auxiliary.llip import LLIP
from genvlm.models.auxiliary.masked import MASKED
from genvlm.models.image_encoder import SmallImageEncoder, build_image_encoder
from genvlm.models.model_folder import copy_folder, verify_folder
from genvlm.models.patches import PatchReader
from genvlm.nn.frozen import Frozen
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors

_FAMILIES: tuple[Family[Any, Any], ...] = (CONTRASTIVE, LLIP, COCA, MASKED)


class OwnPatchEncoder(Frozen):
    """A small image encoder that a model of ours was trained with."""

    model: SmallImageEncoder

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches dim"]:
        """Last states of the patches."""
        states: Tensor = self.model(images)
        return states


def build_seeing(config: SeeingConfig, *, seed: int = 0) -> PatchReader:
    """The encoder; a small one is initialised from the seed.

    Raises:
        CheckpointError: a folder is missing or incomplete.
        ConfigError: it holds no vision encoder.
    """
    if isinstance(config, OwnPatchesConfig):
        return load_own_patches(resolve_path(config.path))
    return build_image_encoder(config, seed=seed)


def load_own_patches(folder: Path) -> PatchReader:
    """The image encoder of a contrastive model, Llip, CoCa or a masked model.

    Raises:
        CheckpointError: the folder is missing or incomplete.
        ConfigError: it holds another kind of model, or one that sees with a frozen encoder.
    """
    family = next((family for family in _FAMILIES if family.owns(folder)), None)
    if family is None:
        verify_folder(folder)
        kinds = ", ".join(family.kind for family in _FAMILIES)
        raise ConfigError(
            f"{folder} has no image encoder for a projector: give a model folder of kind {kinds}"
        )
    config, built = family.load(folder)
    seeing = config.image_encoder
    if not isinstance(seeing, SmallImageEncoderConfig):
        raise ConfigError(
            f"{folder} sees with a frozen encoder of kind {seeing.kind}: name that one instead"
        )
    encoder = built.network.image_encoder
    return PatchReader(
        encoder=OwnPatchEncoder(encoder),
        side=seeing.side,
        num_patches=seeing.num_patches,
        width=seeing.hidden_size,
        fingerprint=fingerprint_of(
            ["image encoder of genvlm", fingerprint_tensors(encoder.state_dict()), to_plain(seeing)]
        ),
        save=lambda target: copy_folder(folder, target),
    )
