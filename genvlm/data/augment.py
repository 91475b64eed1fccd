"""Augmentation of batches of pictures: moved, turned, scaled, mirrored, recoloured.

Everything draws from an explicit generator. Pixels in [-1, 1]; uncovered ground is white.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from genvlm.config.data import AugmentConfig
from genvlm.tokenization.image import to_pixels, to_uint8

Images = Tensor
"""Float (B, 3, H, W), pixels in [-1, 1]."""


def flip(images: Images, generator: torch.Generator) -> Images:
    """Mirror each picture left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


def affine(
    images: Images,
    generator: torch.Generator,
    *,
    scale: tuple[float, float] = (0.75, 1.2),
    degrees: float = 20.0,
    shift: float = 0.12,
) -> Images:
    """Scale, turn and move each picture; `shift` is a share of its side."""
    n = len(images)
    if n == 0:  # torch takes no empty grid
        return images

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle = uniform(-degrees, degrees) * math.pi / 180
    ratio = 1 / uniform(*scale)
    stretch = uniform(0.9, 1.1)
    cos, sin = angle.cos() * ratio, angle.sin() * ratio
    theta = torch.stack(
        [
            torch.stack([cos * stretch, -sin, uniform(-2 * shift, 2 * shift)], -1),
            torch.stack([sin, cos / stretch, uniform(-2 * shift, 2 * shift)], -1),
        ],
        1,
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    # White outside: sample the distance to white, whose padding value is zero.
    return 1 - F.grid_sample(1 - images, grid, mode="bilinear", align_corners=False)


def recolour(images: Images, generator: torch.Generator, *, strength: float = 1.0) -> Images:
    """Mix the colour channels of each picture mildly; white stays white and grey stays grey."""
    n = len(images)
    noise = torch.randn(n, 3, 3, generator=generator)
    # Rows that sum to one map every grey to itself.
    mix = torch.eye(3) + 0.35 * strength * (noise - noise.mean(-1, keepdim=True))
    gamma = torch.exp(0.25 * strength * torch.randn(n, 1, 1, 1, generator=generator))
    unit = torch.einsum("nij,njhw->nihw", mix, (images + 1) / 2).clamp(0, 1)
    return unit.pow(gamma) * 2 - 1


def permute_channels(images: Images, generator: torch.Generator) -> Images:
    """Exchange the colour channels of each picture at random: other colours, equal sharpness."""
    orders = torch.rand(len(images), 3, generator=generator).argsort(-1).to(images.device)
    return torch.gather(images, 1, orders[:, :, None, None].expand_as(images))


def blur(images: Images) -> Images:
    """Means over 3x3 pixels."""
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)


def augment_drawings(
    drawings: np.ndarray, *, seed: int, config: AugmentConfig | None = None
) -> np.ndarray:
    """Moved, turned, scaled and mildly recoloured copies of uint8 pictures (N, H, W, 3).

    By default half of them keep their colours: a caption may name one.
    """
    config = config or AugmentConfig()
    generator = torch.Generator().manual_seed(seed)

    def chosen(share: float) -> Tensor:
        return (torch.rand(len(drawings), generator=generator) < share)[:, None, None, None]

    images = affine(
        to_pixels(drawings), generator,
        scale=config.scale, degrees=config.degrees, shift=config.shift,
    )  # fmt: skip
    recoloured = chosen(config.recolour)
    changed = recolour(images, generator, strength=config.recolour_strength)
    images = torch.where(recoloured, changed, images)
    if config.blur:
        images = torch.where(chosen(config.blur), blur(images), images)
    return to_uint8(images)
