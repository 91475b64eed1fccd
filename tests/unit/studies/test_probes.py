"""Few-shot probes of unseen concepts, and `genvlm eval probes`."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from genvlm.cli.main import main
from genvlm.data.emoji import TRAINING_VENDORS, UNSEEN_VENDOR, load_drawings, near_duplicates
from genvlm.data.images import RGBImage, image_digest
from genvlm.errors import EvaluationError
from genvlm.models.pretrained import save_pretrained
from genvlm.scoring.features import pixel_features
from genvlm.studies import probes
from genvlm.studies.probes import draw_shots, few_shot, probe_concepts
from genvlm.testing.tiny import tiny_pretrained

CONCEPTS = probe_concepts(8)


def test_concepts_are_of_unseen_families_and_look_different() -> None:
    concepts = probe_concepts()
    assert len({c.id for c in concepts}) == 100
    assert all(c.held_out for c in concepts)
    for vendor in (*TRAINING_VENDORS, UNSEEN_VENDOR):
        assert not near_duplicates(vendor, concepts)
    assert probe_concepts(8) == concepts[:8]
    with pytest.raises(EvaluationError, match=r"2 to \d+ concepts apart, not 1$"):
        probe_concepts(1)


def test_shots_are_drawings_of_the_training_vendors_and_then_moved_copies() -> None:
    shots = draw_shots(CONCEPTS, 4)
    index = [c.index for c in CONCEPTS]
    for shot, vendor in zip(shots, TRAINING_VENDORS, strict=False):
        np.testing.assert_array_equal(shot, load_drawings(vendor)[index])
    assert len({image_digest(image) for shot in shots for image in shot}) == 4 * len(CONCEPTS)
    unseen = {image_digest(image) for image in load_drawings(UNSEEN_VENDOR)}
    assert not unseen & {image_digest(image) for shot in shots for image in shot}
    for shot, same in zip(shots, draw_shots(CONCEPTS, 6), strict=False):
        np.testing.assert_array_equal(shot, same)
    assert (draw_shots(CONCEPTS, 3, seed=1)[2] != shots[2]).any()


class Lookup:
    """Features that know the concept of every picture of the task, whoever drew it."""

    def __init__(self, num_shots: int) -> None:
        drawn = draw_shots(CONCEPTS, num_shots)
        drawn.append(load_drawings(UNSEEN_VENDOR)[[c.index for c in CONCEPTS]])
        self._known = {image_digest(i): k for shot in drawn for k, i in enumerate(shot)}

    def __call__(self, images: Sequence[RGBImage]) -> np.ndarray:
        return np.eye(len(CONCEPTS), dtype=np.float32)[
            [self._known[image_digest(i)] for i in images]
        ]


def test_features_that_tell_concepts_apart_reach_all_and_empty_ones_nothing() -> None:
    for probe in few_shot(Lookup(3), CONCEPTS, [1, 2, 3]):
        assert probe.accuracy == 100
        assert list(probe.hits) == [c.id for c in CONCEPTS]
        assert probe.chance == 12.5
    (constant,) = few_shot(lambda images: np.ones((len(images), 3), np.float32), CONCEPTS, [2])
    assert constant.accuracy == 0
    assert constant.interval == (0, pytest.approx(32.4, abs=0.1))


def test_features_without_meaning_are_at_chance() -> None:
    concepts = probe_concepts(12)

    def noise(images: Sequence[RGBImage]) -> np.ndarray:
        seeds = [int.from_bytes(image_digest(i)[-12:].encode()) for i in images]
        rows = [np.random.default_rng(seed).normal(size=10) for seed in seeds]
        return np.array(rows, np.float32)

    (probe,) = few_shot(noise, concepts, [2])
    # 12 answers at 8.3 %: more than 4 right have a probability of 0.2 %.
    assert sum(probe.hits.values()) <= 4


def test_a_number_of_shots_has_the_same_probe_whatever_else_is_asked() -> None:
    read, concepts = pixel_features(4).features, CONCEPTS[:4]
    together = few_shot(read, concepts, [1, 3])
    assert together == [few_shot(read, concepts, [k])[0] for k in (1, 3)]
    assert {p.num_shots for p in together} == {1, 3}
    with pytest.raises(EvaluationError, match="at least one shot"):
        few_shot(read, CONCEPTS, [0, 1])


def test_the_strength_is_chosen_without_the_unseen_vendor() -> None:
    unseen = {image_digest(image) for image in load_drawings(UNSEEN_VENDOR)}
    read, concepts = pixel_features(4).features, CONCEPTS[:4]

    def spoiled(images: Sequence[RGBImage]) -> np.ndarray:
        found = read(images)
        found[[image_digest(image) in unseen for image in images]] *= -3
        return found

    plain, other = few_shot(read, concepts, [2]), few_shot(spoiled, concepts, [2])
    assert [p.strength for p in plain] == [p.strength for p in other]
    assert [p.hits for p in plain] != [p.hits for p in other]


def test_the_strength_is_judged_by_drawings_of_the_vendor_that_was_not_fitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shots = draw_shots(CONCEPTS, 4)
    shot_of = {image_digest(image): k for k, shot in enumerate(shots) for image in shot}
    seen: list[list[tuple[set[float], set[float]]]] = []

    def read(images: Sequence[RGBImage]) -> np.ndarray:
        return np.array([[shot_of.get(image_digest(image), -1)] for image in images], np.float32)

    def record(features: np.ndarray, labels: np.ndarray, folds: list, num_classes: int) -> float:
        assert labels.tolist() == [*range(8)] * (len(features) // 8)
        seen.append([(set(features[a, 0]), set(features[b, 0])) for a, b in folds])
        return 1.0

    monkeypatch.setattr(probes, "choose_strength", record)
    few_shot(read, CONCEPTS, [1, 4])
    # Of one shot a moved copy judges: shot 2 is shot 0, moved. Even shots are of one vendor.
    assert seen == [[({0}, {2})], [({1, 3}, {0, 2}), ({0, 2}, {1, 3})]]


def test_the_command_writes_what_each_probe_got_right(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pretrained(tiny_pretrained(), tmp_path / "model", "A toy.\n")
    command = ["eval", "probes", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    command += ["--num", "3", "--shots", "1", "2"]
    assert main([*command, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content == json.loads((tmp_path / "out/results.json").read_text())
    assert content["num_classes"] == 3
    for read in ("model", "pixels"):
        for shots, probe in zip((1, 2), content["features"][read]["probes"], strict=True):
            assert probe["shots"] == shots
            assert probe["accuracy"] == pytest.approx(100 / 3 * sum(probe["hits"].values()))
            assert probe["chance"] == pytest.approx(100 / 3)
    for compared in content["model_against_pixels"]:
        assert "undefined" in compared or 0 < compared["p_value"] <= 1
    assert main([*command, "--shots", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2-shot" in shown
    assert "chance 33.3" in shown
    assert "behind block 1 of 2" in shown
    assert main([*command, "--num", "999"]) == 2
    assert "2 to 165 concepts apart, not 999" in capsys.readouterr().err
