"""Backbones side by side: numbers by hand from scores made up, files, the page, the script."""

import json
import sys
from dataclasses import fields, replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from genvlm.data.emoji import UNSEEN_VENDOR, class_concepts
from genvlm.data.images import RGBImage
from genvlm.errors import EvaluationError
from genvlm.generation.diffusion import SamplerSettings
from genvlm.models.diffusion.folder import save_diffusion
from genvlm.models.pretrained import save_pretrained
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.diffusion import DiffusionScorer, level_weights
from genvlm.scoring.noise_pairs import nested_levels
from genvlm.scoring.protocols import Grid
from genvlm.studies import backbones
from genvlm.studies.backbones import (
    CONFLICTS,
    VENDORS,
    ScoredDrawings,
    accuracies,
    by_weights,
    calibration,
    conflicts,
    cost_by_classes,
    elimination,
    load_scored,
    paired,
    score_drawings,
    shape_or_colour,
)
from genvlm.studies.backbones_page import write_comparison, write_drawn
from genvlm.studies.halves import split_in_halves
from genvlm.studies.scene_generation import draw_scenes
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained
from genvlm.testing.tiny_diffusion import tiny_diffusion, tiny_diffusion_config

SCRIPT = Path(__file__).parents[3] / "scripts/compare_backbones"
NUM, NUM_SAMPLES, NUM_LEVELS = 100, 4, 8
LEVELS = nested_levels(NUM_SAMPLES, NUM_LEVELS, 0)
CUES = conflicts()[:20]
NUMBERS = {c.id: i for i, c in enumerate(class_concepts())}


def values_of(num_right: int) -> np.ndarray:
    """Scores under which the first drawings are named right and the others by the next class."""
    named = np.arange(NUM)
    named[num_right:] = (named[num_right:] + 1) % NUM
    values = np.zeros((NUM, NUM))
    values[np.arange(NUM), named] = 5.0
    return values


def cue_values() -> np.ndarray:
    """Of 20 conflicts 10 name the shape, 6 the colours, 4 neither, but prefer the shape of both."""
    values = np.zeros((20, NUM))
    for i, cue in enumerate(CUES):
        shape, colour = NUMBERS[cue.shape.id], NUMBERS[cue.colour.id]
        other = next(k for k in range(NUM) if k not in (shape, colour))
        values[i, [shape, colour, other]] = [(3, 2, 1), (2, 3, 1), (2, 1, 3)][(i >= 10) + (i >= 16)]
    return values


@pytest.fixture(scope="module")
def transformer() -> ScoredDrawings:
    rights = dict(zip(VENDORS, (90, 80, 60), strict=True))
    values = {v: values_of(n) for v, n in rights.items()}
    return ScoredDrawings(
        name="transformer", fingerprint="t", device="cpu", seconds_per_image=0.5,
        values=values | {CONFLICTS: cue_values()}, samples={}, levels={},
    )  # fmt: skip


@pytest.fixture(scope="module")
def diffusion() -> ScoredDrawings:
    """Fluent: 40 right by means, and all of them where the bound looks, at the second sample."""
    rng = np.random.default_rng(0)
    samples = {}
    for vendor, right in zip(VENDORS, (70, 70, 40), strict=True):
        drawn = rng.normal(scale=0.1, size=(NUM, NUM, NUM_SAMPLES)).astype(np.float32)
        drawn[:, :, 0] += 4 * values_of(right)
        drawn[:, :, 1] += values_of(NUM)
        samples[vendor] = drawn
    samples[CONFLICTS] = np.repeat(cue_values()[:, :, None], NUM_SAMPLES, 2).astype(np.float32)
    return ScoredDrawings(
        name="diffusion", fingerprint="d", device="cpu", seconds_per_image=2.0,
        values={k: v.mean(2, dtype=np.float64) for k, v in samples.items()},
        samples=samples, levels=dict.fromkeys(samples, LEVELS),
        elbo_weights=(np.arange(NUM_LEVELS) == LEVELS[1]).astype(float),
    )  # fmt: skip


