"""What is measured of diffusion models: flips of elimination, and learned weights of levels."""

from pathlib import Path

import numpy as np
import pytest

from genvlm.errors import ConfigError
from genvlm.scoring.diffusion import DiffusionScorer
from genvlm.scoring.diffusion_elimination import (
    SequentialTest,
    classify_by_dropping,
    confident_test,
    published_schedule,
)
from genvlm.scoring.zero_shot import classify
from genvlm.studies.diffusion_elimination import (
    calibrate_diffusion,
    calibration_key,
    class_samples,
    method_of,
)
from genvlm.studies.elimination import Calibration, Task, find_measurement, save_calibration
from genvlm.studies.halves import split_in_halves
from genvlm.studies.timestep_weights import fit_and_report
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_diffusion import tiny_diffusion

IMAGES = [image for _, image in tiny_pairs()]
KEYS = [f"{i}.png" for i in range(len(IMAGES))]
TASK = Task(classes=["red bar", "blue bar", "green disc", "odd one"], templates=["{}", "a {}"])
FIRST = split_in_halves(KEYS, fitted="x")
OTHERS = [image for image, fitted in zip(IMAGES, FIRST, strict=True) if not fitted]


@pytest.fixture(scope="module")
def scorer() -> DiffusionScorer:
    return DiffusionScorer(tiny_diffusion(), num_samples=20)


@pytest.fixture(scope="module")
def calibration(scorer: DiffusionScorer) -> Calibration:
    return calibrate_diffusion(scorer, KEYS, IMAGES, TASK)


def test_samples_of_classes_average_to_their_exhaustive_scores(scorer: DiffusionScorer) -> None:
    samples = class_samples(scorer, IMAGES[:3], TASK)
    whole = classify(scorer, IMAGES[:3], TASK.classes, **TASK.settings)
    np.testing.assert_allclose(samples.mean(2), whole.log_likelihoods, atol=1e-6)


def test_replays_are_what_the_network_would_have_answered(
    scorer: DiffusionScorer, calibration: Calibration
) -> None:
    assert calibration.num_fitted == FIRST.sum()
    assert [m.name for m in calibration.measured] == [
        "published", "published-nested", "sequential", "sequential:0", "sequential:0.01",
        "sequential:0.05",
    ]  # fmt: skip
    best = classify(scorer, OTHERS, TASK.classes, **TASK.settings).log_probs.argmax(1)
    for m in calibration.measured:
        method = method_of(m, 4)
        found = classify_by_dropping(scorer, OTHERS, TASK.classes, method, **TASK.settings)
        assert m.flips == (found.ranking[:, 0] != best).sum()
        assert (m.spent, m.num_images, m.parts) == (found.spent, len(OTHERS), 20)
        assert m.speedup == 1 / m.spent
    methods = [method_of(m, 4) for m in calibration.measured]
    assert methods[0] == published_schedule(4, 20)
    assert methods[1] == published_schedule(4, 20, nested=True)
    assert methods[2] == confident_test(0.99, 4, 20)
    assert isinstance(methods[3], SequentialTest)


def test_a_calibration_is_found_for_its_scorer_and_task_alone(
    scorer: DiffusionScorer, calibration: Calibration, tmp_path: Path
) -> None:
    save_calibration(calibration, TASK, tmp_path)
    key = calibration_key(scorer, TASK)
    found = find_measurement("sequential:0.01", key, scorer.info.fingerprint, tmp_path)
    assert found == calibration.measured[4]
    other = DiffusionScorer(scorer.model, num_samples=20, seed=1)
    with pytest.raises(ConfigError, match="nobody measured"):
        find_measurement(
            "sequential", calibration_key(other, TASK), other.info.fingerprint, tmp_path
        )
    with pytest.raises(ConfigError, match="race:0 was not measured; choose one of published"):
        find_measurement("race", key, scorer.info.fingerprint, tmp_path)


def test_weights_are_fitted_on_one_half_and_reported_on_the_other(
    scorer: DiffusionScorer,
) -> None:
    right = np.arange(len(IMAGES)) % 4
    fitted = fit_and_report(
        DiffusionScorer(scorer.model, num_samples=40), KEYS, IMAGES, TASK, right
    )
    assert fitted.weights.num_images == FIRST.sum()
    assert fitted.weights.model == scorer.model.fingerprint
    assert {share["n"] for share in fitted.right.values()} == {len(OTHERS)}
    for method, weights in (("squared_error", None), ("learned", fitted.weights)):
        one = DiffusionScorer(scorer.model, method, num_samples=40, weights=weights)
        best = classify(one, OTHERS, TASK.classes, **TASK.settings).log_probs.argmax(1)
        assert fitted.right[method]["right"] == (best == right[~FIRST]).sum()
    assert "elbo" in fitted.right


def test_too_few_pictures_are_refused(scorer: DiffusionScorer) -> None:
    with pytest.raises(ConfigError, match="give more pictures"):
        calibrate_diffusion(scorer, KEYS[:1], IMAGES[:1], TASK)
    with pytest.raises(ConfigError, match="give more pictures"):
        fit_and_report(scorer, KEYS[:1], IMAGES[:1], TASK, np.zeros(1, int))
