from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binomtest

from genvlm.errors import EvaluationError
from genvlm.evaluation import resampling
from genvlm.evaluation.resampling import Resampling
from genvlm.evaluation.statistics import (
    Comparison,
    Undefined,
    detectable_difference,
    holm,
    mcnemar_exact,
    percentile_interval,
    wilson_interval,
)


def resampled_means(values: np.ndarray, groups: Sequence[str], seed: int = 0) -> np.ndarray:
    """Means of each column in every draw."""
    parts = np.column_stack([values, np.ones(len(values))])
    sums = Resampling(groups, seed).sums(parts, np.ones(len(values), np.bool_))
    return sums[:, :-1] / sums[:, -1:]


def test_bootstrap_intervals_cover_the_true_share_about_as_often_as_they_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resampling, "NUM_RESAMPLES", 250)
    rng = np.random.default_rng(0)
    trials, covered, naive = 200, 0, 0
    for trial in range(trials):
        # 60 clusters of 5 items; whole clusters are easy or hard, the true share is 0.6.
        easy = rng.random(60) < 0.5
        share = np.repeat(np.where(easy, 0.9, 0.3), 5)
        right = (rng.random(300) < share).astype(np.float64)
        groups = np.repeat([f"g{k}" for k in range(60)], 5).tolist()
        low, high = percentile_interval(resampled_means(right[:, None], groups, trial))
        covered += low <= 0.6 <= high
        alone = [str(k) for k in range(300)]
        low, high = percentile_interval(resampled_means(right[:, None], alone, trial))
        naive += low <= 0.6 <= high
    assert 0.90 <= covered / trials <= 0.99
    # Ignoring the clusters claims too much.
    assert naive < covered


def test_bootstrap_repeats_with_its_seed_and_pairs_its_columns() -> None:
    values = np.random.default_rng(1).random((50, 1))
    groups = [str(k % 10) for k in range(50)]
    first = resampled_means(np.hstack([values, values]), groups, seed=3)
    assert first.shape == (2000, 2)
    np.testing.assert_array_equal(first[:, 0], first[:, 1])
    np.testing.assert_array_equal(first[:, :1], resampled_means(values, groups, seed=3))
    assert not np.array_equal(first[:, :1], resampled_means(values, groups, seed=4))


def test_bootstrap_weighs_items_not_groups() -> None:
    values = np.array([[1.0]] * 90 + [[0.0]] * 10)
    means = resampled_means(values, ["big"] * 90 + ["small"] * 10)
    assert set(np.unique(means)) == {0.0, 0.9, 1.0}


def test_undefined_numbers_say_why() -> None:
    assert Resampling([]).undefined == "no answered item"
    assert "one group" in Resampling(["a"] * 3).undefined
    assert isinstance(wilson_interval(0, 0), Undefined)
    assert isinstance(mcnemar_exact({"a": True}, {"a": True}), Undefined)
    assert isinstance(detectable_difference(0), Undefined)


@pytest.mark.parametrize(("right", "items"), [(0, 10), (7, 10), (10, 10), (380, 400)])
def test_wilson_agrees_with_scipy(right: int, items: int) -> None:
    expected = binomtest(right, items).proportion_ci(method="wilson")
    low, high = wilson_interval(right, items)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= right / items <= high <= 1


def test_wilson_of_nothing_right_starts_at_zero_exactly() -> None:
    assert wilson_interval(0, 50).low == 0.0
    assert wilson_interval(50, 50).high == 1.0


@pytest.mark.parametrize(
    ("first_only", "second_only", "p_value"),
    # The last two are GPT-4V on SugarCrepe add_att and replace_att, positive or negative first.
    [(1, 9, 0.021484375), (5, 5, 1.0), (0, 3, 0.25), (10, 72, 1.02e-12), (25, 31, 0.504)],
)
def test_mcnemar_gives_known_values(first_only: int, second_only: int, p_value: float) -> None:
    outcomes = [(True, True)] * 4 + [(True, False)] * first_only + [(False, True)] * second_only
    first = {str(k): a for k, (a, _) in enumerate(outcomes)}
    second = {str(k): b for k, (_, b) in enumerate(outcomes)}
    result = mcnemar_exact(first, second)
    assert isinstance(result, Comparison)
    assert result[:2] == (first_only, second_only)
    assert result.p_value == pytest.approx(p_value, rel=5e-3)


def test_copies_of_items_in_their_group_prove_nothing_more() -> None:
    first = {str(k): k % 3 == 0 for k in range(20)}
    second = {str(k): k % 3 > 0 for k in range(20)}
    alone = mcnemar_exact(first, second)
    copied = [{f"{k}/{n}": v for k, v in s.items() for n in range(5)} for s in (first, second)]
    grouped = mcnemar_exact(*copied, {item: item.partition("/")[0] for item in copied[0]})
    assert isinstance(alone, Comparison)
    assert isinstance(grouped, Comparison)
    assert grouped == (5 * alone.first_only, 5 * alone.second_only, pytest.approx(alone.p_value))
    assert alone.p_value == pytest.approx(binomtest(7, 20).pvalue)
    independent = mcnemar_exact(*copied)
    assert isinstance(independent, Comparison)
    assert independent.p_value < alone.p_value / 10


def test_differences_that_cancel_within_each_group_are_none() -> None:
    first, second = {"a": True, "b": False}, {"a": False, "b": True}
    assert mcnemar_exact(first, second, {"a": "g", "b": "g"}) == (1, 1, 1.0)


def test_mcnemar_refuses_unequal_items() -> None:
    with pytest.raises(EvaluationError, match="'b'"):
        mcnemar_exact({"a": True, "b": True}, {"a": False})


def test_holm_steps_down_and_never_reorders() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06}
    )
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_detectable_difference_shrinks_with_the_root_of_n() -> None:
    small, large = detectable_difference(100), detectable_difference(400)
    # 2.8016 * sqrt(2 * 0.25 / 100)
    assert small == pytest.approx(0.1981, abs=1e-4)
    assert large == pytest.approx(small / 2)