def assert_same(found: ScoredDrawings, expected: ScoredDrawings) -> None:
    for field in fields(ScoredDrawings):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, dict):
            assert one.keys() == other.keys()
            for key, array in other.items():
                np.testing.assert_array_equal(one[key], array)
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["scores.npz", "sub/folder/scores"])
def test_scores_are_read_as_written_under_the_name_that_was_given(
    name: str, tmp_path: Path, transformer: ScoredDrawings, diffusion: ScoredDrawings
) -> None:
    path = tmp_path / name
    for scored in (transformer, diffusion):
        scored.save(path)
        assert_same(load_scored(path), scored)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_another_file_is_refused(tmp_path: Path, transformer: ScoredDrawings) -> None:
    path = tmp_path / "scores.npz"
    transformer.save(path)
    whole = path.read_bytes()
    array = tmp_path / "array.npy"
    np.save(array, np.zeros(3))
    for damage in (b"", b"no archive", whole[: len(whole) // 2], array.read_bytes()):
        path.write_bytes(damage)
        with pytest.raises(EvaluationError, match="holds no scores of drawings"):
            load_scored(path)
    for about in ("{}", "[]", '{"name": "x"}'):
        np.savez(path, about=np.array(about))
        with pytest.raises(EvaluationError, match="holds no scores of drawings"):
            load_scored(path)
    with pytest.raises(EvaluationError, match="holds no scores"):
        load_scored(tmp_path / "none.npz")


def test_accuracy_is_the_share_of_rows_whose_own_class_is_best(transformer: ScoredDrawings) -> None:
    found = accuracies(transformer)
    assert [found[v]["right"] for v in VENDORS] == [90, 80, 60]
    assert found[UNSEEN_VENDOR]["value"] == 60.0


def test_cues_are_counted_by_what_is_named_and_by_what_is_preferred(
    transformer: ScoredDrawings,
) -> None:
    found = shape_or_colour(transformer)
    counts = {name: (share["right"], share["n"]) for name, share in found.items()}
    assert counts == {
        "shape": (10, 20), "colour": (6, 20), "shape_bias": (10, 16), "shape_of_two": (14, 20),
    }  # fmt: skip


def test_pairs_of_models_are_compared_on_the_same_drawings(
    transformer: ScoredDrawings, diffusion: ScoredDrawings
) -> None:
    # The first 60 against the first 40: 20 that only the transformer names, p 2 / 2^20.
    found = paired(diffusion, transformer, UNSEEN_VENDOR)
    assert (found["only_first"], found["only_second"]) == (0, 20)
    assert found["p"] == pytest.approx(2**-19)
    assert paired(diffusion, diffusion, UNSEEN_VENDOR)["p"] == 1


def test_losses_have_no_calibration_before_a_temperature(
    transformer: ScoredDrawings, diffusion: ScoredDrawings
) -> None:
    of_losses, of_nats = calibration(diffusion), calibration(transformer)
    assert of_losses["before"] is None
    assert of_losses["after"] is not None
    # Every answer has the same confidence; its error is measured on one half of the drawings.
    confidence = np.exp(5) / (np.exp(5) + NUM - 1)
    fitted = split_in_halves([c.id for c in class_concepts()], fitted="a temperature")
    right = (np.arange(NUM) < 60)[~fitted].mean()
    assert of_nats["before"] == pytest.approx(abs(right - confidence))
    # The temperature makes it the share of right answers of the other half.
    other = (np.arange(NUM) < 60)[fitted].mean()
    assert of_nats["after"] == pytest.approx(abs(right - other), abs=1e-3)


def test_weights_of_levels_are_judged_on_the_same_samples(diffusion: ScoredDrawings) -> None:
    found = by_weights(diffusion)
    right = {name: share["right"] for name, share in found["right"].items()}
    assert right["squared_error"] == 40
    assert right["elbo"] == 100
    assert right["learned"] == 100  # training vendors tell that the second sample says most
    assert found["right_by_num_samples"] == {1: 40, 2: 40, 4: 40}


def test_evaluations_of_each_way_are_counted_by_class_and_sample(
    diffusion: ScoredDrawings,
) -> None:
    ways = {row["way"]: row for row in elimination(diffusion)}
    assert ways["exhaustive"]["evaluations"] == NUM * NUM_SAMPLES
    assert ways["exhaustive"]["changed"] == 0
    assert {row["n"] for row in ways.values()} == {3 * NUM}
    for row in ways.values():
        assert list(row["by_vendor"]) == list(VENDORS)
        assert sum(v["changed"] for v in row["by_vendor"].values()) == row["changed"]
    # Stages of 1, 1, 1 and 4 samples: all classes once, then 5 of them thrice.
    for name in ("published schedule", "published schedule, nested"):
        assert ways[name]["evaluations"] == NUM + 5 * 3
    curves = cost_by_classes(diffusion)
    assert curves["exhaustive"] == [(n, n * NUM_SAMPLES) for n in (10, 20, 50, 100)]
    assert curves["published schedule"][-1] == (100, NUM + 5 * 3)
    for curve in curves.values():
        assert all(spent <= n * NUM_SAMPLES for n, spent in curve)


def test_a_page_is_written_of_both_sides(
    transformer: ScoredDrawings, diffusion: ScoredDrawings, tmp_path: Path
) -> None:
    page = write_comparison([transformer], [diffusion], tmp_path / "new")
    results = json.loads((tmp_path / "new/results.json").read_text())
    assert results["transformer"][0]["accuracy"][UNSEEN_VENDOR]["right"] == 60
    assert results["diffusion"][0]["weights"]["right"]["elbo"]["right"] == 100
    assert results["paired"][0]["only_second"] == 20
    text = page.read_text()
    for said in ("60 of 100", "Shape against colour", "Dropping classes", "McNemar p 1.9e-06"):
        assert said in text


def test_sides_cannot_be_exchanged_or_left_out(
    transformer: ScoredDrawings, diffusion: ScoredDrawings, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="scores of a diffusion stand on the other side"):
        write_comparison([diffusion], [transformer], tmp_path)
    with pytest.raises(EvaluationError, match="at least one of each"):
        write_comparison([transformer], [], tmp_path)


def test_drawn_scenes_are_read_at_the_size_of_scenes(tmp_path: Path) -> None:
    settings = SamplerSettings(num_steps=1)
    drawn = draw_scenes(tiny_diffusion(max_tokens=64), settings, num=3)  # draws 8 x 8
    assert [image.shape for image in drawn.images] == [(64, 64, 3)] * 3
    assert (drawn.real.n, drawn.real.relation) == (3, 100.0)
    assert drawn.generated.n == drawn.reconstructed.n == drawn.shuffled.n == 3
    page = write_drawn(drawn, settings, tmp_path / "drawn")
    results = json.loads((tmp_path / "drawn/results.json").read_text())
    assert results["shares"]["generated"]["relation"] == drawn.generated.relation
    assert drawn.scenes[0].caption in page.read_text()


SETS: dict[str, list[RGBImage]] = {
    VENDORS[0]: [image for _, image in tiny_pairs()[:2]],
    CONFLICTS: [tiny_pairs()[2][1]],
}


def test_drawings_are_scored_against_all_labels() -> None:
    scorer = DiffusionScorer(tiny_diffusion(max_tokens=48, num_levels=16), num_samples=2)
    told: list[tuple[int, int]] = []
    found = score_drawings(
        scorer, name="d", device="cpu", sets=SETS, progress=lambda *done: told.append(done)
    )
    labels = [concept.label for concept in class_concepts()]
    for name, images in SETS.items():
        [whole] = scorer.score([Grid(item_id="x", images=images, texts=labels)])
        np.testing.assert_allclose(found.values[name], whole.values, rtol=1e-5)
        assert found.samples[name].shape == (len(images), NUM, 2)
        np.testing.assert_array_equal(found.levels[name], scorer.pairs.levels)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert found.elbo_weights is not None
    np.testing.assert_array_equal(found.elbo_weights, level_weights(scorer.model, "elbo"))
    assert found.fingerprint == scorer.info.fingerprint


def test_scores_of_a_transformer_have_no_samples() -> None:
    scorer = LikelihoodScorer(tiny_pretrained(), "image_given_text")
    found = score_drawings(scorer, name="t", device="cpu", sets={CONFLICTS: SETS[CONFLICTS]})
    assert found.values[CONFLICTS].shape == (1, NUM)
    assert (found.samples, found.levels, found.elbo_weights) == ({}, {}, None)


def test_samples_of_other_weights_are_refused() -> None:
    scorer = DiffusionScorer(tiny_diffusion(), "elbo", num_samples=2)
    with pytest.raises(EvaluationError, match="take squared_error"):
        score_drawings(scorer, name="d", device="cpu", sets=SETS)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("compare_backbones", str(SCRIPT))
    spec = spec_from_loader(loader.name, loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


def call(script: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["compare_backbones", *map(str, words)])
    script.main()


def test_help_names_every_action(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        call(script, monkeypatch, "--help")
    said = capsys.readouterr().out
    assert all(action in said for action in ("score", "report", "scenes"))


def test_the_script_scores_both_kinds_of_folder(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(backbones, "drawing_sets", lambda: SETS)
    save_diffusion(
        tiny_diffusion(max_tokens=48), tiny_diffusion_config(max_tokens=48), tmp_path / "d", "toy"
    )
    save_pretrained(tiny_pretrained(), tmp_path / "t", "toy")
    call(script, monkeypatch, "score", "--model", tmp_path / "t", "--out", tmp_path / "t.npz")
    call(
        script, monkeypatch, "score", "--model", tmp_path / "d", "--num-samples", 2,
        "--out", tmp_path / "d.npz",
    )  # fmt: skip
    assert capsys.readouterr().out.split() == [str(tmp_path / f"{k}.npz") for k in "td"]
    first, second = load_scored(tmp_path / "t.npz"), load_scored(tmp_path / "d.npz")
    assert (first.name, second.name) == ("transformer", "diffusion")
    assert second.samples[CONFLICTS].shape == (1, NUM, 2)


def test_the_script_reports_files_and_says_what_is_wrong_with_them(
    script: ModuleType,
    transformer: ScoredDrawings,
    diffusion: ScoredDrawings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = replace(diffusion, samples={k: v[..., :2] for k, v in diffusion.samples.items()},
                  levels={k: v[:2] for k, v in diffusion.levels.items()})  # fmt: skip
    transformer.save(tmp_path / "t.npz")
    few.save(tmp_path / "d.npz")
    command = ["report", "--transformer", tmp_path / "t.npz", "--out", tmp_path / "page"]
    call(script, monkeypatch, *command, "--diffusion", tmp_path / "d.npz")
    assert capsys.readouterr().out.strip() == str(tmp_path / "page/report.html")
    with pytest.raises(SystemExit, match="holds no scores of drawings"):
        call(script, monkeypatch, *command, "--diffusion", tmp_path / "none.npz")


def test_seeds_without_a_partner_are_refused(
    transformer: ScoredDrawings, diffusion: ScoredDrawings, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match="2 transformers and 1 diffusion models"):
        write_comparison([transformer] * 2, [diffusion], tmp_path)
