"""Augmentation: explicit randomness, pixels in range, white ground."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genvlm.config.data import AugmentConfig
from genvlm.data.augment import (
    affine,
    augment_drawings,
    blur,
    flip,
    permute_channels,
    recolour,
)
from genvlm.data.emoji import load_drawings
from genvlm.errors import ConfigError

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
ALL = [flip, affine, recolour, permute_channels]


def _images(num: int = 16) -> Tensor:
    drawings = torch.from_numpy(load_drawings("noto")[:num].astype(np.float32))
    return drawings.permute(0, 3, 1, 2) / 127.5 - 1


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("augmentation", ALL)
def test_shape_and_range_are_kept_and_the_input_is_not_altered(augmentation: Augmentation) -> None:
    images = _images()
    before = images.clone()
    result = augmentation(images, _seeded(0))
    assert result.shape == images.shape
    assert result.dtype == images.dtype
    assert result.min() >= -1 - 1e-5
    assert result.max() <= 1 + 1e-5
    assert torch.equal(images, before)
    assert not torch.equal(result, images)


@pytest.mark.parametrize("augmentation", ALL)
def test_the_generator_alone_decides(augmentation: Augmentation) -> None:
    images = _images()
    torch.manual_seed(1)
    first = augmentation(images, _seeded(5))
    torch.manual_seed(2)
    assert torch.equal(first, augmentation(images, _seeded(5)))
    assert not torch.equal(first, augmentation(images, _seeded(6)))


@pytest.mark.parametrize("augmentation", ALL)
def test_white_stays_white(augmentation: Augmentation) -> None:
    white = torch.ones(500, 3, 8, 8)
    torch.testing.assert_close(augmentation(white, _seeded(0)), white, atol=1e-5, rtol=0)


def test_recolouring_keeps_grey_grey_and_changes_colours() -> None:
    grey = torch.linspace(-1, 1, 9).repeat(200, 3, 1)[:, :, None]
    result = recolour(grey, _seeded(0))
    assert (result.amax(1) - result.amin(1)).max() < 1e-4
    red = torch.tensor([1.0, -1, -1])[None, :, None, None].repeat(200, 1, 1, 1)
    assert recolour(red, _seeded(0))[:, :, 0, 0].std(0).min() > 0.1


def test_flipping_mirrors_about_half_of_the_pictures_and_nothing_else() -> None:
    images = _images(200)
    result = flip(images, _seeded(0))
    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 0.3 < float((~same).float().mean()) < 0.7


def test_permuting_channels_keeps_each_channel_somewhere() -> None:
    images = _images()
    result = permute_channels(images, _seeded(0))
    assert torch.equal(images.sort(dim=1).values, result.sort(dim=1).values)


def test_an_affine_map_without_freedom_stays_near_the_picture() -> None:
    images = _images()
    result = affine(images, _seeded(0), scale=(1.0, 1.0), degrees=0.0, shift=0.0)
    assert (result - images).abs().mean() < 0.2


def test_augmented_drawings_are_new_uint8_pictures_of_their_seed() -> None:
    drawings = load_drawings("noto")[:40]
    copies = augment_drawings(drawings, seed=3)
    assert copies.shape == drawings.shape
    assert copies.dtype == np.uint8
    assert np.array_equal(copies, augment_drawings(drawings, seed=3))
    assert not np.array_equal(copies, augment_drawings(drawings, seed=4))
    assert (copies != drawings).any(axis=(1, 2, 3)).all()


def test_augmented_drawings_lie_on_white() -> None:
    white = np.full((100, 16, 16, 3), 255, np.uint8)
    assert (augment_drawings(white, seed=0) == 255).all()


def test_without_freedom_copies_are_the_stretched_drawings_themselves() -> None:
    drawings = np.full((4, 16, 16, 3), 255, np.uint8)
    drawings[:, 4:12, 4:12] = (200, 30, 30)
    still = AugmentConfig(scale=(1.0, 1.0), degrees=0.0, shift=0.0, recolour=0.0)
    copies = augment_drawings(drawings, seed=0, config=still)
    assert (copies[:, 6:10, 6:10] == (200, 30, 30)).all()
    assert (copies[:, 0] == 255).all()


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": (0.5, 0.6)}, {"degrees": 80.0}, {"shift": 0.4}, {"recolour": 1.0},
        {"recolour_strength": 2.0}, {"blur": 1.0},
    ],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_every_setting_of_the_augmentation_changes_copies(changed: dict[str, Any]) -> None:
    drawings = load_drawings("noto")[:20]
    usual = augment_drawings(drawings, seed=0)
    assert (augment_drawings(drawings, seed=0, config=AugmentConfig(**changed)) != usual).any()
    assert np.array_equal(augment_drawings(drawings, seed=0, config=AugmentConfig()), usual)


def test_blurring_keeps_flat_ground_and_softens_an_edge() -> None:
    images = torch.full((1, 3, 8, 8), -1.0)
    images[..., 4:] = 1.0
    result = blur(images)
    assert torch.equal(result[..., [0, 1, 2, 5, 6, 7]], images[..., [0, 1, 2, 5, 6, 7]])
    torch.testing.assert_close(result[0, 0, 0, 3:5], torch.tensor([-1 / 3, 1 / 3]))


@pytest.mark.parametrize("scale", [(0.0, 1.0), (1.2, 0.8)])
def test_scales_in_the_wrong_order_are_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="smaller one first"):
        AugmentConfig(scale=scale)
