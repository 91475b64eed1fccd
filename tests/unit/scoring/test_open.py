"""From a folder to its scorer, also by `genvlm score`."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genvlm.cli.main import main
from genvlm.data.images import load_image
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.auxiliary.projector_folder import save_projector
from genvlm.models.diffusion.folder import save_diffusion
from genvlm.models.pretrained import save_pretrained
from genvlm.scoring.open import METHODS, open_answerer, open_scorer
from genvlm.scoring.protocols import Grid, Question
from genvlm.scoring.timestep_weights import TimestepWeights, save_timestep_weights
from genvlm.testing.foreign_models import write_tiny_clip, write_tiny_llava
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained, write_tiny_captions
from genvlm.testing.tiny_diffusion import tiny_diffusion, tiny_diffusion_config
from genvlm.testing.tiny_projector import build_tiny, tiny_projector_config

KINDS = {
    "genvlm": "mixed_modal", "clip": "foreign_contrastive", "llava": "foreign_image_text_to_text",
    "diffusion": "diffusion", "projector": "projector",
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    save_pretrained(tiny_pretrained(), root / "genvlm", "A toy.\n")
    write_tiny_clip(root / "clip")
    write_tiny_llava(root / "llava")
    write_tiny_captions(root / "pairs")
    model = tiny_diffusion()
    save_diffusion(model, tiny_diffusion_config(), root / "diffusion", "A toy.\n")
    weights = TimestepWeights(
        model=model.fingerprint, weights=(1.0, 2.0), num_images=1, num_samples=1
    )
    save_timestep_weights(weights, root / "diffusion")
    config = tiny_projector_config(root / "parts")
    save_projector(build_tiny(config), config, root / "projector", "A toy.\n")
    return root


@pytest.mark.parametrize("name", KINDS)
def test_every_method_of_a_model_scores_and_others_are_refused(name: str, folders: Path) -> None:
    methods = METHODS[KINDS[name]]
    text, image = tiny_pairs()[0]
    for method in methods:
        (scores,) = open_scorer(folders / name, method).score(
            [Grid(item_id="a", images=[image], texts=[text])]
        )
        assert np.isfinite(scores.values).all()
    assert open_scorer(folders / name).info == open_scorer(folders / name, methods[0]).info
    for method in {m for listed in METHODS.values() for m in listed} - set(methods):
        with pytest.raises(ConfigError, match=f"{KINDS[name]}.*{method}: choose {methods[0]} or"):
            open_scorer(folders / name, method)


def test_options_of_other_methods_are_refused(folders: Path) -> None:
    with pytest.raises(ConfigError, match="reduction mean"):
        open_scorer(folders / "clip", "cosine", reduction="mean")
    with pytest.raises(ConfigError, match="template"):
        open_scorer(folders / "llava", "text_given_image", template="{text}?")
    with pytest.raises(ConfigError, match="prompt"):
        open_scorer(folders / "genvlm", "text_given_image", prompt="Describe it.")
    with pytest.raises(ConfigError, match="has no image slot"):
        open_scorer(folders / "projector", "text_given_image", prompt="Describe it.")
    with pytest.raises(ConfigError, match="alpha 1 is of log-probabilities of our own"):
        open_scorer(folders / "projector", alpha=1.0)
    with pytest.raises(ConfigError, match="num_samples and seed are of diffusion models"):
        open_scorer(folders / "clip", "cosine", seed=0)
    with pytest.raises(ConfigError, match="float32 or bfloat16, not in float16"):
        open_scorer(folders / "diffusion", dtype="float16")
    with pytest.raises(CheckpointError, match="no model folder"):
        open_scorer("nowhere")


def test_only_a_model_that_writes_answers(folders: Path) -> None:
    question = Question(item_id="a", images=[tiny_pairs()[0][1]], prompt="What is it ?")
    for name in ("llava", "projector"):
        (answer,) = open_answerer(folders / name).answer([question])
        assert answer.status == "ok"
    for name in ("clip", "genvlm"):
        with pytest.raises(ConfigError, match="only such a model answers"):
            open_answerer(folders / name)


@pytest.fixture
def score(folders: Path, tmp_path: Path) -> Callable[..., list[dict]]:
    def run(name: str, *options: str) -> list[dict]:
        pairs, out = str(folders / "pairs" / "captions.jsonl"), tmp_path / "scores.jsonl"
        command = ["score", "--model", str(folders / name), "--pairs", pairs, "--out", str(out)]
        assert main([*command, *options]) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    return run


@pytest.mark.parametrize(
    ("name", "options", "unit"),
    [
        ("clip", (), "cosine"),
        ("clip", ("--method", "clipscore"), "arbitrary"),
        ("llava", ("--reduction", "mean", "--prompt", "Describe the image"), "nats"),
        ("llava", ("--method", "p_yes", "--template", "{text}?"), "probability"),
        ("genvlm", ("--method", "p_yes"), "probability"),
        ("genvlm", ("--method", "image_given_text", "--reduction", "mean"), "nats"),
        ("diffusion", ("--num-samples", "2"), "reweighted_loss"),
        ("diffusion", ("--method", "elbo", "--dtype", "bfloat16"), "bound_nats"),
    ],
)
def test_the_command_writes_one_score_a_pair(
    name: str, options: tuple[str, ...], unit: str, score: Callable[..., list[dict]]
) -> None:
    rows = score(name, *options)
    assert [row["text"] for row in rows] == [text for text, _ in tiny_pairs()]
    assert all(row["unit"] == unit and np.isfinite(row["score"]) for row in rows)
    assert len({row["fingerprint"] for row in rows}) == 1


def test_a_method_of_our_models_agrees_with_the_command_without_one(
    score: Callable[..., list[dict]],
) -> None:
    both = score("genvlm")
    for method in ("text_given_image", "image_given_text"):
        rows = score("genvlm", "--method", method)
        expected = [row[f"log_p_{method}"] for row in both]
        np.testing.assert_allclose([row["score"] for row in rows], expected, rtol=0, atol=1e-4)
        assert [r["tokens"] for r in rows] == [r[f"tokens_{method}"] for r in both]


def test_the_command_scores_what_the_scorer_says(
    folders: Path, score: Callable[..., list[dict]]
) -> None:
    rows = score("clip")
    image = load_image(folders / "pairs" / "4.png")
    grid = Grid(item_id="x", images=[image], texts=[rows[4]["text"]])
    (scores,) = open_scorer(folders / "clip").score([grid])
    assert rows[4]["score"] == pytest.approx(scores.values[0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("clip", ("--method", "p_yes"), "choose cosine or clipscore"),
        ("clip", ("--per-token",), "--per-token"),
        ("genvlm", ("--reduction", "mean"), "need --method"),
        ("genvlm", ("--seed", "0"), "of diffusion models"),
        ("clip", ("--num-samples", "3"), "of diffusion models"),
        ("genvlm", ("--method", "cosine"), "choose text_given_image or image_given_text or p_yes"),
        ("pairs", ("--method", "cosine"), "not a finished model folder"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(
    name: str, options: tuple[str, ...], said: str, folders: Path, tmp_path: Path, capsys
) -> None:
    pairs = str(folders / "pairs" / "captions.jsonl")
    command = ["score", "--model", str(folders / name), "--pairs", pairs]
    assert main([*command, "--out", str(tmp_path / "scores.jsonl"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "scores.jsonl").exists()
