"""Levels and noises that all texts share."""

import numpy as np
import pytest
import torch

from genvlm.errors import ConfigError
from genvlm.scoring.noise_pairs import draw_pairs, even_levels, nested_levels


@pytest.mark.parametrize("seed", [0, 7])
def test_a_pair_is_the_same_however_many_there_are(seed: int) -> None:
    many = draw_pairs(500, 1000, seed)
    for num in (1, 3, 64, 499):
        few = draw_pairs(num, 1000, seed)
        np.testing.assert_array_equal(few.levels, many.levels[:num])
        last = np.array([num - 1])
        assert torch.equal(few.noise(last, (3, 4, 4)), many.noise(last, (3, 4, 4)))


def test_noise_is_standard_normal_and_another_for_each_pair_and_seed() -> None:
    pairs = draw_pairs(40, 1000, 3)
    noise = pairs.noise(np.arange(40), (3, 16, 16)).flatten(1)
    assert torch.equal(pairs.noise(np.array([5, 2]), (3, 16, 16)).flatten(1), noise[[5, 2]])
    correlations = np.corrcoef(noise.numpy())
    assert np.abs(correlations - np.eye(40)).max() < 0.2
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.std()) - 1) < 0.02
    other = draw_pairs(40, 1000, 4).noise(np.arange(40), (3, 16, 16)).flatten(1)
    assert abs(np.corrcoef(noise.flatten(), other.flatten())[0, 1]) < 0.02


@pytest.mark.parametrize("num", [2, 4, 10, 50, 100, 333])
def test_every_beginning_is_spread_over_the_levels(num: int) -> None:
    """No gap is longer than twice what an even grid has, where random levels leave long ones."""
    for seed in range(20):
        levels = np.sort(nested_levels(500, 1000, seed)[:num])
        gaps = np.diff(np.concatenate([levels, [levels[0] + 1000]]))
        assert gaps.max() <= 2 * 1000 / num + 1


def test_over_seeds_each_pair_is_uniform_over_the_levels() -> None:
    """The mean of any number of pairs is unbiased."""
    levels = np.array([nested_levels(6, 10, seed) for seed in range(4000)])
    for column in levels.T:
        counts = np.bincount(column, minlength=10)
        assert len(counts) == 10
        assert ((counts - 400) ** 2 / 400).sum() < 27.9  # chi-squared, 9 degrees, p = 0.001


def test_even_levels_are_the_published_grid_in_an_order_whose_beginnings_are_spread() -> None:
    for num in (4, 50, 250, 500, 1000):
        start, step = 1000 // num // 2, 1000 // num
        published = list(range(start, 1000, step))[:num]
        levels = even_levels(num, 1000)
        assert sorted(levels) == published
        beginning = np.sort(levels[: num // 2])
        assert np.diff(beginning).max() <= 4 * step


def test_impossible_pairs_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 sample"):
        draw_pairs(0, 1000, 0)
    with pytest.raises(ConfigError, match="seed is 0 or more"):
        draw_pairs(1, 1000, -1)
    with pytest.raises(ConfigError, match="1001 evenly spaced levels do not fit"):
        draw_pairs(1001, 1000, 0, "even")
