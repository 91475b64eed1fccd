import math

import pytest
import torch

from genvlm.errors import ConfigError
from genvlm.generation.guidance import guide
from genvlm.generation.sampling import SamplingSettings, draw, mask_logits, row_generators

PROBS = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)


def drawn(settings: SamplingSettings, log_probs: torch.Tensor, num: int = 2000) -> torch.Tensor:
    return draw(log_probs.expand(num, -1), settings, row_generators(0, num))


def shares(settings: SamplingSettings) -> list[float]:
    counts = torch.bincount(drawn(settings, PROBS.log(), 8000), minlength=4)
    return [round(c / 8000, 2) for c in counts.tolist()]


def test_the_defaults_draw_from_the_distribution_itself() -> None:
    assert shares(SamplingSettings()) == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.02)


def test_temperature_sharpens_and_flattens() -> None:
    squared = PROBS[0].square() / PROBS.square().sum()
    assert shares(SamplingSettings(temperature=0.5)) == pytest.approx(squared.tolist(), abs=0.02)
    assert shares(SamplingSettings(temperature=1e6)) == pytest.approx([0.25] * 4, abs=0.02)


def test_temperature_zero_takes_the_most_likely() -> None:
    settings = SamplingSettings(temperature=0, top_k=2)
    assert drawn(settings, PROBS.log(), 50).unique().tolist() == [0]


def test_top_k_keeps_k_and_their_ratios() -> None:
    assert shares(SamplingSettings(top_k=2)) == pytest.approx([0.625, 0.375, 0, 0], abs=0.02)
    assert shares(SamplingSettings(top_k=1)) == [1, 0, 0, 0]
    assert shares(SamplingSettings(top_k=99)) == shares(SamplingSettings())


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, 1), (0.49, 1), (0.6, 2), (0.81, 3), (0.96, 4), (1.0, 4)]
)
def test_top_p_keeps_ids_until_their_mass_is_reached(top_p: float, kept: int) -> None:
    seen = drawn(SamplingSettings(top_p=top_p), PROBS.log(), 4000).unique().tolist()
    assert seen == list(range(kept))


def test_top_k_and_top_p_are_taken_together() -> None:
    # Of the two that top_k keeps, the first alone has 0.625.
    assert drawn(SamplingSettings(top_k=2, top_p=0.6), PROBS.log()).unique().tolist() == [0]


def test_forbidden_ids_are_never_drawn() -> None:
    log_probs = mask_logits(torch.randn(1, 9, dtype=torch.float64), torch.tensor([[3, 6]]))
    assert log_probs.exp().sum().item() == pytest.approx(1)
    for settings in (
        SamplingSettings(temperature=1e9),
        SamplingSettings(temperature=0),
        SamplingSettings(top_k=8),
        SamplingSettings(temperature=0.01),
    ):
        seen = set(drawn(settings, log_probs, 500).tolist())
        assert seen <= {3, 4, 5}


def test_guidance_one_is_the_conditional() -> None:
    c, u = (mask_logits(torch.randn(2, 9), torch.tensor([[0, 9], [2, 5]])) for _ in range(2))
    torch.testing.assert_close(guide(c, u, 1.0), c)
    torch.testing.assert_close(guide(c, u, 0.0), u)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, 50.0])
def test_guidance_is_never_nan(scale: float) -> None:
    bounds = torch.tensor([[2, 5]])
    c, u = (mask_logits(torch.randn(1, 9), bounds) for _ in range(2))
    c[0, 3] = -math.inf  # forbidden in the conditional alone, as by a budget
    guided = guide(c, u, scale)
    assert not guided.isnan().any()
    assert (guided == -math.inf).nonzero()[:, 1].tolist() == [0, 1, 3, 5, 6, 7, 8]
    assert not guided.softmax(-1).isnan().any()


def test_each_row_has_its_own_stream() -> None:
    log_probs = torch.zeros(6, 1000, dtype=torch.float64).log_softmax(-1)
    settings = SamplingSettings()
    together = draw(log_probs, settings, row_generators(5, 6)).tolist()
    alone = [draw(log_probs[:1], settings, row_generators(5, 1, row)).item() for row in range(6)]
    assert together == alone
    assert len(set(together)) > 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SamplingSettings(**changes)
