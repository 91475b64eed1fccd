"""Vision transformers: patches and their places, dropped patches."""

import pytest
import torch
from torch import nn

from genvlm.config.image_encoder import SmallImageEncoderConfig
from genvlm.errors import ConfigError
from genvlm.models.image_encoder import SmallImageEncoder, build_image_encoder

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
