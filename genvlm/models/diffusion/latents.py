"""Latent spaces: pixels, our VQ-GAN's continuous latents, those of an AutoencoderKL.

B images, C H W of a latent. Latents are on the CPU and of about unit scale.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from genvlm.config.assets import resolve_path
from genvlm.config.diffusion import AutoencoderKLConfig, PixelSpaceConfig, VQLatentsConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.diffusion.model import LatentSpace
from genvlm.models.foreign import (
    copy_part,
    import_diffusers,
    load_part,
    meant,
    read_config,
)
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors
from genvlm.tokenization.image import (
    ImageTokenizer,
    fit_squares,
    load_image_tokenizer,
    to_pixels,
    to_uint8,
)

# Of pictures that are encoded or decoded at once: 64 of 64 x 64, one of 512 x 512.
_PIXELS = 64 * 64 * 64

Images = Sequence[UInt8[np.ndarray, "height width 3"]]


class LatentScale(NamedTuple):
    """Mean and standard deviation of each channel over the training pictures."""

    mean: Float[Tensor, " c"]
    std: Float[Tensor, " c"]


class PixelSpace:
    """Pixels in [-1, 1]."""

    def __init__(self, side: int) -> None:
        self.shape = (3, side, side)
        self.fingerprint = fingerprint_of(["pixels", side])

    def encode(self, images: Images) -> Float[Tensor, "images c h w"]:
        """Pixels of pictures, scaled to fit and padded to a white square."""
        return _in_parts(images, self.shape, self.shape[1], lambda pixels: pixels)

    def decode(
        self, latents: Float[Tensor, "images c h w"]
    ) -> UInt8[np.ndarray, "images height width 3"]:
        """Pictures, clipped."""
        return to_uint8(latents.float().cpu())


class VQLatents:
    """What the quantizer of a VQ-GAN sees, standardised; decoding goes by the nearest codes."""

    def __init__(self, tokenizer: ImageTokenizer, scale: LatentScale) -> None:
        self.tokenizer, self.scale = tokenizer, scale
        self.shape = (tokenizer.config.codebook_dim, *tokenizer.grid)
        right = scale.mean.shape == scale.std.shape == (self.shape[0],)
        if not (right and bool((scale.std > 0).all()) and bool(torch.isfinite(scale.mean).all())):
            raise CheckpointError(
                f"the scale of the latents must be a mean and a positive std for each of "
                f"{self.shape[0]} channels"
            )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over tokenizer and scale."""
        scale = fingerprint_tensors(self.scale._asdict())
        return fingerprint_of(["vqgan", self.tokenizer.fingerprint, scale])

    def encode(self, images: Images) -> Float[Tensor, "images c h w"]:
        """Standardised latents."""
        mean, std = (t[:, None, None] for t in self.scale)
        return (raw_latents(self.tokenizer, images) - mean) / std

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "images c h w"]
    ) -> UInt8[np.ndarray, "images height width 3"]:
        """Pictures of the nearest codes."""
        mean, std = (t[:, None, None] for t in self.scale)
        codes = self.tokenizer.network.quantize.nearest(latents.float().cpu() * std + mean)
        return self.tokenizer.decode(codes.numpy())


class KLLatents:
    """Means of an AutoencoderKL's posterior, shifted and scaled as its configuration says.

    It computes on the autoencoder's device.

    Args:
        autoencoder: an AutoencoderKL of diffusers.
        folder: where it was read from.
    """

    def __init__(
        self, autoencoder: Any, side: int, scaling_factor: float, shift: float, folder: Path
    ) -> None:
        self.autoencoder, self.side, self._folder = autoencoder, side, folder
        self.scaling_factor, self.shift = scaling_factor, shift
        factor = 2 ** (len(autoencoder.config.block_out_channels) - 1)
        if side % factor:
            raise ConfigError(
                f"side {side} is not a multiple of {factor}, by which {folder} shrinks pictures"
            )
        self.shape = (autoencoder.config.latent_channels, side // factor, side // factor)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over weights, configuration and side."""
        weights = fingerprint_tensors(self.autoencoder.state_dict())
        return fingerprint_of(["kl", weights, meant(read_config(self._folder)), self.side])

    def encode(self, images: Images) -> Float[Tensor, "images c h w"]:
        """Scaled means."""

        def encoded(pixels: Tensor) -> Tensor:
            posterior = self.autoencoder.encode(pixels.to(self.autoencoder.device)).latent_dist
            means: Tensor = posterior.mean.cpu()
            return (means - self.shift) * self.scaling_factor

        return _in_parts(images, self.shape, self.side, encoded)

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "images c h w"]
    ) -> UInt8[np.ndarray, "images height width 3"]:
        """Pictures, clipped."""
        raw = latents.float().to(self.autoencoder.device) / self.scaling_factor + self.shift
        parts = [
            to_uint8(self.autoencoder.decode(part).sample.cpu())
            for part in raw.split(_images_at_once(self.side))
        ]
        return np.concatenate(parts)

    def save(self, folder: Path) -> None:
        """Copy the autoencoder."""
        copy_part((self._folder,), folder)


