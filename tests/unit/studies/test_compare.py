"""Cells of a comparison: equal documents and compute, records that stay, clear refusals."""

import json
import os
import signal
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.config.compare import CompareConfig, CompareEvaluationConfig, CurvesConfig, quick
from genvlm.config.contrastive import ContrastiveTrainConfig, MixtureTokensConfig
from genvlm.config.data import EmojiSource, ScenesSource
from genvlm.config.image_encoder import OwnPatchesConfig
from genvlm.config.kinds import config_class
from genvlm.config.schema import dump_config, load_config, parse_config
from genvlm.config.text_encoder import SmallTextEncoderConfig
from genvlm.config.training import TrainConfig
from genvlm.data.emoji import class_concepts, split_concepts
from genvlm.data.sources import count_visuals
from genvlm.errors import ConfigError, EvaluationError
from genvlm.scoring.contrastive import ContrastiveScorer, DualEncoderEmbedder
from genvlm.scoring.open import METHODS as OF_MODELS
from genvlm.scoring.protocols import Grid
from genvlm.studies.compare import run
from genvlm.studies.compare.asked import HELD_OUT, METHODS, UNSEEN, drawing_sets, is_right
from genvlm.studies.compare.cells import (
    Cell,
    cell_config,
    choose_cells,
    load_recipes,
    plan_cells,
    share_of,
)
from genvlm.studies.compare.compute import decision_cost, tokenizing
from genvlm.studies.compare.frequency import frequencies, frequency_items
from genvlm.studies.compare.run import RECORD_FILE, Told, read_records, run_cells
from genvlm.studies.flops import counting_flops, training_flops
from genvlm.testing.tiny import tiny_train_config
from genvlm.testing.tiny_auxiliary import (
    tiny_contrastive,
    tiny_contrastive_train_config,
    tiny_masked_train_config,
)
from genvlm.testing.tiny_projector import tiny_projector_train_config
from genvlm.tokenization.image import load_image_tokenizer
from genvlm.training.run_folder import read_log
from genvlm.training.steps import Progress
from genvlm.training.stopping import StoppedError

ROOT = Path(__file__).resolve().parents[3]
_FEW = CompareEvaluationConfig(
    num_training=2, num_unseen=2, num_held_out=1, num_scenes=2, num_pairs=2, gallery=2, shots=(1,),
    num_samples=2,
)  # fmt: skip


def _longer(encoder: object) -> SmallTextEncoderConfig:
    assert isinstance(encoder, SmallTextEncoderConfig)
    return replace(encoder, max_tokens=200)  # real labels in pieces of a tiny tokenizer


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> CompareConfig:
    """CLIP and FLAVA on the tiny pairs."""
    folder = tmp_path_factory.mktemp("recipes")
    clip = tiny_contrastive_train_config(folder)
    masked = tiny_masked_train_config(folder)
    recipes = {
        "clip": replace(
            clip, model=replace(clip.model, text_encoder=_longer(clip.model.text_encoder))
        ),
        "masked": replace(
            masked, model=replace(masked.model, text_encoder=_longer(masked.model.text_encoder))
        ),
    }
    for name, recipe in recipes.items():
        (folder / f"{name}.yaml").write_text(dump_config(recipe))
    return CompareConfig(
        recipes={name: str(folder / f"{name}.yaml") for name in recipes},
        training_flops=1e8,
        seeds=(0,),
        evaluation=_FEW,
    )


