"""Vision transformers: patches and their places, dropped patches, frozen encoders."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from genvlm.config.image_encoder import FrozenImageEncoderConfig, SmallImageEncoderConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.image_encoder import SmallImageEncoder, build_image_encoder
from genvlm.testing.foreign_models import write_tiny_vision_encoder

SMALL = SmallImageEncoderConfig(side=16, patch_size=4, hidden_size=16, num_layers=2, num_heads=2)


def pictures(num: int = 3) -> torch.Tensor:
    return torch.rand(num, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_patch_is_read_at_its_place() -> None:
    reader = build_image_encoder(SMALL, seed=1)
    reader.encoder.eval()
    one, other = torch.zeros(2, 1, 3, 16, 16)
    one[..., :4, :4] = other[..., 4:8, 8:12] = 1
    first, second = (reader.encoder(x)[0] for x in (one, other))
    assert first.shape == (16, 16)
    # Patch 0 and the patch in row 1, column 2 hold the same pixels at other places.
    assert (first[0] - second[6]).abs().max() > 1e-6
    assert (first[0] - first[1]).abs().max() > (first[1] - first[2]).abs().max()


def test_patches_are_dropped_in_training_alone() -> None:
    config = SmallImageEncoderConfig(
        side=16, patch_size=4, hidden_size=16, num_layers=1, num_heads=2, patch_dropout=0.5
    )
    encoder = SmallImageEncoder(config)
    encoder.init_weights(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = encoder(pictures()), encoder(pictures())
    assert first.shape == (3, 8, 16)
    assert not torch.equal(first, second)
    encoder.eval()
    assert encoder(pictures()).shape == (3, 16, 16)
    torch.testing.assert_close(encoder(pictures()), encoder(pictures()))


def test_a_kept_patch_keeps_its_place() -> None:
    """With one layer without attention to others, a patch's state would be that of the whole."""
    config = SmallImageEncoderConfig(
        side=16, patch_size=4, hidden_size=16, num_layers=1, num_heads=2, patch_dropout=0.94
    )
    encoder = SmallImageEncoder(config)
    encoder.init_weights(0)
    nn.init.zeros_(encoder.blocks[0].attention.o_proj.weight)
    kept = encoder(pictures())
    encoder.eval()
    whole = encoder(pictures())
    assert kept.shape == (3, 1, 16)
    assert torch.isclose(whole, kept, atol=1e-6).all(-1).any(1).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_size": 5}, "no multiple of patch_size 5"),
        ({"hidden_size": 20}, "four times num_heads"),
        ({"patch_dropout": 0.99}, "leaves none of 16 patches"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SmallImageEncoderConfig(
            **{"side": 16, "patch_size": 4, "hidden_size": 16, "num_layers": 1, "num_heads": 2}
            | change
        )


def test_a_frozen_encoder_is_that_of_transformers_and_stays_so(tmp_path: Path) -> None:
    model, processor = write_tiny_vision_encoder(tmp_path)
    reader = build_image_encoder(FrozenImageEncoderConfig(path=str(tmp_path)))
    uint8 = ((pictures() + 1) * 127.5).round().to(torch.uint8)
    inputs = processor(images=list(uint8), return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
    reader.encoder.train()
    found = reader.encoder(uint8.float() / 127.5 - 1)
    assert (reader.side, reader.width) == (16, found.shape[-1])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert not found.requires_grad
    assert not any(p.requires_grad for p in reader.encoder.parameters())
    assert not reader.encoder.model.training


def test_a_folder_that_is_no_vision_encoder_is_named(tmp_path: Path) -> None:
    write_tiny_vision_encoder(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(ConfigError, match="is a 'BertModel': give a folder of a vision encoder"):
        build_image_encoder(FrozenImageEncoderConfig(path=str(tmp_path)))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="lacks image_mean or image_std"):
        build_image_encoder(FrozenImageEncoderConfig(path=str(tmp_path)))
