import numpy as np
import pytest
from scipy.special import softmax

from genvlm.errors import EvaluationError
from genvlm.evaluation import probes
from genvlm.evaluation.probes import (
    GRADIENT_TOLERANCE,
    choose_strength,
    fit_probe,
    probe_hits,
)

CLASSES = 5


def blobs(seed: int = 0, *, num: int = 8, width: int = 20, spread: float = 0.3) -> tuple[
    np.ndarray, np.ndarray
]:  # fmt: skip
    """Clouds around one centre for each class, with an offset and a scale of its own a feature."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(CLASSES, width))
    labels = np.arange(CLASSES * num) % CLASSES
    values = centres[labels] + spread * rng.normal(size=(len(labels), width))
    return values * np.geomspace(1e-3, 1e3, width) + 7, labels


def test_classes_that_lie_apart_are_told_apart_whatever_the_scale_of_features() -> None:
    (features, labels), (others, of_others) = blobs(0), blobs(1)
    assert probe_hits(fit_probe(features, labels, CLASSES, 1e-3), others, of_others).all()


def test_labels_that_mean_nothing_leave_chance() -> None:
    rng = np.random.default_rng(0)
    features, labels = blobs(num=20)
    hits = [
        probe_hits(fit_probe(features, rng.permutation(labels), CLASSES, 1e-2), *blobs(k, num=20))
        for k in range(1, 9)
    ]
    # Answers of one probe to one class hang together: 40 independent ones, three standard errors.
    assert np.mean(hits) == pytest.approx(1 / CLASSES, abs=0.19)


@pytest.mark.parametrize("width", [20, 300])
@pytest.mark.parametrize("strength", [1e-6, 1e-2])
def test_the_gradient_at_the_optimum_is_zero(width: int, strength: float) -> None:
    features, labels = blobs(width=width, spread=2)
    probe = fit_probe(features, labels, CLASSES, strength)
    rows = (features - probe.mean) / probe.scale
    assert np.square(rows).sum(1).mean() == pytest.approx(1)
    errors = softmax(rows @ probe.weight.T + probe.bias, axis=1) - np.eye(CLASSES)[labels]
    of_weight = errors.T @ rows / len(rows) + strength * probe.weight
    assert abs(of_weight).max() < 10 * GRADIENT_TOLERANCE
    assert abs(errors.mean(0)).max() < 10 * GRADIENT_TOLERANCE
    assert abs(probe.weight).max() > 0.1


def test_the_same_rows_give_the_same_probe_and_their_order_hardly_another() -> None:
    features, labels = blobs(spread=1)
    first, same = (fit_probe(features, labels, CLASSES, 1e-2) for _ in range(2))
    np.testing.assert_array_equal(first.weight, same.weight)
    turned = fit_probe(features[::-1], labels[::-1], CLASSES, 1e-2)
    np.testing.assert_allclose(first.weight, turned.weight, atol=1e-4)


def test_a_feature_that_never_changes_says_nothing() -> None:
    features, labels = blobs()
    padded = np.concatenate([features, np.full((len(features), 1), 0.1)], 1)
    probe = fit_probe(padded, labels, CLASSES, 1e-2)
    far = padded.copy()
    far[:, -1] = 1e6
    np.testing.assert_allclose(probe.log_probs(far), probe.log_probs(padded))


def test_a_constant_probe_hits_nothing() -> None:
    features, labels = np.ones((10, 3)), np.arange(10) % CLASSES
    probe = fit_probe(features, labels, CLASSES, 1e-2)
    assert not probe_hits(probe, features, labels).any()


def test_the_strength_is_what_serves_the_held_out_rows_best() -> None:
    features, labels = blobs(spread=3)
    even = np.arange(len(labels)) // CLASSES % 2 == 0
    folds = [(even, ~even), (~even, even)]
    grid = (1e-6, 1e-2, 1e-1, 1.0)
    chosen = choose_strength(features, labels, folds, CLASSES, grid)

    def held_out(strength: float) -> float:
        found = []
        for fitted, judged in folds:
            probe = fit_probe(features[fitted], labels[fitted], CLASSES, strength)
            log_probs = probe.log_probs(features[judged])
            found.append(log_probs[np.arange(len(log_probs)), labels[judged]].mean())
        return float(np.mean(found))

    assert chosen == max(grid, key=held_out)
    assert chosen not in (grid[0], grid[-1])
    with pytest.raises(EvaluationError, match="nothing is"):
        choose_strength(features, labels, [], CLASSES)


def test_features_and_labels_that_fit_no_probe_are_refused() -> None:
    features, labels = blobs()
    with pytest.raises(EvaluationError, match="labels 0 to 4 do not fit 3 classes"):
        fit_probe(features, labels, 3, 1.0)
    with pytest.raises(EvaluationError, match="40 rows, 39"):
        fit_probe(features, labels[1:], CLASSES, 1.0)
    features[3, 2] = np.nan
    with pytest.raises(EvaluationError, match="features of picture 3 are not finite"):
        fit_probe(features, labels, CLASSES, 1.0)


def test_a_fit_that_was_stopped_early_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_MAX_ITERATIONS", 3)
    with pytest.raises(EvaluationError, match="strength 1e-06 did not converge: its gradient is"):
        fit_probe(*blobs(), CLASSES, 1e-6)