@pytest.fixture(scope="module")
def done(comparison: CompareConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    run_cells(comparison, out)
    return out


def test_families_train_on_equal_compute_to_half_a_step(
    comparison: CompareConfig, done: Path
) -> None:
    records = read_records(comparison, done)
    assert [c.name for c in records] == ["clip-seed-0", "masked-seed-0"]
    for record in records.values():
        training = record["training"]
        a_step = training["flops"] / training["num_steps"]
        assert abs(training["flops"] - comparison.training_flops) <= a_step / 2
        taken = read_log(done / "cells" / record["cell"]["name"] / "run/log.jsonl")[-1]["step"]
        assert taken == training["num_steps"]
    steps = [r["training"]["num_steps"] for r in records.values()]
    assert steps[0] != steps[1]


def test_a_record_holds_every_question_and_what_each_item_earned(
    comparison: CompareConfig, done: Path
) -> None:
    clip, masked = read_records(comparison, done).values()
    assert set(clip["drawings"]["right"][UNSEEN]) == set(masked["drawings"]["right"][UNSEEN])
    assert list(masked["scenes"]) == ["matching", "pseudo_likelihood", "logit"]
    assert len(clip["scenes"]["logit"]["earned"]["group"]) == 4
    controls = clip["scenes"]["logit"]["controls"]["scores"]
    assert {"blind", "shuffled-image"} <= controls.keys()
    assert set(clip["retrieval"]["image_to_text"]["ranks"].values()) <= {1, 2}
    assert clip["drawings"]["cost"]["flops"] > 0


def test_what_is_recorded_is_not_run_again(comparison: CompareConfig, done: Path) -> None:
    files = sorted(done.rglob("*.json*"))
    before = [file.stat().st_mtime_ns for file in files]
    run_cells(comparison, done)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_what_a_record_lacks_is_asked_of_the_model_that_is_there(
    comparison: CompareConfig, done: Path
) -> None:
    path = done / "cells" / "clip-seed-0" / RECORD_FILE
    whole = path.read_text()
    part = json.loads(whole)
    part.pop("retrieval")
    path.write_text(json.dumps(part))
    weights = next(done.glob("cells/clip-seed-0/run/model/*.safetensors"))
    before = weights.stat().st_mtime_ns
    run_cells(comparison, done)
    assert json.loads(path.read_text()) == json.loads(whole)
    assert weights.stat().st_mtime_ns == before


def test_an_interrupted_training_goes_on_to_the_same_model(
    comparison: CompareConfig, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "sections", lambda cell, config: ())  # trained, and asked nothing

    def stop_at_the_third(record: dict[str, float], num_steps: int) -> None:
        if record["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)

    told = Told(training=lambda: nullcontext(Progress(step=stop_at_the_third)))
    with pytest.raises(StoppedError, match="step 3 by SIGINT; the same command goes on"):
        run_cells(comparison, tmp_path, only=["clip"], told=told)
    assert read_records(comparison, tmp_path) == {}
    run_cells(comparison, tmp_path, only=["clip"])
    (record,) = read_records(comparison, tmp_path).values()
    assert record["training"]["seconds"] is None
    weights = "cells/clip-seed-0/run/model/model.safetensors"
    assert (tmp_path / weights).read_bytes() == (done / weights).read_bytes()


def test_a_projector_joins_models_that_are_trained_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of them write with one language model, and one sees with a contrastive model."""
    language = tiny_train_config(tmp_path)
    (tmp_path / "language.yaml").write_text(
        dump_config(replace(language, model=replace(language.model, context_length=200)))
    )
    projector = tiny_projector_train_config(tmp_path, "genvlm")
    (tmp_path / "projector.yaml").write_text(dump_config(projector))
    own = OwnPatchesConfig(path="runs/clip/model")
    sighted = replace(projector, model=replace(projector.model, image_encoder=own))
    (tmp_path / "sighted.yaml").write_text(dump_config(sighted))
    clip = replace(tiny_contrastive_train_config(tmp_path), data=projector.data)
    (tmp_path / "clip.yaml").write_text(dump_config(clip))
    config = CompareConfig(
        recipes={name: str(tmp_path / f"{name}.yaml") for name in ("projector", "sighted")},
        training_flops=2e7,
        seeds=(0,),
        language_model=str(tmp_path / "language.yaml"),
        image_model=str(tmp_path / "clip.yaml"),
        steps_in_front=2,
        evaluation=_FEW,
    )
    monkeypatch.setattr(run, "sections", lambda cell, config: ())
    out = tmp_path / "out"
    run_cells(config, out)
    blind, seeing = (record["training"] for record in read_records(config, out).values())
    used, other = (
        load_config(type(projector), out / f"cells/{name}-seed-0/run/config.yaml").model
        for name in ("projector", "sighted")
    )
    assert used.language_model.path == str(out / "language_model/model")
    assert used.image_encoder == projector.model.image_encoder
    assert other.image_encoder == OwnPatchesConfig(path=str(out / "image_encoder/model"))
    per_step = training_flops(clip).per_step
    assert seeing["earlier_flops"] == blind["earlier_flops"] + 2 * per_step
    assert blind["earlier_flops"] > 0
    assert blind["frozen_parameters"] > blind["parameters"]
    monkeypatch.chdir(tmp_path)  # where it lies changes nothing
    assert read_records(config, Path("out")).values() != []
    with pytest.raises(EvaluationError, match="another configuration"):
        read_records(replace(config, steps_in_front=3), out)
    alone = replace(config, recipes={"projector": config.recipes["projector"]}, image_model=None)
    assert len(read_records(alone, out)) == 1  # what another recipe sees with is nothing to it
    others = replace(clip, data=tiny_contrastive_train_config(tmp_path / "others").data)
    (tmp_path / "clip.yaml").write_text(dump_config(others))
    with pytest.raises(ConfigError, match=r"clip.yaml learns from other data.sources than"):
        load_recipes(config, out)


def test_a_plan_that_cannot_end_is_refused_before_it_begins(
    comparison: CompareConfig, tmp_path: Path
) -> None:
    curves = CurvesConfig(data_shares=(0.5,), data_recipes=("clip",))
    with pytest.raises(ConfigError, match="kind captions has no shares"):
        run_cells(replace(comparison, curves=curves), tmp_path)
    few = replace(comparison, evaluation=replace(_FEW, gallery=5000))
    with pytest.raises(EvaluationError, match="628 pictures of two icons that are held out"):
        run_cells(few, tmp_path)
    projector = tiny_projector_train_config(tmp_path, "genvlm")
    own = OwnPatchesConfig(path="runs/nowhere/model")
    sighted = replace(projector, model=replace(projector.model, image_encoder=own))
    clip = tiny_contrastive_train_config(tmp_path)
    last = replace(clip, data=projector.data)
    for name, recipe in {"projector": projector, "sighted": sighted, "last": last}.items():
        (tmp_path / f"{name}.yaml").write_text(dump_config(recipe))
    files = {name: str(tmp_path / f"{name}.yaml") for name in ("last", "projector", "sighted")}
    joined = replace(comparison, recipes=files, curves=CurvesConfig())
    with pytest.raises(ConfigError, match="'runs/nowhere/model' is neither a path"):
        run_cells(joined, tmp_path)
    with pytest.raises(ConfigError, match=r"image_model .*projector.yaml trains no image encoder"):
        run_cells(replace(joined, image_model=files["projector"]), tmp_path)
    shares = CurvesConfig(data_shares=(0.5,), data_recipes=("sighted",))
    with pytest.raises(ConfigError, match="holds sighted, which sees with image_model"):
        run_cells(replace(joined, image_model=files["last"], curves=shares), tmp_path)
    assert not list(tmp_path.rglob("run"))
    with pytest.raises(ConfigError, match="training_flops 1000 is less than one step of clip"):
        run_cells(replace(comparison, training_flops=1e3), tmp_path)


@pytest.mark.parametrize(
    "more", [{"training_flops": 3e8}, {"evaluation": replace(_FEW, gallery=4)}]
)
def test_records_of_another_comparison_are_refused(
    comparison: CompareConfig, done: Path, more: dict[str, object]
) -> None:
    with pytest.raises(EvaluationError, match="another configuration than this comparison"):
        read_records(replace(comparison, **more), done)  # type: ignore[arg-type]


def test_a_damaged_record_is_named(comparison: CompareConfig, tmp_path: Path) -> None:
    folder = tmp_path / "cells" / "clip-seed-0"
    folder.mkdir(parents=True)
    (folder / RECORD_FILE).write_text("{")
    with pytest.raises(EvaluationError, match=r"clip-seed-0/record.json is no record of a cell"):
        read_records(comparison, tmp_path)


def test_cells_go_seed_by_seed_and_curves_come_last() -> None:
    config = CompareConfig(
        recipes={"a": "x", "b": "y"},
        training_flops=1.0,
        seeds=(3, 4),
        curves=CurvesConfig(
            data_shares=(0.5,), data_recipes=("b",), batch_sizes=(8,), batch_recipes=("a",)
        ),
    )
    cells = plan_cells(config)
    names = [c.name for c in cells]
    assert names[:4] == ["a-seed-3", "b-seed-3", "a-seed-4", "b-seed-4"]
    assert names[4:] == ["b-seed-3-data-0.5", "a-seed-3-batch-8"]
    assert [c.name for c in choose_cells(cells, ["b-seed-4", "b-seed-3"])] == [
        "b-seed-3",
        "b-seed-4",
    ]
    assert len(choose_cells(cells, ["a"])) == 3
    with pytest.raises(ConfigError, match="no cell 'c': choose one of a, a-seed-3"):
        choose_cells(cells, ["c"])
    assert [c.name for c in plan_cells(quick(config))] == ["a-seed-3", "b-seed-3"]


def test_recipes_of_other_documents_are_refused(comparison: CompareConfig, tmp_path: Path) -> None:
    path = Path(comparison.recipes["masked"])
    recipe = load_config(config_class(path), path)
    other = replace(recipe, data=replace(recipe.data, sources=(ScenesSource(num=5),)))  # type: ignore[union-attr,call-arg,arg-type]
    (tmp_path / "other.yaml").write_text(dump_config(other))
    recipes = comparison.recipes | {"other": str(tmp_path / "other.yaml")}
    with pytest.raises(ConfigError, match=r"other.yaml learns from other data.sources than"):
        load_recipes(replace(comparison, recipes=recipes), Path())


def test_a_recipe_without_embeddings_for_an_index_is_refused(
    comparison: CompareConfig, tmp_path: Path
) -> None:
    clip = load_config(ContrastiveTrainConfig, Path(comparison.recipes["clip"]))
    tokens = MixtureTokensConfig(num_tokens=2, num_heads=1)
    (tmp_path / "llip.yaml").write_text(
        dump_config(replace(clip, model=replace(clip.model, mixture_tokens=tokens)))
    )
    recipes = comparison.recipes | {"llip": str(tmp_path / "llip.yaml")}
    with pytest.raises(ConfigError, match=r"llip.yaml has mixture_tokens"):
        load_recipes(replace(comparison, recipes=recipes), Path())


def test_configurations_that_cannot_be_run_are_refused() -> None:
    good = {"recipes": {"a": "x"}, "training_flops": 1.0, "seeds": [0]}
    for bad, message in (
        ({"recipes": {"../a": "x"}}, "names a folder"),
        ({"seeds": [1, 1]}, "holds one twice"),
        ({"curves": {"data_recipes": ["b"]}}, "name the recipe 'b', which is none of a"),
        ({"curves": {"data_recipes": ["a"]}}, "data_shares and curves.data_recipes go together"),
        (
            {"curves": {"batch_sizes": [2, 2], "batch_recipes": ["a"]}},
            r"curves.batch_sizes \[2, 2\] holds one twice",
        ),
        (
            {"data_share": 0.5, "curves": {"data_shares": [0.5], "data_recipes": ["a"]}},
            "shares of each other",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_config(CompareConfig, good | bad, "compare.yaml")


def test_a_share_of_the_data_is_fewer_scenes_and_fewer_copies(comparison: CompareConfig) -> None:
    scenes = share_of(ScenesSource(num=800), 0.125)
    emoji = share_of(EmojiSource(augmented_copies=7), 0.25)
    assert isinstance(scenes, ScenesSource)
    assert scenes.num == 100
    assert isinstance(emoji, EmojiSource)
    assert emoji.augmented_copies == 1
    with pytest.raises(ConfigError, match=r"0\.25 of 6 versions of a drawing is no whole number"):
        share_of(EmojiSource(augmented_copies=5), 0.25)
    clip = load_recipes(comparison, Path())["clip"]
    with pytest.raises(ConfigError, match="kind captions has no shares"):
        cell_config(Cell(recipe="clip", seed=0, data_share=0.5), clip)
    sized = cell_config(Cell(recipe="clip", seed=5, batch_size=6), clip)
    assert (sized.seed, sized.global_batch_size, sized.micro_batch_size) == (5, 6, 6)
    with pytest.raises(ConfigError, match=r"curves.batch_sizes holds 4, which clip has already"):
        cell_config(Cell(recipe="clip", seed=0, batch_size=4), clip)


def test_shipped_recipes_fit_each_other() -> None:
    config = load_config(CompareConfig, ROOT / "configs/compare/emoji.yaml")
    recipes = load_recipes(config, Path("somewhere"))
    for cell in plan_cells(config):
        cell_config(cell, recipes[cell.recipe])
    assert {r.kind for r in recipes.values()} == METHODS.keys()


def test_every_method_that_is_asked_is_one_of_its_family() -> None:
    for kind, methods in METHODS.items():
        asked = {*methods.drawings, *methods.captions, methods.image_to_text, methods.text_to_image}
        assert asked <= set(OF_MODELS[kind])


def test_drawings_of_held_out_families_are_right_by_any_label_of_their_group() -> None:
    items = drawing_sets(4, 3, 10)[HELD_OUT]
    classes, held_out = class_concepts(), {c.id: c for c in split_concepts(held_out=True)}
    assert len(items) == 10
    for item in items:
        concept = held_out[item.id.partition("-")[2]]
        assert concept.label not in item.grid.texts
        assert {classes[k].group for k in item.target} == {concept.group}
        assert len(item.target) >= 12


def test_a_tie_with_a_wrong_label_is_wrong() -> None:
    row = np.array([1.0, 3.0, 2.0, 3.0])
    assert not is_right(row, 1)
    assert is_right(row, (1, 3))
    assert not is_right(row, (0, 1))


def test_concepts_count_as_named_where_their_label_stands_in_whole_words() -> None:
    concepts = [c for c in split_concepts(held_out=False) if c.label in ("bell", "crown")]
    counts = {" bell ": 3, " bellhop bell ": 2, " doorbell ": 7, " bells ": 9, " crown ": 1}
    by_label = {c.label: frequencies(concepts, counts)[c.id] for c in concepts}
    assert by_label == {"bell": 5, "crown": 1}


def test_pictures_are_counted_as_they_are_tokenised_together() -> None:
    config = load_config(TrainConfig, ROOT / "configs/debug/tiny.yaml")
    tokenizer = load_image_tokenizer(ROOT / config.tokenizers.image)
    with counting_flops() as counter:
        tokenizer.encode([np.zeros((64, 64, 3), np.uint8)] * 64)
    found = tokenizing(config)
    num = sum(count_visuals(source) for source in config.data.sources)  # type: ignore[arg-type]
    assert found.flops == pytest.approx(counter.get_total_flops() / 64 * num)


def test_a_decision_is_counted_with_its_texts_every_time() -> None:
    model = tiny_contrastive()
    grid = drawing_sets(2, 1, 1)[UNSEEN][0].grid
    labels = Grid(item_id="few", images=grid.images, texts=["a bar", "a square", "a corner"])
    remembers = ContrastiveScorer(DualEncoderEmbedder(model))
    remembers.score([labels])
    stale = decision_cost(lambda: remembers, labels).flops
    fresh = [decision_cost(lambda: ContrastiveScorer(DualEncoderEmbedder(model)), labels).flops
             for _ in range(2)]  # fmt: skip
    assert fresh[0] == fresh[1] > 1.2 * stale


def test_frequent_and_rare_concepts_are_asked_against_each_other() -> None:
    concepts = sorted(split_concepts(held_out=False), key=lambda c: c.index)[:200]
    counts = {f" {' '.join(c.label.lower().split())} ": 1 if c.index % 2 else 300 for c in concepts}
    items, found = frequency_items(counts)
    assert sum(n < 32 for n in found.values()) == sum(n >= 128 for n in found.values()) == 50
    assert all(
        item.grid.texts[item.target] == items[0].grid.texts[k] for k, item in enumerate(items)
    )
    assert json.dumps(found)
