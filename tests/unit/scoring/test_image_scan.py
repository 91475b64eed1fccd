"""Images read in runs through a cache score as if read at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from genvlm.config.transformer import TransformerConfig
from genvlm.errors import ConfigError
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import Likelihood, Normalization
from genvlm.scoring.image_scan import ImageScan
from genvlm.testing.tiny import tiny_pretrained, tiny_transformer_config

TEXTS = ["a", "a red square", "blue", "a green corner on a white page", "a yellow bar on a page"]
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
SHAPES = {
    "rows and columns": tiny_transformer_config(),
    "index alone, 1 of 4 heads": tiny_transformer_config(rotary_dims=None, num_kv_heads=1),
}


def pretrained(config: TransformerConfig, dtype: torch.dtype) -> PretrainedModel:
    whole = tiny_pretrained(dtype=dtype)
    model = build_transformer(config, whole.vocabulary.size, seed=1).to(dtype).eval()
    return replace(whole, model=model.requires_grad_(False))


def pairs(num_images: int = 2) -> list:
    images = np.random.default_rng(0).integers(0, 16, (num_images, 4, 4))
    return [(image, text) for image in images for text in TEXTS]


def whole(p: PretrainedModel, normalization: Normalization = "grammar") -> np.ndarray:
    scored = Likelihood(p, normalization).score_image_given_text(pairs())
    return np.array([s.log_probs for s in scored], np.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("stops", [(16,), (1, 2, 16), (4, 8, 12, 16), tuple(range(1, 17))])
def test_runs_add_up_to_the_sums_of_a_whole_pass(
    config: TransformerConfig, dtype: torch.dtype, stops: tuple[int, ...]
) -> None:
    p = pretrained(config, dtype)
    scan, expected, start = ImageScan(p, pairs()), whole(p), 0
    for stop in stops:
        found = scan.read(stop)
        np.testing.assert_allclose(
            found, expected[:, start:stop].sum(1), atol=TOLERANCE[dtype], rtol=0
        )
        start = stop


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rows_that_are_taken_go_on_as_if_the_others_were_there(dtype: torch.dtype) -> None:
    p = pretrained(tiny_transformer_config(), dtype)
    scan, expected = ImageScan(p, pairs()), whole(p)
    scan.read(5)
    kept = np.array([7, 3, 4])
    part = scan.take(kept)
    mask = np.zeros(len(scan), bool)
    mask[::2] = True
    for other, rows in ((part, kept), (scan.take(mask), np.flatnonzero(mask)), (scan, slice(None))):
        assert len(other) == len(expected[rows])
        found = other.read(9) + other.read(16)
        np.testing.assert_allclose(found, expected[rows, 5:].sum(1), atol=TOLERANCE[dtype], rtol=0)
    assert len(part.take(np.zeros(3, bool)).read(16)) == 0


def test_the_raw_softmax_is_read_in_runs_too() -> None:
    p = pretrained(tiny_transformer_config(), torch.float64)
    scan = ImageScan(p, pairs(), normalization="vocabulary")
    np.testing.assert_allclose(
        scan.read(3) + scan.read(16), whole(p, "vocabulary").sum(1), atol=1e-10, rtol=0
    )


def test_dropped_rows_are_not_read_again() -> None:
    p, read = pretrained(tiny_transformer_config(), torch.float32), []
    scan = ImageScan(p, pairs())
    scan.read(4)
    p.model.embedding.register_forward_hook(lambda _, ids, __: read.append(ids[0].numel()))
    scan.take(np.array([0, 1, 2])).read(16)
    assert read == [3 * 12]


def test_pictures_of_different_sizes_do_not_share_a_scan() -> None:
    p = pretrained(tiny_transformer_config(), torch.float32)
    with pytest.raises(ConfigError, match="equally many codes"):
        ImageScan(p, [*pairs(1), (np.zeros((2, 2), int), "blue")])
