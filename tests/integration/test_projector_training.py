"""Whole runs of projectors at tiny size, by the commands: learning, resuming, scoring, asking."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genvlm.cli.main import main
from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.data import CaptionsSource
from genvlm.config.image_encoder import ForeignPatchesConfig, SmallImageEncoderConfig
from genvlm.config.projector import (
    ProjectorTrainConfig,
)
from genvlm.config.schema import dump_config
from genvlm.data.images import save_image
from genvlm.errors import CheckpointError, DataError, TokenError, TrainingError
from genvlm.models.auxiliary.projector_folder import load_projector
from genvlm.models.text_only import build_language
from genvlm.nn.safetensors_folder import fingerprint_tensors, load_tensors
from genvlm.scoring.blind import UnrelatedImagesScorer
from genvlm.scoring.open import open_answerer, open_scorer
from genvlm.scoring.protocols import Grid, Question
from genvlm.testing.logs import logged
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_projector import (
    tiny_projector_train_config,
    write_tiny_language_model,
    write_tiny_vision_model,
)
from genvlm.training import projector as projector_module
from genvlm.training.projector import train_projector
from genvlm.training.steps import Progress, run_steps
from genvlm.training.stopping import StoppedError

PAIRS = tiny_pairs()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ProjectorTrainConfig:
    return tiny_projector_train_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def learned(config: ProjectorTrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`genvlm train` until captions fit pictures; the run."""
    root = tmp_path_factory.mktemp("learned")
    (root / "mine.yaml").write_text(dump_config(config))
    options = ["--num-steps", "100", "--global-batch-size", "12", "--micro-batch-size", "12"]
    options += ["--checkpoint-every", "100"]
    command = ["train", str(root / "mine.yaml"), "--out", str(root / "run")]
    assert main([*command, *options]) == 0
    return root / "run"


def weights(out: Path) -> str:
    return fingerprint_tensors(load_tensors(out / "model" / "model.safetensors"))


