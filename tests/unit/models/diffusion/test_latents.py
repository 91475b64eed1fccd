"""Latent spaces: shapes, scale, the way there and back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from genvlm.config.diffusion import AutoencoderKLConfig, VQLatentsConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.diffusion.latents import (
    LatentScale,
    PixelSpace,
    VQLatents,
    build_latents,
    load_kl,
    measure_scale,
    raw_latents,
)
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pairs
from genvlm.testing.tiny_diffusion import write_tiny_autoencoder
from genvlm.tokenization.image import to_pixels

PICTURES = [picture for _, picture in tiny_pairs()]


@pytest.fixture(scope="module")
def kl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_autoencoder(tmp_path_factory.mktemp("kl") / "autoencoder")


@pytest.fixture(scope="module")
def vq() -> VQLatents:
    tokenizer = tiny_image_tokenizer()
    return VQLatents(tokenizer, measure_scale(raw_latents(tokenizer, PICTURES)))


def test_pixels_come_back_and_lie_between_minus_one_and_one() -> None:
    space = PixelSpace(16)
    latents = space.encode(PICTURES)
    assert latents.shape == (len(PICTURES), *space.shape) == (12, 3, 16, 16)
    assert latents.min() >= -1
    assert latents.max() == 1
    assert np.array_equal(space.decode(latents), np.stack(PICTURES))


def test_pictures_of_any_size_become_a_white_square() -> None:
    wide = np.zeros((4, 8, 3), np.uint8)
    (latent,) = PixelSpace(8).encode([wide])
    assert latent[:, 0].min() == 1  # the margin
    assert latent[:, 4].max() < 0


def test_latents_of_the_vqgan_have_unit_scale_over_what_they_were_measured_on(
    vq: VQLatents,
) -> None:
    latents = vq.encode(PICTURES)
    assert latents.shape == (12, *vq.shape) == (12, 4, 4, 4)
    by_channel = latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(by_channel.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(by_channel.std(1, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_raw_latents_are_what_the_quantizer_sees(vq: VQLatents) -> None:
    tokenizer = vq.tokenizer
    raw = raw_latents(tokenizer, PICTURES)
    torch.testing.assert_close(raw.norm(dim=1), torch.ones(12, 4, 4))
    with torch.no_grad():
        network = tokenizer.network
        encoded = F.normalize(network.encode_latents(to_pixels(np.stack(PICTURES))), dim=1)
    torch.testing.assert_close(raw, encoded)


def test_decoding_the_vqgans_latents_goes_by_the_nearest_codes(vq: VQLatents) -> None:
    codes = vq.tokenizer.encode(PICTURES)
    expected = vq.tokenizer.decode(codes)
    latents = vq.encode(PICTURES)
    assert np.array_equal(vq.decode(latents), expected)
    # A small error does not show.
    nudged = latents + 1e-4 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    assert (vq.decode(nudged) == expected).mean() > 0.95


def test_the_scale_is_part_of_the_fingerprint_and_must_be_one(vq: VQLatents) -> None:
    mean, std = vq.scale
    assert VQLatents(vq.tokenizer, LatentScale(mean.clone(), std)).fingerprint == vq.fingerprint
    assert VQLatents(vq.tokenizer, LatentScale(mean + 1e-6, std)).fingerprint != vq.fingerprint
    for wrong in (
        LatentScale(mean[:2], std[:2]),
        LatentScale(mean, 0 * std),
        LatentScale(mean * float("nan"), std),
    ):
        with pytest.raises(CheckpointError, match="a positive std for each of 4 channels"):
            VQLatents(vq.tokenizer, wrong)
    with pytest.raises(CheckpointError, match=r"latent_mean, latent_std\) is missing"):
        build_latents(VQLatentsConfig(), None)


@torch.no_grad()
def test_an_autoencoders_latents_are_its_scaled_means(kl_folder: Path) -> None:
    from diffusers import AutoencoderKL

    library = AutoencoderKL.from_pretrained(kl_folder).eval()
    space = build_latents(AutoencoderKLConfig(path=str(kl_folder), side=16), None)
    pixels = to_pixels(np.stack(PICTURES))
    expected = library.encode(pixels).latent_dist.mean * 0.5
    latents = space.encode(PICTURES)
    assert latents.shape == (12, *space.shape) == (12, 4, 4, 4)
    torch.testing.assert_close(latents, expected)
    drawn = library.decode(expected / 0.5).sample.clamp(-1, 1)
    assert (to_pixels(space.decode(latents)) - drawn).abs().max() < 1 / 127


@torch.no_grad()
def test_a_shift_is_taken_off_and_put_back(kl_folder: Path, tmp_path: Path) -> None:
    shifted = tmp_path / "shifted"
    change(kl_folder, shifted, shift_factor=0.25)
    plain, moved = load_kl(kl_folder, 16), load_kl(shifted, 16)
    torch.testing.assert_close(moved.encode(PICTURES), plain.encode(PICTURES) - 0.25 * 0.5)
    assert np.array_equal(
        moved.decode(moved.encode(PICTURES)), plain.decode(plain.encode(PICTURES))
    )
    assert plain.fingerprint != moved.fingerprint
    assert plain.fingerprint == load_kl(kl_folder, 16).fingerprint


def change(folder: Path, target: Path, **changes: object) -> Path:
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    kept = {k: v for k, v in config.items() if v is not ...}
    (target / "config.json").write_text(json.dumps(kept))
    return target


def test_an_autoencoder_whose_scale_is_not_said_is_refused(kl_folder: Path, tmp_path: Path) -> None:
    silent = change(kl_folder, tmp_path / "silent", scaling_factor=...)
    with pytest.raises(CheckpointError, match="names no positive scaling_factor"):
        load_kl(silent, 16)
    by_channel = change(kl_folder, tmp_path / "by-channel", latents_mean=[0.0] * 4)
    with pytest.raises(ConfigError, match="standardises its latents by channels"):
        load_kl(by_channel, 16)
    with pytest.raises(ConfigError, match="side 18 is not a multiple of 4"):
        load_kl(kl_folder, 18)


def test_no_pictures_give_no_latents(vq: VQLatents) -> None:
    for space in (vq, PixelSpace(8)):
        assert space.encode([]).shape == (0, *space.shape)
