import math

import pytest
import torch

from genvlm.errors import ConfigError
from genvlm.generation.guidance import (
    Companion,
    combine,
    companion_prefix,
    companions,
    contrast,
    guide,
)
from genvlm.generation.sampling import SamplingSettings, mask_logits
from genvlm.tokenization.vocabulary import Codebook, Vocabulary

BOUNDS = torch.tensor([[2, 7], [0, 9]])


def log_probs(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return mask_logits(torch.randn(2, 9, generator=generator, dtype=torch.float64), BOUNDS)


def test_two_scales_follow_their_formula() -> None:
    c, i, u = (log_probs(s) for s in range(3))
    settings = SamplingSettings(guidance_scale=3.0, image_guidance_scale=1.5)
    combined = combine([c, i, u], settings)
    allowed = c > -math.inf
    expected = u + 1.5 * (i - u) + 3.0 * (c - i)  # InstructPix2Pix, equation 3
    torch.testing.assert_close(combined[allowed], expected[allowed])
    assert (combined[~allowed] == -math.inf).all()


def test_an_image_scale_of_one_needs_no_blind_row() -> None:
    c, i, u = (log_probs(s) for s in range(3))
    settings = SamplingSettings(guidance_scale=3.0, image_guidance_scale=1.0)
    torch.testing.assert_close(combine([c, i, u], settings), combine([c, i], settings))


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_contrast_follows_its_formula(top_k: int) -> None:
    expert, amateur = log_probs(0), log_probs(1)
    result = contrast(expert, amateur, top_k, 0.4)
    for row in range(2):
        kth = expert[row].exp().sort(descending=True).values[top_k - 1]
        for token_id in range(9):
            plausible = expert[row, token_id].exp() >= 0.4 * kth
            expected = expert[row, token_id] - amateur[row, token_id]
            assert result[row, token_id] == (expected if plausible else -math.inf)
    assert (result > -math.inf).sum() < 14


def test_contrast_takes_its_threshold_among_the_allowed_ids() -> None:
    """Of two allowed ids the 5th largest is none: the smaller of the two counts."""
    expert = mask_logits(torch.tensor([[0.0, 3.0, 0.1, 9.0, 9.0]]), torch.tensor([[1, 3]]))
    amateur = mask_logits(torch.zeros(1, 5), torch.tensor([[1, 3]]))
    result = contrast(expert, amateur, 5, 1.0)
    assert (result > -math.inf).tolist() == [[False, True, True, False, False]]
    assert not result.isnan().any()
    strict = contrast(expert, amateur, 1, 1.0)
    assert (strict > -math.inf).tolist() == [[False, True, False, False, False]]


def test_contrast_is_never_nan_where_the_amateur_forbids_less() -> None:
    expert, amateur = log_probs(0), mask_logits(torch.zeros(2, 9), torch.tensor([[0, 9], [0, 9]]))
    expert[1, 4] = -math.inf
    result = contrast(expert, amateur.double(), 3, 0.5)
    assert not result.isnan().any()
    assert result[1, 4] == -math.inf
    assert not guide(expert, amateur.double(), 4.0).isnan().any()


def test_companions_are_as_few_as_the_settings_need() -> None:
    one, two = [Companion.BLIND], [Companion.IMAGES, Companion.BLIND]
    assert companions(SamplingSettings(), infilling=False) == []
    assert companions(SamplingSettings(guidance_scale=2), infilling=False) == one
    assert companions(SamplingSettings(contrastive_top_k=3), infilling=False) == one
    assert companions(SamplingSettings(image_guidance_scale=2), infilling=False) == two
    images = SamplingSettings(guidance_scale=2, image_guidance_scale=1)
    assert companions(images, infilling=False) == [Companion.IMAGES]
    neither = SamplingSettings(guidance_scale=1, image_guidance_scale=1)
    assert companions(neither, infilling=False) == []
    assert companions(SamplingSettings(guidance_scale=2), infilling=True) == [Companion.IMAGES]
    with pytest.raises(ConfigError, match="leave it out where gaps are filled"):
        companions(SamplingSettings(image_guidance_scale=2), infilling=True)


V = Vocabulary(
    image=Codebook(4, "a"), video=Codebook(4, "a"), text_size=10, num_gaps=2, num_numbers=2
)
WORD, GAP = V.text_range.start, V.gap_range[0]


@pytest.mark.parametrize(
    ("sequence", "images", "blind"),
    [
        ([V.bos, WORD], [V.bos], [V.bos]),
        ([V.bos, WORD, V.boi], [V.bos, V.boi], [V.bos, V.boi]),
        (
            [V.bos, V.boi, 0, 1, V.eoi, WORD, V.boi, 3],
            [V.bos, V.boi, 0, 1, V.eoi, V.boi, 3],
            [V.bos, V.boi, 3],
        ),
        ([V.bos, V.boi, 0, 1, V.eoi, WORD], [V.bos, V.boi, 0, 1, V.eoi], [V.bos]),
        (
            [V.bos, WORD, V.boi, 0, V.eoi, V.bov, 2, 3],
            [V.bos, V.boi, 0, V.eoi, V.bov, 2, 3],
            [V.bos, V.bov, 2, 3],
        ),
        ([V.bos, WORD, V.bov, 2, V.eov], [V.bos, V.bov, 2, V.eov], [V.bos]),
        (
            [V.bos, WORD, GAP, V.boi, 0, V.number(1), V.eoi, V.infill],
            [V.bos, GAP, V.boi, 0, V.number(1), V.eoi, V.infill],
            [V.bos],
        ),
    ],
)
def test_companions_have_read_what_they_are_called_for(
    sequence: list[int], images: list[int], blind: list[int]
) -> None:
    assert companion_prefix(Companion.IMAGES, sequence, V) == images
    assert companion_prefix(Companion.BLIND, sequence, V) == blind
