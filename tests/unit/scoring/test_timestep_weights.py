"""Weights of noise levels that are learned on labelled pictures."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.errors import ConfigError
from genvlm.scoring.noise_pairs import nested_levels
from genvlm.scoring.timestep_weights import (
    FILE,
    TimestepWeights,
    bin_of,
    fit_timestep_weights,
    load_timestep_weights,
    samples_that_fill,
    save_timestep_weights,
)

LEVELS = nested_levels(64, 1000, 0)


def errors_of(num_images: int, seed: int, informative: tuple[int, int] = (400, 700)) -> tuple:
    """Errors of 10 classes that tell the right one at some levels, and mislead nowhere else."""
    rng = np.random.default_rng(seed)
    right = rng.integers(10, size=num_images)
    errors = 1 + rng.normal(size=(num_images, 1, 64)) + rng.normal(size=(num_images, 10, 64))
    telling = (informative[0] <= LEVELS) & (informative[1] > LEVELS)
    errors[np.arange(num_images), right] -= 0.6 * telling
    return errors, right


def accuracy(weights: np.ndarray, errors: np.ndarray, right: np.ndarray) -> float:
    return float(((errors * weights).sum(2).argmin(1) == right).mean())


def fitted(num_images: int = 200, **settings: object) -> TimestepWeights:
    return fit_timestep_weights(*errors_of(num_images, 0), LEVELS, 1000, model="m", **settings)


def test_levels_that_tell_classes_apart_get_the_weight() -> None:
    weights = fitted(num_bins=10)
    by_bin = np.array(weights.weights)
    assert (by_bin >= 0).all()
    assert by_bin[4:7].min() > 2 * np.delete(by_bin, [4, 5, 6]).max()
    errors, right = errors_of(400, 1)
    learned = weights.by_level(1000)[LEVELS]
    assert accuracy(learned, errors, right) > accuracy(np.ones(64), errors, right) + 0.1


def test_weights_are_of_largest_likelihood() -> None:
    """Moving any weight makes the right classes less likely; the scale is that of a posterior."""
    weights = fitted(num_bins=4)
    errors, right = errors_of(200, 0)

    def likelihood(by_bin: np.ndarray) -> float:
        scores = -(errors * by_bin[bin_of(LEVELS, 1000, 4)]).mean(2) * 4
        scores -= np.log(np.exp(scores).sum(1, keepdims=True))
        return float(scores[np.arange(len(right)), right].mean())

    best = np.array(weights.weights)
    for b in range(4):
        for step in (-0.3, 0.3):
            moved = best + step * (np.arange(4) == b)
            assert moved.min() < 0 or likelihood(moved) < likelihood(best)


def test_samples_under_learned_weights_average_to_the_sum_over_bins() -> None:
    weights = TimestepWeights(model="m", weights=(1.0, 0.0, 5.0, 2.0), num_images=1, num_samples=1)
    by_level = weights.by_level(1000)
    np.testing.assert_array_equal(by_level[[0, 249, 250, 500, 999]], [4, 4, 0, 20, 8])
    assert by_level.mean() == 8


def test_weights_stay_finite_where_every_answer_is_right() -> None:
    errors = np.ones((5, 3, 64))
    errors[:, 0] = 0.5
    weights = fit_timestep_weights(errors, np.zeros(5, int), LEVELS, 1000, model="m", num_bins=4)
    assert np.isfinite(weights.weights).all()
    alike = fit_timestep_weights(np.ones((5, 3, 64)), np.zeros(5, int), LEVELS, 1000, model="m")
    assert np.isfinite(alike.weights).all()


def test_they_are_read_as_written_for_the_same_model_alone(tmp_path: Path) -> None:
    weights = fitted()
    assert save_timestep_weights(weights, tmp_path) == tmp_path / FILE
    assert load_timestep_weights(tmp_path, "m") == weights
    assert weights.fingerprint == replace(weights, num_images=3).fingerprint
    with pytest.raises(ConfigError, match="fitted on another model: run `genvlm classify"):
        load_timestep_weights(tmp_path, "another")


def test_missing_or_damaged_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no learned timestep weights: run `genvlm classify"):
        load_timestep_weights(tmp_path, "m")
    save_timestep_weights(fitted(), tmp_path)
    whole = json.loads((tmp_path / FILE).read_text())
    for damage in (
        "{", "[]", json.dumps(whole | {"schema": 9}), json.dumps(whole | {"weights": [-1.0]}),
        json.dumps(whole | {"weights": []}), json.dumps(whole | {"more": 1}),
    ):  # fmt: skip
        (tmp_path / FILE).write_text(damage)
        with pytest.raises(ConfigError, match="cannot be read"):
            load_timestep_weights(tmp_path, "m")


def test_a_short_schedule_has_a_bin_for_each_level() -> None:
    errors, right = errors_of(3, 0)
    weights = fit_timestep_weights(errors, right, LEVELS * 8 // 1000, 8, model="m")
    assert len(weights.weights) == 8


def test_too_little_to_fit_on_is_refused() -> None:
    errors, right = errors_of(3, 0)
    with pytest.raises(ConfigError, match="labelled pictures"):
        fit_timestep_weights(errors[:0], right[:0], LEVELS, 1000, model="m")
    refused = "16 of 20 bins of levels hold none of 4 samples: take 32 samples, which are enough"
    with pytest.raises(ConfigError, match=refused):
        fit_timestep_weights(errors[:, :, :4], right, LEVELS[:4], 1000, model="m")


@pytest.mark.parametrize(("num_bins", "num_levels"), [(20, 1000), (20, 20), (10, 10), (20, 39)])
def test_so_many_nested_samples_reach_every_bin_at_every_seed(
    num_bins: int, num_levels: int
) -> None:
    def filled(num_samples: int, seed: int) -> int:
        levels = nested_levels(num_samples, num_levels, seed)
        return len(np.unique(bin_of(levels, num_levels, num_bins)))

    enough = samples_that_fill(num_bins, num_levels)
    assert {filled(enough, seed) for seed in range(300)} == {num_bins}
    assert min(filled(enough // 2, seed) for seed in range(300)) < num_bins
