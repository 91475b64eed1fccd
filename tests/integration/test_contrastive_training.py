"""Contrastive models trained from configurations: alone, in two processes, resumed, as scorers."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genvlm.cli.main import main
from genvlm.config.contrastive import ContrastiveObjectiveConfig, MixtureTokensConfig
from genvlm.config.image_encoder import VQPatchesConfig
from genvlm.config.schema import dump_config
from genvlm.errors import ConfigError, TrainingError
from genvlm.models.auxiliary.contrastive import Loss, load_contrastive
from genvlm.nn.safetensors_folder import load_tensors
from genvlm.scoring.open import open_scorer
from genvlm.scoring.protocols import Grid
from genvlm.testing.processes import run_elsewhere
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pairs
from genvlm.testing.tiny_auxiliary import tiny_contrastive_train_config
from genvlm.training import caption_run
from genvlm.training.contrastive import train_contrastive
from genvlm.training.steps import Progress, run_steps
from genvlm.training.stopping import StoppedError

WORKER = Path(__file__).with_name("contrastive_worker.py")


def test_two_processes_are_one_with_the_joined_batch(tmp_path: Path) -> None:
    """Losses and all gradients; both losses, mixture tokens and a captioner, with negatives of some
    captions, in one start each."""
    config = replace(
        tiny_contrastive_train_config(tmp_path),
        objective=ContrastiveObjectiveConfig(chunk_rows=1, negatives=True),
    )
    captions = tmp_path / "pairs/captions.jsonl"
    lines = captions.read_text().splitlines()
    lines[::2] = [line.replace(" on a white page", " above a page") for line in lines[::2]]
    captions.write_text("\n".join(lines) + "\n")
    found = []
    for num_processes in (1, 2):
        path, out = tmp_path / f"{num_processes}.yaml", tmp_path / f"{num_processes}.json"
        own = replace(config, micro_batch_size=config.global_batch_size // num_processes)
        path.write_text(dump_config(own))
        run_elsewhere(WORKER, [str(path), str(out)], num_processes=num_processes)
        found.append(json.loads(out.read_text()))
    alone, together = found
    assert (alone["infonce"]["processes"], together["infonce"]["processes"]) == (1, 2)
    for loss in ("infonce", "sigmoid", "Llip", "CoCa"):
        np.testing.assert_allclose(together[loss]["steps"], alone[loss]["steps"], rtol=1e-5)
        one, two = (np.array(run[loss]["gradient"]) for run in (alone, together))
        assert len(one) > 1000
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-5 * np.abs(one).max())
    assert "unequal" not in alone
    assert "processes have 1, 2 pairs of one batch" in together["unequal"]


@pytest.mark.parametrize(
    ("loss", "num_steps", "num_tokens"),
    [("infonce", 100, None), ("sigmoid", 200, None), ("sigmoid", 100, 3)],
    ids=["infonce", "sigmoid", "Llip"],
)
def test_a_trained_model_tells_its_own_captions_and_knows_nothing_of_shuffled_ones(
    loss: Loss,
    num_steps: int,
    num_tokens: int | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_contrastive_train_config(tmp_path, loss, num_steps=num_steps, global_batch_size=8)
    if num_tokens is not None:
        tokens = MixtureTokensConfig(num_tokens=num_tokens, num_heads=2)
        config = replace(config, model=replace(config.model, mixture_tokens=tokens))
    (tmp_path / "run.yaml").write_text(dump_config(config))
    run = tmp_path / "run"
    assert main(["train", str(tmp_path / "run.yaml"), "--out", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "model")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1][f"loss_{loss}"] < log[0][f"loss_{loss}"] / 2
    captions, pictures = zip(*tiny_pairs(), strict=True)
    grid = Grid(item_id="all", images=list(pictures), texts=list(captions))
    (scores,) = open_scorer(run / "model").score([grid])
    right = (scores.values.argmax(1) == np.arange(len(captions))).mean()
    assert right > 0.35
    order = np.roll(np.arange(len(captions)), 3)
    shuffled = (scores.values[order].argmax(1) == np.arange(len(captions))).mean()
    assert shuffled < 0.2
    (tmp_path / "classes.txt").write_text("\n".join(captions[::3]) + "\n")
    images = [str(tmp_path / f"pairs/{number}.png") for number in range(0, 12, 3)]
    classify = ["classify", "--model", str(run / "model"), "--json", "--images", *images]
    assert main([*classify, "--classes", str(tmp_path / "classes.txt")]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    first = [
        result["classes"][0]["class"] == caption
        for result, caption in zip(results, captions[::3], strict=True)
    ]
    assert sum(first) >= 3
    posterior = [np.exp([c["log_posterior"] for c in r["classes"]]).sum() for r in results]
    np.testing.assert_allclose(posterior, 1)
    with pytest.raises(ConfigError, match=r"cannot score by p_yes: choose cosine"):
        open_scorer(run / "model", "p_yes")


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    config = tiny_contrastive_train_config(tmp_path, num_steps=6, checkpoint_every=3)
    whole = train_contrastive(config, tmp_path / "whole")

    def stop(record: dict[str, float], num_steps: int) -> None:
        if record["step"] == 4:
            raise StoppedError(4, 15)

    with pytest.raises(StoppedError):
        train_contrastive(config, tmp_path / "halves", progress=Progress(step=stop))
    halves = train_contrastive(config, tmp_path / "halves", resume=True)
    assert load_contrastive(halves).fingerprint == load_contrastive(whole).fingerprint
    weights = load_tensors(whole / "model.safetensors")
    assert weights["log_scale"].shape == ()


def test_a_run_whose_frozen_encoder_changes_saves_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_image_tokenizer().save(tmp_path / "image")
    config = tiny_contrastive_train_config(tmp_path, num_steps=2)
    seeing = VQPatchesConfig(path=str(tmp_path / "image"))
    config = replace(config, model=replace(config.model, image_encoder=seeing))
    train_contrastive(config, tmp_path / "frozen")

    def changed(*arguments: Any, **named: Any) -> Any:
        trained = run_steps(*arguments, **named)
        encoder = arguments[4].model.image_encoder
        with torch.no_grad():
            next(iter(encoder.parameters())).add_(1e-3)
        return trained

    monkeypatch.setattr(caption_run, "run_steps", changed)
    with pytest.raises(TrainingError, match="frozen weights of the encoder changed in training"):
        train_contrastive(config, tmp_path / "thawed")
    assert not (tmp_path / "thawed" / "model").exists()


def test_one_pair_is_no_batch(tmp_path: Path) -> None:
    config = tiny_contrastive_train_config(tmp_path)
    with pytest.raises(ConfigError, match="loss of one pair is zero"):
        replace(config, global_batch_size=1, micro_batch_size=1)
    accumulated = replace(config, global_batch_size=2, micro_batch_size=1)
    with pytest.raises(TrainingError, match="says: raise micro_batch_size"):
        train_contrastive(accumulated, tmp_path / "run")
