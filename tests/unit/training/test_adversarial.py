"""VQ-GAN training at tiny size: resuming, fine-tuning, other resolutions, what it refuses."""

import itertools
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.config.image_tokenizer import AdversarialConfig, VQGANTrainConfig
from genvlm.config.text_tokenizer import TextTokenizerConfig
from genvlm.errors import CheckpointError, ConfigError, TrainingError
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.studies.tokenizers import (
    train_image_tokenizer,
    train_text_tokenizer,
)
from genvlm.testing.tiny import tiny_image_config
from genvlm.tokenization.image import ImageTokenizer, load_image_tokenizer
from genvlm.tokenization.text import load_text_tokenizer
from genvlm.tokenization.vqgan import VQGAN
from genvlm.training.adversarial import sample_batch, train_vqgan
from genvlm.training.stopping import StoppedError

CONFIG = VQGANTrainConfig(
    model=tiny_image_config(),
    adversarial=AdversarialConfig(start_step=2, warmup_steps=1),
    num_steps=4,
    batch_size=4,
    warmup_steps=1,
    restart_after=1,
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("vqgan")
    train_vqgan(CONFIG, out)
    return out


def weights(folder: Path) -> str:
    state = torch.load(folder / "checkpoints/step-00000004/state.pt", weights_only=True)
    return fingerprint_tensors(
        state["model"] | {f"d.{k}": v for k, v in state["discriminator"].items()}
    )


def test_a_resumed_run_equals_a_whole_one_bitwise(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(out / "checkpoints/step-00000004")
    train_vqgan(CONFIG, out, resume=True)
    assert weights(out) == weights(finished)


def test_a_used_folder_and_another_configuration_are_refused(finished: Path) -> None:
    before = weights(finished)
    with pytest.raises(TrainingError, match="holds a run already"):
        train_vqgan(CONFIG, finished)
    with pytest.raises(CheckpointError, match="another configuration"):
        train_vqgan(replace(CONFIG, num_steps=5), finished, resume=True)
    assert weights(finished) == before


def test_several_processes_are_refused_before_any_of_them_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    out = tmp_path / "run"
    with pytest.raises(TrainingError, match="image tokenizer trains in one process, and 2 were"):
        train_vqgan(CONFIG, out)
    with pytest.raises(TrainingError, match="text tokenizer trains in one process"):
        train_text_tokenizer(TextTokenizerConfig(), out)
    assert not out.exists()


def test_every_term_is_logged_and_codes_are_restarted(tmp_path: Path) -> None:
    train_vqgan(replace(CONFIG, num_steps=20), tmp_path)
    (record,) = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert record["step"] == 20
    assert {"l1", "psnr", "adversarial", "adaptive_weight", "discriminator"} <= record.keys()


@pytest.mark.parametrize("resolution", [16, 64, 96])
def test_batches_have_the_resolution_of_the_network(resolution: int) -> None:
    config = replace(CONFIG, model=replace(CONFIG.model, resolution=resolution))
    batch = sample_batch(config, torch.Generator().manual_seed(0))
    assert batch.shape == (4, 3, resolution, resolution)
    assert -1 <= batch.min() < batch.max() <= 1
    again = sample_batch(config, torch.Generator().manual_seed(0))
    assert torch.equal(batch, again)


def test_fine_tuning_begins_from_the_weights_it_is_given(tmp_path: Path) -> None:
    initial = VQGAN(CONFIG.model)
    before = fingerprint_tensors(initial.state_dict())
    calls = []

    def perceptual(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        calls.append(a.shape)
        return (a - b).abs().mean()

    for rate, moved in ((0.0, False), (1e-3, True)):
        config = replace(CONFIG, learning_rate=rate, restart_after=99, num_steps=2)
        tuned = train_vqgan(config, tmp_path / str(rate), initial=initial, perceptual=perceptual)
        assert (fingerprint_tensors(tuned.state_dict()) != before) == moved
    assert calls == [torch.Size([4, 3, 16, 16])] * 4


def test_a_recipe_names_the_tokenizer_and_it_is_measured_at_its_own_resolution(
    tmp_path: Path,
) -> None:
    given = VQGAN(CONFIG.model)
    ImageTokenizer(CONFIG.model, given).save(tmp_path / "given")
    config = replace(
        CONFIG, initial=str(tmp_path / "given"), learning_rate=0.0, restart_after=99, num_steps=1,
        weights_dtype="float32",
    )  # fmt: skip
    folder = train_image_tokenizer(config, tmp_path / "run")
    tuned = load_image_tokenizer(folder).network
    assert fingerprint_tensors(tuned.state_dict()) == fingerprint_tensors(given.state_dict())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "scene reader" not in (folder / "README.md").read_text()  # which knows 64x64 alone
    assert metrics["noto, held-out families"]["pictures"] == 183
    assert all(0 < m["codes_used"] <= 1 for m in metrics.values())
    other = replace(config, model=replace(CONFIG.model, codebook_size=32))
    with pytest.raises(ConfigError, match="another shape"):
        train_image_tokenizer(other, tmp_path / "other")


def test_a_stopped_run_saves_and_resumes_bitwise(finished: Path, tmp_path: Path) -> None:
    def stop(_module: object, _inputs: object, _output: object) -> None:
        if next(calls) == 2:  # the third step of four; step 2 has a checkpoint already
            signal.raise_signal(signal.SIGTERM)

    calls = itertools.count()
    with torch.random.fork_rng():
        torch.manual_seed(CONFIG.seed)
        network = VQGAN(CONFIG.model)
    handle = network.quant_conv.register_forward_hook(stop)
    with pytest.raises(StoppedError, match="stopped at step 3 by SIGTERM"):
        train_vqgan(CONFIG, tmp_path, initial=network)
    handle.remove()
    said: list[str] = []
    train_vqgan(CONFIG, tmp_path, resume=True, say=said.append)
    assert said == ["resumed at step 3"]
    assert (tmp_path / "checkpoints/step-00000004").is_dir()


@pytest.mark.parametrize(("scenes", "augmented"), [(0.0, 0.0), (1.0, 0.5), (0.0, 1.0)])
def test_batches_of_one_kind_of_picture_alone(scenes: float, augmented: float) -> None:
    config = replace(CONFIG, scene_share=scenes, augment_share=augmented)
    images = sample_batch(config, torch.Generator().manual_seed(0))
    assert images.shape == (4, 3, 16, 16)
    assert torch.isfinite(images).all()


def test_a_text_tokenizer_is_never_written_over(tmp_path: Path) -> None:
    config = TextTokenizerConfig(vocab_size=400, num_scenes=50, num_stories=5)
    folder = train_text_tokenizer(config, tmp_path)
    assert load_text_tokenizer(folder).size == 400
    with pytest.raises(TrainingError, match="is there already"):
        train_text_tokenizer(config, tmp_path)
    with pytest.raises(ConfigError, match="makes no 100 pieces"):
        train_text_tokenizer(replace(config, vocab_size=100), tmp_path / "other")
    assert not (tmp_path / "other").exists()
