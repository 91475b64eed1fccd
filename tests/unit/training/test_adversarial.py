"""VQ-GAN training at tiny size: resuming, fine-tuning, other resolutions, what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.config.image_tokenizer import AdversarialConfig, VQGANTrainConfig
from genvlm.errors import CheckpointError, TrainingError
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.studies.tokenizers import publish_image_tokenizer
from genvlm.testing.tiny import tiny_image_config
from genvlm.tokenization.image import load_taming_checkpoint
from genvlm.tokenization.vqgan import VQGAN
from genvlm.training.adversarial import sample_batch, train_vqgan

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


def test_a_published_checkpoint_is_fine_tuned_from_its_weights(tmp_path: Path) -> None:
    published = VQGAN(CONFIG.model)
    state = {**published.state_dict(), "loss.logvar": torch.zeros(())}
    torch.save({"state_dict": state}, tmp_path / "last.ckpt")
    before = fingerprint_tensors(published.state_dict())
    calls = []

    def perceptual(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        calls.append(a.shape)
        return (a - b).abs().mean()

    for rate, moved in ((0.0, False), (1e-3, True)):
        initial = load_taming_checkpoint(tmp_path / "last.ckpt", CONFIG.model)
        config = replace(CONFIG, learning_rate=rate, restart_after=99, num_steps=2)
        tuned = train_vqgan(config, tmp_path / str(rate), initial=initial, perceptual=perceptual)
        assert (fingerprint_tensors(tuned.state_dict()) != before) == moved
    assert calls == [torch.Size([4, 3, 16, 16])] * 4


def test_a_tokenizer_of_another_resolution_is_measured_at_its_own(tmp_path: Path) -> None:
    folder = publish_image_tokenizer(VQGAN(CONFIG.model), CONFIG, tmp_path)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "scene reader" not in (folder / "README.md").read_text()  # which knows 64x64 alone
    assert metrics["noto, held-out families"]["pictures"] == 183
    assert all(0 < m["codes_used"] <= 1 for m in metrics.values())
