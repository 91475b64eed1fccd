"""Gaussian data with the optimal denoiser: the estimate is the closed form, and near log p."""

import numpy as np
import pytest

from genvlm.config.diffusion import Prediction, ScheduleKind
from genvlm.evaluation.statistics import Undefined, wilson_interval
from genvlm.models.diffusion.schedule import build_schedule
from genvlm.scoring.diffusion import DiffusionScorer
from genvlm.scoring.protocols import Grid
from genvlm.scoring.zero_shot import classify
from genvlm.testing.gaussian_bound import (
    bound_gaps,
    chain_bound,
    log_density,
    log_linear_schedule,
)
from genvlm.testing.gaussian_diffusion import class_text, gaussian_diffusion, picture_of

RNG = np.random.default_rng(0)
MEANS, DEVIATIONS = RNG.normal(size=(2, 4)), RNG.uniform(0.3, 1.2, (2, 4))
X = MEANS + DEVIATIONS * RNG.normal(size=(2, 4))
TEXTS = [class_text(0), class_text(1)]


def stratified_errors(samples: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Standard errors of means whose levels are spread evenly: within levels alone."""
    numbers = np.unique(levels)
    by_level = [samples[..., levels == t].astype(np.float64) for t in numbers]
    variances = [s.var(-1, ddof=1) / s.shape[-1] for s in by_level]
    return np.sqrt(np.sum(variances, axis=0)) / len(numbers)


@pytest.mark.parametrize(
    ("kind", "prediction"),
    [
        ("linear", "epsilon"),
        ("linear", "v_prediction"),
        ("cosine", "epsilon"),
        ("cosine", "v_prediction"),
        ("flow", "flow"),
        ("flow", "v_prediction"),
    ],
)
def test_the_estimate_is_the_closed_form_within_three_standard_errors(
    kind: ScheduleKind, prediction: Prediction
) -> None:
    # Betas of a linear schedule do not grow when levels are fewer: with 8 it would stay clean.
    schedule = build_schedule(kind, 100 if kind == "linear" else 8)
    model = gaussian_diffusion(MEANS, DEVIATIONS, schedule, prediction)
    scorer = DiffusionScorer(model, "elbo", num_samples=8192 if kind == "linear" else 4096)
    assert scorer.info.unit == "bound_nats"
    images = [picture_of(x) for x in X]
    [scores] = scorer.score([Grid(item_id="a", images=images, texts=TEXTS)])
    expected = np.array(
        [
            [chain_bound(x, m, s, schedule) for m, s in zip(MEANS, DEVIATIONS, strict=True)]
            for x in X
        ]
    )
    errors = stratified_errors(scores.samples, scorer.pairs.levels)
    assert (errors < 0.8).all()  # or three of them would say little
    assert (np.abs(scores.values - expected) < 3 * errors).all()
    # Of what decides, the difference of two texts at the same pairs, less is uncertain.
    differences = scores.samples[:, 0] - scores.samples[:, 1]
    errors = stratified_errors(differences, scorer.pairs.levels)
    found, expected = scores.values[:, 0] - scores.values[:, 1], expected[:, 0] - expected[:, 1]
    assert (errors < 0.25).all()
    assert (np.abs(found - expected) < 3 * errors).all()


def test_the_bound_nears_log_p_as_levels_grow() -> None:
    gaps = []
    for num_levels in (10, 30, 100, 300, 1000):
        schedule = log_linear_schedule(num_levels)
        bound = [chain_bound(x, MEANS[0], DEVIATIONS[0], schedule) for x in X]
        gaps.append(log_density(X, MEANS[0], DEVIATIONS[0]) - bound)
    gaps = np.array(gaps)
    assert (gaps > 0).all()
    assert (np.diff(gaps, axis=0) < 0).all()
    assert gaps[-1].max() < 0.25
    model = gaussian_diffusion(MEANS, DEVIATIONS, log_linear_schedule(1000), "v_prediction")
    scorer = DiffusionScorer(model, "elbo", num_samples=4096)
    [scores] = scorer.score([Grid(item_id="a", images=[picture_of(X[0])], texts=TEXTS[:1])])
    error = scores.samples.std() / 64
    assert abs(scores.values[0, 0] - log_density(X[0], MEANS[0], DEVIATIONS[0])) < 3 * error + 0.25


def test_a_straight_flow_never_comes_nearer_than_its_first_steps() -> None:
    """Its first levels double the noise however many there are: Euler's constant + pi^2 / 12."""
    gaps = bound_gaps([build_schedule("flow", n) for n in (30, 300, 1000)], num_draws=50)
    assert gaps == sorted(gaps, reverse=True)
    assert abs(gaps[-1] - (np.euler_gamma + np.pi**2 / 12)) < 0.02


def test_two_gaussian_classes_are_told_apart_as_bayes_would() -> None:
    """Means two deviations apart: Bayes' rule errs for 15.9 %."""
    means = np.array([[-1.0, 0.0], [1.0, 0.0]])
    model = gaussian_diffusion(means, np.ones((2, 2)), log_linear_schedule(200), "v_prediction")
    right = np.arange(500) % 2
    x = means[right] + np.random.default_rng(1).normal(size=(500, 2))
    scorer = DiffusionScorer(model, "elbo", num_samples=64)
    posterior = classify(scorer, [picture_of(row) for row in x], TEXTS)
    wrong = int((posterior.log_probs.argmax(1) != right).sum())
    interval = wilson_interval(wrong, len(x))
    assert not isinstance(interval, Undefined)
    assert interval.low < 0.1587 < interval.high
    exact = np.stack([log_density(x, m, np.ones(2)) for m in means], 1)
    by_bayes = exact.argmax(1)
    assert (posterior.log_probs.argmax(1) == by_bayes).mean() > 0.92
    # Its odds are those of Bayes' rule too, not only its answers.
    odds, found = np.diff(exact)[:, 0], np.diff(posterior.log_probs)[:, 0]
    assert abs(np.polyfit(odds, found, 1)[0] - 1) < 0.1


def test_the_empty_text_is_the_mixture_of_classes() -> None:
    model = gaussian_diffusion(MEANS, DEVIATIONS, log_linear_schedule(300), "epsilon")
    scorer = DiffusionScorer(model, "elbo", num_samples=2048)
    [scores] = scorer.score([Grid(item_id="a", images=[picture_of(X[0])], texts=[*TEXTS, ""])])
    of_classes = [log_density(X[0], m, s) for m, s in zip(MEANS, DEVIATIONS, strict=True)]
    differences = scores.samples[0, 2] - scores.samples[0, 0]
    expected = np.logaddexp(*of_classes) - np.log(2) - of_classes[0]
    assert abs(differences.mean() - expected) < 3 * differences.std() / np.sqrt(2048) + 0.2