def build_latents(
    config: PixelSpaceConfig | VQLatentsConfig | AutoencoderKLConfig, scale: LatentScale | None
) -> LatentSpace:
    """The latent space of a configuration.

    Args:
        scale: of a VQ-GAN's latents; others have none.

    Raises:
        CheckpointError: a folder is missing or incomplete, or there is no scale.
    """
    match config:
        case PixelSpaceConfig():
            return PixelSpace(config.side)
        case VQLatentsConfig():
            if scale is None:
                raise CheckpointError(
                    "the scale of the VQ-GAN's latents (latent_mean, latent_std) is missing: it "
                    "is measured in training, copy the model folder again"
                )
            return VQLatents(load_image_tokenizer(resolve_path(config.path)), scale)
        case AutoencoderKLConfig():
            return load_kl(resolve_path(config.path), config.side)
        case _:
            assert_never(config)


def load_kl(folder: Path, side: int) -> KLLatents:
    """An AutoencoderKL of diffusers.

    Raises:
        CheckpointError: unreadable, or its config.json names no scaling_factor.
        ConfigError: `side` does not fit, or its latents are standardised by channels.
    """
    content = read_config(folder)
    factor = content.get("scaling_factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < math.inf:
        # diffusers would take Stable Diffusion 1's, whatever the autoencoder.
        raise CheckpointError(
            f"{folder / 'config.json'} names no positive scaling_factor, without which the scale "
            "of its latents is unknown: add the number of its release (0.18215 for Stable "
            "Diffusion 1 and 2)"
        )
    if content.get("latents_mean") is not None:
        raise ConfigError(
            f"{folder} standardises its latents by channels (latents_mean), which is not "
            "supported: choose one with a scaling_factor alone"
        )
    shift = content.get("shift_factor") or 0.0
    if not isinstance(shift, int | float) or not math.isfinite(shift):
        raise CheckpointError(
            f"{folder / 'config.json'} has shift_factor {shift!r}, which is no number: give that "
            "of its release, or null"
        )
    autoencoder = load_part(import_diffusers().AutoencoderKL, folder)
    return KLLatents(autoencoder, side, float(factor), float(shift), folder)


@torch.no_grad()
def raw_latents(tokenizer: ImageTokenizer, images: Images) -> Float[Tensor, "images c h w"]:
    """Latents of a VQ-GAN as its quantizer sees them: on the unit sphere where its codes are."""
    network = tokenizer.network
    shape = (tokenizer.config.codebook_dim, *tokenizer.grid)

    def encoded(pixels: Tensor) -> Tensor:
        latents = network.encode_latents(pixels)
        return F.normalize(latents, dim=1) if network.quantize.l2_normalized else latents

    return _in_parts(images, shape, tokenizer.config.resolution, encoded)


def measure_scale(latents: Float[Tensor, "images c h w"]) -> LatentScale:
    """Mean and standard deviation of each channel."""
    by_channel = latents.double().transpose(0, 1).flatten(1)
    return LatentScale(by_channel.mean(1).float(), by_channel.std(1, correction=0).float())


@torch.no_grad()
def _in_parts(
    images: Images,
    shape: tuple[int, int, int],
    side: int,
    encode: Callable[[Tensor], Tensor],
) -> Tensor:
    """Latents of pictures fitted into a square, a few at a time."""
    parts, step = [torch.zeros(0, *shape)], _images_at_once(side)
    for start in range(0, len(images), step):
        parts.append(encode(to_pixels(fit_squares(images[start : start + step], side))))
    return torch.cat(parts)


def _images_at_once(side: int) -> int:
    return max(1, _PIXELS // side**2)
