"""Labelled pictures: numbers, halves and the page."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax

from genvlm.errors import ConfigError
from genvlm.evaluation.calibration import expected_calibration_error
from genvlm.evaluation.statistics import Undefined
from genvlm.scoring.zero_shot import Posterior
from genvlm.studies.classification import (
    Classified,
    list_items,
    most_confused,
    right_classes,
    summarize,
    temper,
)
from genvlm.studies.classification_report import save_classification
from genvlm.studies.halves import split_in_halves

NUM, CLASSES = 60, ["cow", "fox", "<b>ant</b>"]


def classified(sharpness: float = 4.0, num: int = NUM, wrong: float = 0.3) -> Classified:
    """Likelihoods that favour the right class or, for a share of pictures, the next one."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 3, num)
    favoured = np.where(rng.random(num) < wrong, (right + 1) % 3, right)
    likelihoods = sharpness * np.eye(3)[favoured] + rng.normal(0, 0.1, (num, 3)) - 50
    return Classified(
        keys=[f"{i}.png" for i in range(num)],
        right=right,
        classes=CLASSES,
        posterior=Posterior(log_softmax(likelihoods, axis=1), likelihoods),
        log_prior=np.zeros(3),
        settings={"scorer": "log p(image | text)", "copies": 1},
    )


def images(num: int = NUM) -> list[np.ndarray]:
    return [np.full((8, 8, 3), i % 255, np.uint8) for i in range(num)]


def test_accuracy_top_k_and_confusions_are_counted() -> None:
    c = classified()
    summary = summarize(c, top=2)
    answers = c.posterior.log_probs.argmax(1)
    assert summary["accuracy"]["right"] == (answers == c.right).sum()
    assert summary["accuracy"]["n"] == NUM
    low, high = summary["accuracy"]["interval"]
    assert low < summary["accuracy"]["value"] < high
    assert summary["top_k"]["k"] == 2
    assert summary["top_k"]["right"] >= summary["accuracy"]["right"]
    assert c.confusions().sum() == NUM
    for right, answer, count in most_confused(c):
        a, b = CLASSES.index(right), CLASSES.index(answer)
        assert count == ((c.right == a) & (answers == b)).sum() > 0
        assert a != b
    assert summarize(c, top=9)["top_k"] == {
        "k": 3, "value": 100.0, "right": NUM, "n": NUM,
        "interval": summarize(c, top=3)["top_k"]["interval"],
    }  # fmt: skip
    risks = summary["selective"]["risk_at_coverage"]
    assert risks["1"] == pytest.approx(1 - summary["accuracy"]["value"] / 100)


def test_a_temperature_is_fitted_on_one_half_and_calibrates_the_other() -> None:
    c = classified(sharpness=12.0, num=400)
    first, tempered = split_in_halves(c.keys, fitted="x"), temper(c)
    assert tempered.num_fitted == first.sum()
    assert tempered.before.keys == [k for k, f in zip(c.keys, first, strict=True) if not f]
    assert tempered.after is not None
    assert tempered.temperature > 2
    before, after = tempered.errors()
    assert after < before / 2
    expected = expected_calibration_error(c.posterior.log_probs[~first], c.right[~first], 15)
    assert before == expected
    np.testing.assert_array_equal(tempered.before.hits, tempered.after.hits)
    numbers = summarize(c, tempered=tempered)["calibration"]
    assert (numbers["ece_before"], numbers["ece_after"]) == (before, after)


def test_no_temperature_is_fitted_where_every_answer_is_right() -> None:
    c = classified(wrong=0.0)
    tempered = temper(c)
    assert isinstance(tempered.temperature, Undefined)
    assert tempered.errors()[1] is None
    numbers = summarize(c, tempered=tempered)["calibration"]
    assert numbers["temperature"] is None
    assert "no temperature is best" in numbers["reason"]


@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
def test_a_page_and_results_are_written(tmp_path: Path, wrong: float) -> None:
    c = classified(wrong=wrong)
    summary = save_classification(c, images(), tmp_path / "out", top=2)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {k: v for k, v in results.items() if k != "items"} == json.loads(json.dumps(summary))
    assert len(results["items"]) == NUM
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<b>ant</b>" not in page
    assert "&lt;b&gt;ant&lt;/b&gt;" in page
    for title in ("Calibration", "Selective prediction", "What is taken for what"):
        assert title in page
    assert page.count("<svg") + page.count("data:image/svg") >= 3


def test_many_classes_are_shown_as_pairs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    likelihoods = rng.normal(0, 1, (30, 50))
    many = Classified(
        keys=[f"{i}.png" for i in range(30)],
        right=rng.integers(0, 50, 30),
        classes=[f"class {i}" for i in range(50)],
        posterior=Posterior(log_softmax(likelihoods, axis=1), likelihoods),
        log_prior=np.zeros(50),
    )
    save_classification(many, images(30), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "Most confused" in page
    assert "Heat map" not in page


def test_items_tell_the_rank_of_the_right_class() -> None:
    c = classified()
    for item, row, right in zip(list_items(c, 2), c.posterior.log_probs, c.right, strict=True):
        assert item["rank_of_right"] == 1 + (row > row[right]).sum()
        assert len(item["answers"]) == 2
        assert item["answers"][0]["log_posterior"] == row.max()


def test_labels_that_are_no_class_are_named() -> None:
    assert right_classes(["b", "a", "b"], ["a", "b"]).tolist() == [1, 0, 1]
    with pytest.raises(ConfigError, match="2 labels are not in the list of classes, such as 'c'"):
        right_classes(["a", "d", "c"], ["a", "b"])