def stop_at(step: int) -> Progress:
    def seen(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    return Progress(step=seen)


# --- learning ------------------------------------------------------------------------------------


def test_a_run_lowers_the_loss_and_ends_in_a_model_folder(learned: Path) -> None:
    losses = [record["loss"] for record in logged(learned)]
    assert losses[0] == logged(learned)[0]["loss_caption"]
    assert np.mean(losses[-10:]) < 0.6 * losses[0]
    model = load_projector(learned / "model", build_language)
    assert model.fingerprint in (learned / "model" / "README.md").read_text()


def test_a_caption_is_likelier_behind_its_own_picture(learned: Path) -> None:
    """By nats, than averaged over unrelated pictures: the blind control."""
    scorer = open_scorer(learned / "model")
    grids = [Grid(item_id=t, images=[image], texts=[t]) for t, image in PAIRS]
    seen = np.array([s.values[0, 0] for s in scorer.score(grids)])
    blind = UnrelatedImagesScorer(scorer, [image for _, image in PAIRS])
    guessed = np.array([s.values[0, 0] for s in blind.score(grids)])
    assert (seen > guessed).sum() >= 9
    assert (seen - guessed).mean() > 0.5


def test_frozen_parts_are_bit_for_bit_what_they_were(
    config: ProjectorTrainConfig, learned: Path
) -> None:
    for name, part in (
        ("language_model/model.safetensors", config.model.language_model),
        ("image_encoder/image.safetensors", config.model.image_encoder),
    ):
        assert not isinstance(part, SmallImageEncoderConfig)
        before = load_tensors(Path(part.path) / Path(name).name)
        after = load_tensors(learned / "model" / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_run_whose_frozen_weights_change_saves_no_model(
    config: ProjectorTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def thawed(*arguments: Any, **named: Any) -> Any:
        arguments[4].language_model.requires_grad_(True)
        return run_steps(*arguments, **named)

    monkeypatch.setattr(projector_module, "run_steps", thawed)
    with pytest.raises(TrainingError, match="frozen weights of the language model changed"):
        train_projector(replace(config, num_steps=2), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_an_image_encoder_learns_to_see_for_a_frozen_language_model(tmp_path: Path) -> None:
    """Frozen, with queries: own captions become likelier than those of other pictures."""
    config = tiny_projector_train_config(tmp_path, "llama", "small", projector="queries")
    config = replace(
        config, num_steps=40, global_batch_size=12, micro_batch_size=12, checkpoint_every=40,
        optimizer=replace(config.optimizer, learning_rate=1e-2),
    )  # fmt: skip
    folder = train_projector(config, tmp_path / "run")
    losses = [record["loss"] for record in logged(tmp_path / "run")]
    assert np.mean(losses[-10:]) < 0.8 * losses[0]
    checkpoint = load_tensors(tmp_path / "run/checkpoints/step-00000040/model.safetensors")
    saved = load_tensors(folder / "model.safetensors")
    trained = {name.removeprefix("projector."): t for name, t in checkpoint.items()}
    assert fingerprint_tensors(saved) == fingerprint_tensors(trained)
    texts = [text for text, _ in PAIRS]
    grids = [Grid(item_id=t, images=[image], texts=texts) for t, image in PAIRS]
    values = np.stack([scores.values[0] for scores in open_scorer(folder).score(grids)])
    own = values.diagonal()
    assert (own > np.roll(values, 1, axis=0).diagonal()).sum() >= 9
    assert (own - values.mean(0)).mean() > 1
    language = load_tensors(Path(config.model.language_model.path) / "model.safetensors")
    kept = load_tensors(folder / "language_model" / "model.safetensors")
    assert fingerprint_tensors(language) == fingerprint_tensors(kept)
    assert not (folder / "image_encoder").exists()


# --- resuming ------------------------------------------------------------------------------------


def test_a_stopped_run_resumes_bitwise(config: ProjectorTrainConfig, tmp_path: Path) -> None:
    config = replace(config, ema_decay=0.9)
    train_projector(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_projector(config, tmp_path / "parts", progress=stop_at(3))
    assert not (tmp_path / "parts" / "model").exists()
    torch.manual_seed(999)
    train_projector(config, tmp_path / "parts", resume=True)
    assert logged(tmp_path / "parts") == logged(tmp_path / "whole")
    assert weights(tmp_path / "parts") == weights(tmp_path / "whole")
    checkpoint = load_tensors(tmp_path / "parts/checkpoints/step-00000008/model.safetensors")
    assert all(name.startswith("projector.") for name in checkpoint)


def test_a_run_goes_on_only_with_the_language_model_it_began_with(tmp_path: Path) -> None:
    config = tiny_projector_train_config(tmp_path / "data")
    with pytest.raises(StoppedError):
        train_projector(config, tmp_path / "run", progress=stop_at(3))
    write_tiny_language_model(Path(config.model.language_model.path), seed=1)
    with pytest.raises(CheckpointError, match="another language model: bring back"):
        train_projector(config, tmp_path / "run", resume=True)


# --- refusals ------------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_said_before_the_first_step(
    config: ProjectorTrainConfig, tmp_path: Path
) -> None:
    seeing = write_tiny_vision_model(tmp_path / "image")
    content = json.loads((seeing / "config.json").read_text())
    assert content["image_size"] == 16
    long = tmp_path / "long"
    shutil.copytree(Path(config.data.sources[0].path), long)  # type: ignore[union-attr]
    lines = (long / "captions.jsonl").read_text()
    (long / "captions.jsonl").write_text(lines.replace("a red bar", "a red bar " + "on " * 60))
    sources = CaptionedDataConfig(sources=(CaptionsSource(path=str(long)),))
    model = replace(config.model, image_encoder=ForeignPatchesConfig(path=str(seeing)))
    with pytest.raises(TokenError, match=r"'a red bar on on.* reads 64: shorten it"):
        train_projector(replace(config, model=model, data=sources), tmp_path / "run")
    with pytest.raises(DataError, match="12 pairs, fewer than global_batch_size 16"):
        train_projector(replace(config, global_batch_size=16), tmp_path / "greedy")
    for out in (tmp_path / "run", tmp_path / "greedy"):
        assert not (out / "log.jsonl").exists()


# --- commands ------------------------------------------------------------------------------------


def test_score_writes_the_projectors_scores(
    config: ProjectorTrainConfig, learned: Path, tmp_path: Path
) -> None:
    pairs = Path(config.data.sources[0].path) / "captions.jsonl"  # type: ignore[union-attr]
    command = ["score", "--model", str(learned / "model"), "--pairs", str(pairs), "--out"]
    assert main([*command, str(tmp_path / "scores.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == [text for text, _ in PAIRS]
    grid = Grid(item_id="a", images=[PAIRS[4][1]], texts=[PAIRS[4][0]])
    (scores,) = open_scorer(learned / "model").score([grid])
    assert rows[4]["score"] == pytest.approx(scores.values[0, 0], abs=1e-4)
    assert (rows[4]["unit"], rows[4]["tokens"]) == ("nats", 8)
    yes = ["--method", "p_yes", "--template", "{image}{text}?"]
    assert main([*command, str(tmp_path / "yes.jsonl"), *yes]) == 0
    assert json.loads((tmp_path / "yes.jsonl").read_text().splitlines()[0])["unit"] == "probability"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--prompt", "Describe it."), "has no image slot: write {image} where"),
        (("--prompt", "{image}{image}"), "has 2 image slots, and one picture"),
        (("--method", "p_yes", "--template", "{text}?"), "has no image slot"),
        (("--method", "p_yes", "--template", "{image}?"), "must hold {text} once"),
        (("--method", "image_given_text"), "choose text_given_image or p_yes"),
    ],
)
def test_prompts_that_do_not_show_one_picture_are_refused(
    options: tuple[str, ...],
    said: str,
    config: ProjectorTrainConfig,
    learned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs = Path(config.data.sources[0].path) / "captions.jsonl"  # type: ignore[union-attr]
    command = ["score", "--model", str(learned / "model"), "--pairs", str(pairs)]
    assert main([*command, "--out", str(tmp_path / "scores.jsonl"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "scores.jsonl").exists()


def test_classify_shares_out_the_probability_of_class_texts(
    config: ProjectorTrainConfig,
    learned: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(config.data.sources[0].path)  # type: ignore[union-attr]
    classes = [text.removesuffix(" on a white page") for text, _ in PAIRS]
    (tmp_path / "classes.txt").write_text("\n".join(classes) + "\n")
    command = ["classify", "--model", str(learned / "model"), "--images", str(folder / "0.png")]
    command += ["--classes", str(tmp_path / "classes.txt"), "--template", "{} on a white page"]
    assert main([*command, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    found = {entry["class"]: entry["log_posterior"] for entry in result["classes"]}
    assert sum(np.exp(list(found.values()))) == pytest.approx(1)
    grid = Grid(item_id="a", images=[PAIRS[0][1]], texts=[text for text, _ in PAIRS])
    values = open_scorer(learned / "model").score([grid])[0].values[0]
    expected = values - np.logaddexp.reduce(values)
    assert [found[name] for name in classes] == pytest.approx(expected.tolist(), abs=1e-4)
    assert set(result["classes"][0]) == {"class", "log_posterior", "log_p_class_given_image"}
    assert main([*command, "--bfloat16"]) == 2
    assert "log p(image | class), which this model lacks" in capsys.readouterr().err


def test_eval_run_takes_a_projector_with_its_controls(
    learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, image in PAIRS[:6]:
        folder = tmp_path / "data" / text.split()[1]  # by colour
        folder.mkdir(parents=True, exist_ok=True)
        save_image(image, folder / f"{text}.png")
    (tmp_path / "data" / "template.txt").write_text("a {} bar on a white page\n")
    command = ["eval", "run", "imagefolder", "--model", str(learned / "model"), "--json"]
    command += ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["coverage"]["answered"] == summary["coverage"]["expected"] == 6
    assert {"blind", "shuffled-image"} <= summary["controls"]["scores"].keys()
    assert main([*command, "--method", "cosine"]) == 2


def test_a_run_has_a_report(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(learned)]) == 0
    assert "<title>A projector: run</title>" in (learned / "report.html").read_text()


# --- answers -------------------------------------------------------------------------------------


def test_answers_depend_on_the_picture(learned: Path) -> None:
    asked = [
        Question(item_id=str(i), images=[image], prompt="", max_new_tokens=6)
        for i, (_, image) in enumerate(PAIRS)
    ]
    answers = open_answerer(learned / "model").answer(asked)
    assert all(answer.status == "ok" and answer.raw_text for answer in answers)
    assert len({answer.raw_text for answer in answers}) >= 6


def test_questions_that_cannot_be_asked_fail_or_say_why(learned: Path) -> None:
    answerer = open_answerer(learned / "model")
    image = PAIRS[0][1]
    long = Question(item_id="a", images=[image], prompt="red " * 60)
    control = Question(item_id="b", images=[image], prompt="what is </s>")
    none = Question(item_id="c", images=[], prompt="What is it ?", max_new_tokens=3)
    assert [a.status for a in answerer.answer([long, control, none])] == ["failed", "failed", "ok"]
    with pytest.raises(TokenError, match="has 2 image slots and 1 pictures are given"):
        answerer.answer([Question(item_id="d", images=[image], prompt="{image} or {image} ?")])
    with pytest.raises(TokenError, match="has 1 image slots and 0 pictures are given"):
        answerer.answer([Question(item_id="e", images=[], prompt="{image} ?")])
