"""What probes read of each family."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.data.images import RGBImage
from genvlm.errors import CheckpointError, ConfigError, EvaluationError
from genvlm.models.diffusion.network import DiT
from genvlm.models.pretrained import save_pretrained
from genvlm.scoring.features import (
    ImageFeatures,
    coca_features,
    diffusion_features,
    llip_features,
    open_features,
    pixel_features,
    pooled_features,
    projector_features,
    transformer_features,
)
from genvlm.testing.foreign_models import write_tiny_clip, write_tiny_llava
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained
from genvlm.testing.tiny_auxiliary import tiny_coca, tiny_contrastive, tiny_llip, tiny_masked
from genvlm.testing.tiny_diffusion import tiny_diffusion
from genvlm.testing.tiny_projector import tiny_projector

IMAGES: list[RGBImage] = [image for _, image in tiny_pairs()]

BUILD: dict[str, Callable[[Path], ImageFeatures]] = {
    "transformer": lambda folder: transformer_features(tiny_pretrained()),
    "contrastive": lambda folder: pooled_features(tiny_contrastive()),
    "llip": lambda folder: llip_features(tiny_llip()),
    "masked": lambda folder: pooled_features(tiny_masked()),
    "coca": lambda folder: coca_features(tiny_coca()),
    "projector": lambda folder: projector_features(tiny_projector(folder)),
    "queries": lambda folder: projector_features(tiny_projector(folder, projector="queries")),
    "diffusion": lambda folder: diffusion_features(tiny_diffusion()),
    "pixels": lambda folder: pixel_features(4),
}
SHAPES = {
    "transformer": (32, "mean state of BOI and codes behind block 1 of 2"),
    "contrastive": (16, "mean state of patches"),
    "llip": (8, "mean mixture token"),
    "masked": (16, "mean state of patches"),
    "coca": (16, "pooled state of the embedding"),
    "projector": (16, "mean projected patch"),
    "queries": (16, "mean projected query"),
    "diffusion": (
        16,
        "mean state of patches behind block 1 of 1, at noise level 100 of 1000, noise of seed 0",
    ),
    "pixels": (48, "4x4 pixels"),
}


@pytest.mark.parametrize("family", BUILD)
def test_features_are_of_the_named_shape_and_differ_by_picture_alone(
    family: str, tmp_path: Path
) -> None:
    features = BUILD[family](tmp_path / "a")
    found = features.features(IMAGES)
    assert (found.shape[1], features.name) == SHAPES[family]
    assert found.dtype == np.float32
    assert len(np.unique(found.round(5), axis=0)) == len(IMAGES)
    again = BUILD[family](tmp_path / "b")
    assert again.fingerprint == features.fingerprint
    np.testing.assert_array_equal(again.features(IMAGES), found)
    alone = np.concatenate([features.features([image]) for image in IMAGES[:3]])
    np.testing.assert_allclose(alone, found[:3], atol=2e-5)


def test_no_two_families_or_weights_have_one_fingerprint(tmp_path: Path) -> None:
    every = [build(tmp_path / name).fingerprint for name, build in BUILD.items()]
    every += [
        pooled_features(tiny_contrastive(seed=1)).fingerprint,
        transformer_features(tiny_pretrained(), 2).fingerprint,
    ]
    assert len(set(every)) == len(every)


def test_a_transformer_is_read_where_the_picture_stands() -> None:
    pretrained = tiny_pretrained()
    vocabulary = pretrained.vocabulary
    token_ids, positions = [vocabulary.bos, vocabulary.boi], [[-1, -1, -1]] * 2
    codes = pretrained.encode_images([IMAGES[0]])[0]
    start = vocabulary.image_range.start
    for row, column in np.ndindex(codes.shape):
        token_ids.append(start + int(codes[row, column]))
        positions.append([0, row, column])
    inputs = torch.tensor([token_ids]), torch.tensor([[*positions, [-1, -1, -1]]])
    model = pretrained.model
    states = model(inputs[0], positions=inputs[1], num_blocks=1, last_norm=False)
    expected = states[0, 1:].mean(0)
    found = transformer_features(pretrained).features(IMAGES[:1])[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    whole = model(inputs[0], positions=inputs[1])
    ended = model(inputs[0], positions=inputs[1], num_blocks=2)
    assert torch.equal(whole, ended)
    assert not torch.equal(model.norm(states), whole)


def test_states_of_a_dit_are_those_of_diffusers_own_forward() -> None:
    model = tiny_diffusion()
    network = model.denoiser.network
    assert isinstance(network, DiT)
    (block,) = network.model.transformer_blocks  # type: ignore[misc]
    seen: list[torch.Tensor] = []
    block.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    generator = torch.Generator().manual_seed(0)
    x_t = torch.randn(2, *model.latents.shape, generator=generator)
    text = model.read(["", "a red square on a white page"])
    assert not text.mask.all()
    times = torch.tensor([3.0, 700.0])
    with torch.no_grad():
        network(x_t, times, text.states, text.mask)
        found = network.states(x_t, times, text.states, text.mask, 1)
    assert torch.equal(found, seen[0])


def test_noise_of_a_diffusion_model_is_the_same_for_every_picture_and_drawn_by_its_seed() -> None:
    model = tiny_diffusion()
    twice = diffusion_features(model).features([IMAGES[0], IMAGES[0]])
    np.testing.assert_allclose(twice[0], twice[1], atol=1e-6)
    other = diffusion_features(model, seed=1).features(IMAGES[:1])
    assert abs(other[0] - twice[0]).max() > 1e-3


def test_a_picture_that_is_no_square_is_fitted_first() -> None:
    wide = np.full((8, 24, 3), 90, np.uint8)
    for family in ("transformer", "contrastive", "pixels"):
        assert BUILD[family](Path()).features([wide]).shape == (1, SHAPES[family][0])


def test_folders_open_as_what_they_are(tmp_path: Path) -> None:
    save_pretrained(tiny_pretrained(), tmp_path / "own", "A toy.\n")
    opened = open_features(tmp_path / "own")
    assert opened.fingerprint == transformer_features(tiny_pretrained()).fingerprint
    write_tiny_clip(tmp_path / "clip")
    clip = open_features(tmp_path / "clip")
    assert clip.name == "image embedding"
    assert clip.features(IMAGES).shape == (12, 16)
    write_tiny_llava(tmp_path / "llava")
    with pytest.raises(
        ConfigError, match="kind foreign_image_text_to_text, which gives no features"
    ):
        open_features(tmp_path / "llava")
    with pytest.raises(CheckpointError, match="no model folder"):
        open_features(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="this one is a UNet"):
        diffusion_features(tiny_diffusion("unet"))


def test_features_that_are_not_finite_are_an_error() -> None:
    model = tiny_contrastive()
    with torch.no_grad():
        model.network.image_encoder.norm.weight[0] = torch.nan  # type: ignore[union-attr,operator]
    with pytest.raises(EvaluationError, match="mean state of patches of picture 0 is not finite"):
        pooled_features(model).features(IMAGES)
