"""Patches of frozen image encoders: whose states they are, and folders that are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.config.image_encoder import ForeignPatchesConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.patches import build_patches
from genvlm.testing.foreign_models import write_tiny_clip
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pairs
from genvlm.testing.tiny_projector import (
    PatchKind,
    tiny_projector_config,
    write_tiny_vision_model,
)
from genvlm.tokenization.image import to_pixels

IMAGES = [image for _, image in tiny_pairs()[:3]]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_states_of_patches_are_those_of_transformers(kind: PatchKind, tmp_path: Path) -> None:
    """Of the layer asked for, without the class token, of pixels with the model's statistics."""
    import transformers

    write_tiny_vision_model(tmp_path, kind)  # type: ignore[arg-type]
    name = {"clip": "CLIPVisionModel", "siglip": "SiglipVisionModel"}[kind]
    model = getattr(transformers, name).from_pretrained(tmp_path).eval()
    statistics = json.loads((tmp_path / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(statistics[k])[:, None, None] for k in ("image_mean", "image_std"))
    pixels = torch.stack([torch.from_numpy(i.copy()).permute(2, 0, 1) / 255 for i in IMAGES])
    states = model(pixel_values=(pixels - mean) / std, output_hidden_states=True).hidden_states
    images = to_pixels(np.stack(IMAGES))
    for layer in (-2, -1):
        reader = build_patches(ForeignPatchesConfig(path=str(tmp_path), layer=layer))
        found = reader.encoder(images)
        assert found.shape == (3, reader.num_patches, reader.width) == (3, 16, 16)
        torch.testing.assert_close(found, states[layer][:, -16:], atol=1e-5, rtol=0)


def test_the_vision_half_of_a_clip_is_read_alone(tmp_path: Path) -> None:
    model = write_tiny_clip(tmp_path)
    reader = build_patches(ForeignPatchesConfig(path=str(tmp_path), layer=-1))
    assert (reader.side, reader.num_patches, reader.width) == (16, 16, 32)
    theirs = dict(model.vision_model.named_parameters())
    ours = dict(reader.encoder.model.named_parameters())  # type: ignore[union-attr]
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_cells_of_a_vqgan_are_what_it_quantizes(tmp_path: Path) -> None:
    config = tiny_projector_config(tmp_path)
    reader, tokenizer = build_patches(config.image_encoder), tiny_image_tokenizer()
    images = to_pixels(np.stack(IMAGES))
    states = reader.encoder(images)
    assert states.shape == (3, 16, 8)
    features = states.unflatten(1, (4, 4)).permute(0, 3, 1, 2)
    codes = tokenizer.network.quantize.nearest(tokenizer.network.quant_conv(features))
    assert torch.equal(codes, tokenizer.network.encode(images))


def test_folders_that_are_no_image_encoder_are_refused(tmp_path: Path) -> None:
    write_tiny_vision_model(tmp_path)
    with pytest.raises(ConfigError, match=r"layer -9 of .* has 3"):
        build_patches(ForeignPatchesConfig(path=str(tmp_path), layer=-9))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="lacks three numbers each of image_mean"):
        build_patches(ForeignPatchesConfig(path=str(tmp_path)))
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json cannot be read"):
        build_patches(ForeignPatchesConfig(path=str(tmp_path)))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["T5Model"]}))
    with pytest.raises(ConfigError, match="is a 'T5Model': give a folder of a vision encoder"):
        build_patches(ForeignPatchesConfig(path=str(tmp_path)))
