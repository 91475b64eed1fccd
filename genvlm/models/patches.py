"""Pictures as states of patches, by an encoder that is never trained.

B pictures, P patches, D width, S side in pixels.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_never

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from genvlm.config.assets import resolve_path
from genvlm.config.image_encoder import ForeignPatchesConfig, VQPatchesConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.foreign import copy_part, import_transformers, load_part, meant, read_config
from genvlm.nn.frozen import Frozen
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors
from genvlm.tokenization.image import ImageTokenizer, load_image_tokenizer
from genvlm.tokenization.vqgan import VQGAN

# Of which newer releases have the second, with the first one's content in `image_processor`.
_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
_STATISTICS = ("image_mean", "image_std")
# What a release is called whose vision half is read alone.
_HALVES = {"CLIPModel": "CLIPVisionModel", "SiglipModel": "SiglipVisionModel"}


@dataclass(frozen=True, kw_only=True)
class PatchReader:
    """An encoder and what it takes."""

    encoder: nn.Module
    """forward(images) -> states, (B, 3, S, S) pixels in [-1, 1] to (B, P, D), row by row."""
    side: int
    """S."""
    num_patches: int
    """P."""
    width: int
    """D."""
    fingerprint: str
    """sha256 over configuration and, where it is frozen, weights."""
    save: Callable[[Path], None]
    """Copies a frozen one into a folder; what is trained lies with the weights of its model."""


class ForeignPatchEncoder(Frozen):
    """A vision encoder of transformers.

    Args:
        layer: whose states are given, -1 being the last.
        skipped: states in front of the patches', such as that of a class token.
        mean, std: by channel, of pixels in [0, 1].
    """

    def __init__(
        self, model: nn.Module, *, layer: int, skipped: int, mean: Tensor, std: Tensor
    ) -> None:
        super().__init__(model)
        self.layer, self.skipped = layer, skipped
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("std", std[:, None, None], persistent=False)

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches dim"]:
        """Hidden states of the patches."""
        pixels = ((images + 1) / 2 - self.mean) / self.std
        read = self.model(pixel_values=pixels, output_hidden_states=True)
        states: Tensor = read.hidden_states[self.layer][:, self.skipped :]
        return states


class VQPatchEncoder(Frozen):
    """The encoder of a VQ-GAN."""

    model: VQGAN

    @torch.no_grad()
    def forward(
        self, images: Float[Tensor, "batch 3 side side"]
    ) -> Float[Tensor, "batch patches dim"]:
        """Features of the cells, before they are narrowed to the codebook and quantized."""
        features: Tensor = rearrange(self.model.features(images), "b d h w -> b (h w) d")
        return features


def build_patches(config: ForeignPatchesConfig | VQPatchesConfig) -> PatchReader:
    """The encoder in a folder.

    Raises:
        CheckpointError: the folder is missing or incomplete.
        ConfigError: it holds no vision encoder, or one of fewer layers.
    """
    match config:
        case ForeignPatchesConfig():
            return load_foreign_patches(resolve_path(config.path), config.layer)
        case VQPatchesConfig():
            return vq_patches(load_image_tokenizer(resolve_path(config.path)))
        case _:
            assert_never(config)


def vq_patches(tokenizer: ImageTokenizer) -> PatchReader:
    """The encoder of an image tokenizer."""
    rows, columns = tokenizer.grid
    return PatchReader(
        encoder=VQPatchEncoder(tokenizer.network),
        side=tokenizer.config.resolution,
        num_patches=rows * columns,
        width=tokenizer.config.z_channels,
        fingerprint=fingerprint_of(["vqgan features", tokenizer.fingerprint]),
        save=tokenizer.save,
    )


def load_foreign_patches(folder: Path, layer: int) -> PatchReader:
    """A vision encoder of transformers, alone or as half of a CLIP or SigLIP.

    Raises:
        CheckpointError: the folder is missing or incomplete.
        ConfigError: it holds another kind of model, or one of fewer layers.
    """
    transformers = import_transformers()
    name = str((read_config(folder).get("architectures") or [None])[0])
    name = _HALVES.get(name, name)
    cls = getattr(transformers, name, None)
    if not name.endswith("VisionModel") or cls is None:
        raise ConfigError(
            f"{folder} is a {name!r}: give a folder of a vision encoder of transformers such as "
            "CLIPVisionModel or SiglipVisionModel"
        )
    mean, std = _statistics(folder)
    model = load_part(cls, folder)
    shape = model.config
    if not -shape.num_hidden_layers - 1 <= layer <= shape.num_hidden_layers:
        raise ConfigError(
            f"layer {layer} of {folder}, which has {shape.num_hidden_layers}: choose -1 for the "
            "last one, -2 for the one before it"
        )
    skipped, num_patches = _count_patches(model, folder)
    statistics = {"mean": mean.tolist(), "std": std.tolist()}
    payload = [
        fingerprint_tensors(model.state_dict()), meant(shape.to_dict()), layer, statistics,
    ]  # fmt: skip
    return PatchReader(
        encoder=ForeignPatchEncoder(model, layer=layer, skipped=skipped, mean=mean, std=std),
        side=shape.image_size,
        num_patches=num_patches,
        width=shape.hidden_size,
        fingerprint=fingerprint_of(["foreign patches", *payload]),
        save=lambda target: copy_part((folder,), target),
    )


def _statistics(folder: Path) -> tuple[Tensor, Tensor]:
    """By channel. Raises CheckpointError: the folder does not tell how pictures are prepared."""
    name = next((n for n in _PREPROCESSORS if (folder / n).is_file()), _PREPROCESSORS[0])
    content = read_config(folder, name)
    try:
        content = content.get("image_processor", content)
        mean, std = (torch.tensor(content[key], dtype=torch.float32) for key in _STATISTICS)
        if mean.shape != (3,) or std.shape != (3,) or not bool((std > 0).all()):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError(
            f"{folder / name} lacks three numbers each of {' and '.join(_STATISTICS)}: "
            "copy it from the release"
        ) from None
    return mean, std


def _count_patches(model: Any, folder: Path) -> tuple[int, int]:
    """States in front of the patches', and the number of these: the largest square there is."""
    side = model.config.image_size
    with torch.no_grad():
        num_states = model(pixel_values=torch.zeros(1, 3, side, side)).last_hidden_state.shape[1]
    patches = (side // model.config.patch_size) ** 2
    if num_states < patches or math.isqrt(patches) ** 2 != patches:
        raise ConfigError(
            f"{folder} gives {num_states} states of a picture of {patches} patches: choose an "
            "encoder that gives each patch one"
        )
    return num_states - patches, patches
