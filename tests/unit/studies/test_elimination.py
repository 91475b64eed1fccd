"""Calibration of elimination: measured where nothing was fitted, kept beside the model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.errors import ConfigError
from genvlm.models.pretrained import PretrainedModel, load_pretrained, save_pretrained
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.elimination import Bound, Halving, Race, classify_by_elimination
from genvlm.scoring.zero_shot import classify
from genvlm.studies.elimination import (
    FILE,
    Calibration,
    Task,
    calibrate,
    find_measurement,
    save_calibration,
)
from genvlm.studies.halves import split_in_halves
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained

IMAGES = [image for _, image in tiny_pairs()]
KEYS = [f"{i}.png" for i in range(len(IMAGES))]
TASK = Task(classes=["red bar", "blue bar", "green disc", "odd one"], templates=["{}", "a {}"])


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_pretrained(tiny_pretrained(), folder, "a card")
    return folder


@pytest.fixture(scope="module")
def model(model_folder: Path) -> PretrainedModel:
    return load_pretrained(model_folder)


@pytest.fixture(scope="module")
def calibration(model: PretrainedModel) -> Calibration:
    return calibrate(model, KEYS, IMAGES, TASK)


def test_every_method_is_measured_on_the_half_that_nothing_was_fitted_on(
    model: PretrainedModel, calibration: Calibration
) -> None:
    first = split_in_halves(KEYS, fitted="x")
    assert calibration.num_fitted == first.sum()
    names = [m.name for m in calibration.measured]
    assert names[:2] == ["bound", "race:0"]
    assert {"race:0.05", "halving:2", "halving:8"} <= set(names)
    others = [image for image, fit in zip(IMAGES, first, strict=True) if not fit]
    scorer = LikelihoodScorer(model, "image_given_text")
    best = classify(scorer, others, TASK.classes, templates=TASK.templates).log_probs.argmax(1)
    for m in calibration.measured:
        found = classify_by_elimination(
            model, others, TASK.classes, m.method, templates=TASK.templates
        )
        assert m.flips == (found.ranking[:, 0] != best).sum()
        assert (m.spent, m.num_images) == (found.spent, len(others))
        assert 0 <= m.interval[0] <= m.flips / m.num_images <= m.interval[1] <= 1
        assert m.speedup > 0
    assert calibration.measured[0].flips == 0


def test_what_was_measured_is_found_again_and_the_model_stays_the_same(
    model: PretrainedModel, calibration: Calibration, model_folder: Path
) -> None:
    manifest = (model_folder / "manifest.json").read_bytes()
    path = save_calibration(calibration, TASK, model_folder)
    assert path == model_folder / FILE
    again = load_pretrained(model_folder)
    assert again.fingerprint == model.fingerprint
    assert (model_folder / "manifest.json").read_bytes() == manifest
    measured = {m.name: m for m in calibration.measured}
    for name, stored in (("race", "race:0"), ("halving", "halving:2"), ("race:0.05",) * 2):
        assert find_measurement(name, TASK.key, again.fingerprint, model_folder) == measured[stored]
    race = measured["race:0.05"]
    assert race.threshold is not None
    assert race.method == Race(race.threshold, 8)
    assert measured["halving:4"].method == Halving(4)
    assert measured["bound"].method == Bound(8)
    assert "interval" in race.flip_rate


def test_another_task_model_or_method_was_not_measured(
    model: PretrainedModel, calibration: Calibration, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="run `genvlm classify --calibrate-elimination`"):
        find_measurement("race", TASK.key, model.fingerprint, tmp_path)
    save_calibration(calibration, TASK, tmp_path)
    others = [
        replace(TASK, classes=[*TASK.classes, "more"]),
        replace(TASK, templates=["{}"]),
        replace(TASK, prior=[1, 2, 3, 4]),
    ]
    for task in others:
        with pytest.raises(ConfigError, match="nobody measured"):
            find_measurement("halving:2", task.key, model.fingerprint, tmp_path)
    with pytest.raises(ConfigError, match="nobody measured"):
        find_measurement("race", TASK.key, tiny_pretrained(seed=1).fingerprint, tmp_path)
    with pytest.raises(ConfigError, match=r"race:0\.2 was not measured; choose one of bound"):
        find_measurement("race:0.2", TASK.key, model.fingerprint, tmp_path)


def test_tasks_stand_side_by_side_and_a_damaged_file_is_named(
    calibration: Calibration, tmp_path: Path
) -> None:
    other = replace(TASK, templates=["{}"])
    save_calibration(calibration, TASK, tmp_path)
    save_calibration(replace(calibration, key=other.key), other, tmp_path)
    content = json.loads((tmp_path / FILE).read_text())
    assert set(content["tasks"]) == {TASK.key, other.key}
    for text in ("{", "[]", '{"schema": 9, "tasks": {}}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(ConfigError, match="calibrate anew"):
            save_calibration(calibration, TASK, tmp_path)


def test_a_prior_is_part_of_the_task_up_to_its_scale() -> None:
    keys = [replace(TASK, prior=p, temperature=t).key for p, t in (
        (None, 1.0), (None, 2.0), ([1, 1, 1, 3], 1.0), ([2, 2, 2, 6], 1.0), ([1, 1, 1, 3], 2.0),
    )]  # fmt: skip
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert len(set(keys)) == 3


def test_too_few_pictures_are_refused(model: PretrainedModel) -> None:
    with pytest.raises(ConfigError, match="give more pictures"):
        calibrate(model, KEYS[:1], IMAGES[:1], TASK)


def test_halves_depend_on_the_key_alone() -> None:
    keys = [f"picture {i}" for i in range(200)]
    halves = dict(zip(keys, split_in_halves(keys, fitted="x"), strict=True))
    again = dict(zip(keys[::-1], split_in_halves(keys[::-1], fitted="x"), strict=True))
    assert halves == again
    assert 70 < np.sum(list(halves.values())) < 130
