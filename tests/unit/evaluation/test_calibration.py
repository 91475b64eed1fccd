import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from torchmetrics.functional.classification import multiclass_calibration_error

from genvlm.errors import EvaluationError
from genvlm.evaluation.calibration import (
    apply_temperature,
    area_under_risk_coverage,
    expected_calibration_error,
    fit_temperature,
    risk_coverage,
)
from genvlm.evaluation.statistics import Undefined


def sample(
    num_items: int = 400, num_classes: int = 5, temperature: float = 1.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Posteriors too sharp by `temperature`, and classes drawn from the true ones."""
    rng = np.random.default_rng(seed)
    true = log_softmax(2 * rng.standard_normal((num_items, num_classes)), axis=1)
    classes = np.array([rng.choice(num_classes, p=np.exp(row)) for row in true])
    return log_softmax(true * temperature, axis=1), classes


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(2, 6))
def test_calibration_error_is_that_of_torchmetrics(
    seed: int, num_bins: int, num_classes: int
) -> None:
    log_posteriors, right = sample(60, num_classes, 3.0, seed)
    log_posteriors[:3] = np.log([[1.0] + [1e-300] * (num_classes - 1)])  # confidence exactly 1
    theirs = multiclass_calibration_error(
        torch.tensor(np.exp(log_posteriors)), torch.tensor(right), num_classes, num_bins
    )
    ours = expected_calibration_error(log_posteriors, right, num_bins)
    assert ours == pytest.approx(float(theirs), abs=2e-6)  # theirs is float32


def test_calibration_error_of_a_known_case() -> None:
    # Two items at confidence 0.8, one right; one at 0.6, right.
    log_posteriors = np.log([[0.8, 0.2], [0.2, 0.8], [0.6, 0.4]])
    error = expected_calibration_error(log_posteriors, np.array([0, 0, 0]), 10)
    assert error == pytest.approx((2 * abs(0.5 - 0.8) + abs(1 - 0.6)) / 3)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_undoes_what_sharpened_the_posteriors(sharpness: float) -> None:
    log_posteriors, right = sample(4000, temperature=sharpness)
    temperature = fit_temperature(log_posteriors, right)
    assert isinstance(temperature, float)
    assert temperature == pytest.approx(sharpness, rel=0.1)

    def likelihood(t: float) -> float:
        return float(apply_temperature(log_posteriors, t)[np.arange(len(right)), right].mean())

    assert likelihood(temperature) >= max(likelihood(temperature * f) for f in (0.99, 1.0, 1.01))
    mended = expected_calibration_error(apply_temperature(log_posteriors, temperature), right)
    assert isinstance(mended, float)
    assert mended < 0.04


def test_a_temperature_that_does_not_exist_is_undefined() -> None:
    log_posteriors, _ = sample(20)
    always_right = fit_temperature(log_posteriors, log_posteriors.argmax(axis=1))
    always_wrong = fit_temperature(log_posteriors, log_posteriors.argmin(axis=1))
    assert isinstance(always_right, Undefined)
    assert "no temperature is best" in always_right.reason
    assert isinstance(always_wrong, Undefined)
    assert "no temperature helps" in always_wrong.reason
    uniform = np.log(np.full((3, 4), 0.25))
    assert isinstance(fit_temperature(uniform, np.array([0, 1, 2])), Undefined)


def test_temperature_one_changes_nothing_and_none_changes_the_prediction() -> None:
    log_posteriors, _ = sample(20)
    np.testing.assert_allclose(apply_temperature(log_posteriors, 1.0), log_posteriors)
    softer = apply_temperature(log_posteriors, 4.0)
    np.testing.assert_allclose(np.exp(softer).sum(axis=1), 1)
    assert (softer.argmax(axis=1) == log_posteriors.argmax(axis=1)).all()
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(EvaluationError, match="temperature"):
            apply_temperature(log_posteriors, bad)


def test_risk_falls_when_only_the_confident_items_are_answered() -> None:
    log_posteriors = np.log([[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.7, 0.3]])
    curve = risk_coverage(log_posteriors, np.array([0, 1, 0, 1]))
    assert not isinstance(curve, Undefined)
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 0, 1 / 3, 1 / 2])
    assert area_under_risk_coverage(curve) == pytest.approx((1 / 3 + 1 / 2) / 4)


@given(st.permutations(range(12)))
def test_the_risk_curve_does_not_depend_on_the_order_of_items(order: list[int]) -> None:
    log_posteriors, right = sample(12)
    log_posteriors = np.log(np.round(np.exp(log_posteriors), 1) + 0.01)
    log_posteriors = log_softmax(log_posteriors, axis=1)  # rounded, so that confidences tie
    first, second = (
        risk_coverage(log_posteriors[chosen], right[chosen]) for chosen in (range(12), order)
    )
    assert not isinstance(first, Undefined)
    assert not isinstance(second, Undefined)
    np.testing.assert_allclose(first.risk, second.risk)
    share_wrong = (log_posteriors.argmax(axis=1) != right).mean()
    assert first.risk[-1] == pytest.approx(share_wrong)


def test_equal_confidence_everywhere_risks_the_error_rate() -> None:
    log_posteriors = np.log([[0.7, 0.3]] * 4)
    curve = risk_coverage(log_posteriors, np.array([0, 0, 0, 1]))
    assert not isinstance(curve, Undefined)
    np.testing.assert_allclose(curve.risk, 0.25)


@pytest.mark.parametrize("measure", [expected_calibration_error, fit_temperature, risk_coverage])
def test_no_item_is_undefined_and_bad_input_an_error(measure) -> None:
    good = np.log([[0.5, 0.5], [0.9, 0.1]])
    assert measure(np.empty((0, 3)), np.empty(0, int)) == Undefined("no answered item")
    for log_posteriors, right, message in [
        (good * np.nan, [0, 1], "item number 0 has a log posterior that is NaN"),
        (good, [0], "shapes"),
        (good[0], [0, 1], "shapes"),
        (good + 1, [0, 1], "do not sum to 1"),
        (good, [0, 2], "indices 0 to 1"),
        (good, [-1, 0], "indices 0 to 1"),
        (good, [0.0, 1.0], "indices 0 to 1"),
    ]:
        with pytest.raises(EvaluationError, match=message):
            measure(log_posteriors, np.array(right))
