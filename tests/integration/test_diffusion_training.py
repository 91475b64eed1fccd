"""Whole runs of diffusion models at tiny size: learning, resuming bit for bit, accumulation."""

import importlib.util
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.cli.main import main
from genvlm.config.data import CaptionsSource
from genvlm.config.diffusion import (
    AutoencoderKLConfig,
    DiffusionTrainConfig,
    DiTConfig,
    VQLatentsConfig,
)
from genvlm.config.schema import dump_config
from genvlm.config.text_encoder import FrozenTextEncoderConfig
from genvlm.data.pairs import PairBatch, PairSource
from genvlm.errors import CheckpointError, DataError, TokenError
from genvlm.models.diffusion.build import build_denoiser
from genvlm.models.diffusion.folder import load_diffusion
from genvlm.models.diffusion.model import Denoiser, DiffusionModel
from genvlm.models.diffusion.schedule import build_schedule
from genvlm.models.text_encoder import build_texts
from genvlm.nn.safetensors_folder import fingerprint_tensors, load_tensors
from genvlm.testing.logs import logged
from genvlm.testing.processes import train_elsewhere
from genvlm.testing.tiny import tiny_image_tokenizer
from genvlm.testing.tiny_diffusion import (
    NetworkKind,
    tiny_diffusion_train_config,
    write_tiny_autoencoder,
    write_tiny_text_encoder,
)
from genvlm.training import diffusion as diffusion_module
from genvlm.training.checkpoint import list_checkpoints
from genvlm.training.diffusion import encode_pairs, train_diffusion
from genvlm.training.engine import Engine
from genvlm.training.objectives.denoising import DenoisingObjective
from genvlm.training.steps import Progress, Trained
from genvlm.training.stopping import StoppedError


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DiffusionTrainConfig:
    return tiny_diffusion_train_config(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(config: DiffusionTrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight steps without a stop. Copy before changing."""
    out = tmp_path_factory.mktemp("finished")
    train_diffusion(config, out)
    return out


def weights(out: Path) -> str:
    return fingerprint_tensors(load_tensors(out / "model" / "model.safetensors"))


def same(a: Path, b: Path) -> None:
    assert logged(a) == logged(b)
    assert weights(a) == weights(b)


def stop_at(step: int) -> Progress:
    def seen(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    return Progress(step=seen)


def test_a_run_ends_in_a_model_folder(config: DiffusionTrainConfig, finished: Path) -> None:
    model = load_diffusion(finished / "model")
    assert model.condition_dropout == config.data.condition_dropout
    assert model.prediction == "v_prediction"
    assert model.fingerprint in (finished / "model" / "README.md").read_text()
    assert [r["step"] for r in logged(finished)] == list(range(1, 9))
    assert logged(finished)[0]["loss"] == logged(finished)[0]["loss_mse"]


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_a_stopped_run_resumes_bitwise(kind: NetworkKind, tmp_path: Path) -> None:
    """With dropout, a moving average, min-SNR weights, and a stop between two checkpoints."""
    config = tiny_diffusion_train_config(tmp_path / "data", kind)
    network = replace(config.model.network, dropout=0.1)
    config = replace(
        config,
        model=replace(config.model, network=network),
        objective=replace(config.objective, weighting="min_snr"),
    )
    train_diffusion(config, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_diffusion(config, tmp_path / "parts", progress=stop_at(3))
    assert not (tmp_path / "parts" / "model").exists()
    torch.manual_seed(999)
    train_diffusion(config, tmp_path / "parts", resume=True)
    same(tmp_path / "parts", tmp_path / "whole")
    final = "checkpoints/step-00000008/ema.safetensors"
    assert (tmp_path / "parts" / final).read_bytes() == (tmp_path / "whole" / final).read_bytes()


def test_the_model_folder_holds_the_average_and_the_checkpoint_the_last_weights(
    config: DiffusionTrainConfig, finished: Path, tmp_path: Path
) -> None:
    newest = list_checkpoints(finished / "checkpoints")[-1]
    average = load_tensors(newest / "ema.safetensors")
    last = load_tensors(newest / "model.safetensors")
    kept = load_tensors(finished / "model" / "model.safetensors")
    assert int(average.pop("num_updates")) == 8
    for name, tensor in kept.items():
        if f"denoiser.{name}" in average:
            assert torch.equal(tensor, average[f"denoiser.{name}"])
    name = "network.model.proj_out.weight"
    assert not torch.equal(kept[name], last[f"denoiser.{name}"])
    train_diffusion(replace(config, ema_decay=None), tmp_path / "plain")
    assert logged(tmp_path / "plain") == logged(finished)  # an average changes no step
    plain = load_tensors(tmp_path / "plain" / "model" / "model.safetensors")
    assert torch.equal(plain[name], last[f"denoiser.{name}"])
    assert not list((tmp_path / "plain").rglob("ema.safetensors"))


def test_a_finished_run_that_lost_its_model_folder_writes_it_again(
    config: DiffusionTrainConfig, finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(out / "model")
    train_diffusion(config, out, resume=True)
    same(out, finished)


def test_a_run_goes_on_only_with_the_pairs_it_began_with(tmp_path: Path) -> None:
    config = tiny_diffusion_train_config(tmp_path / "data")
    with pytest.raises(StoppedError):
        train_diffusion(config, tmp_path / "run", progress=stop_at(3))
    source = config.data.sources[0]
    assert isinstance(source, CaptionsSource)
    captions = Path(source.path) / "captions.jsonl"
    captions.write_text(captions.read_text().replace("red square", "red thing"))
    with pytest.raises(CheckpointError, match="another set of pairs: bring back"):
        train_diffusion(config, tmp_path / "run", resume=True)


# --- accumulation --------------------------------------------------------------------------------


def parts_of(config: DiffusionTrainConfig) -> tuple[PairSource, Denoiser]:
    texts = build_texts(config.model.text_encoder)
    latents, pairs = encode_pairs(config, None)
    source = PairSource(
        pairs=pairs,
        encode_texts=texts.coder.encode,
        condition_dropout=0.3,
        num_levels=1000,
        level_sampling="uniform",
        global_batch_size=8,
        seed=0,
    )
    return source, build_denoiser(config.model, latents.shape, texts)


def double(batch: PairBatch) -> PairBatch:
    return replace(batch, latents=batch.latents.double(), noise=batch.noise.double())


@pytest.mark.parametrize("accum", [2, 4])
def test_accumulation_equals_one_large_batch(config: DiffusionTrainConfig, accum: int) -> None:
    results, states = [], []
    for number in (1, accum):
        source, denoiser = parts_of(config)
        schedule = build_schedule("cosine")
        engine = Engine(
            DenoisingObjective(denoiser, schedule, "v_prediction", weighting="min_snr").double(),
            replace(config.optimizer, learning_rate=1e-2, warmup_steps=1),
            num_steps=3,
            precision="float32",
            grad_accum_steps=number,
        )
        batches = [[double(b) for b in source.batch(s, accum=number)] for s in range(3)]
        results.append([engine.train_step(s, b) for s, b in enumerate(batches)])
        states.append(engine.state_dict())
    for whole, split in zip(*results, strict=True):
        assert whole.counts == split.counts
        assert whole.grad_norm == pytest.approx(split.grad_norm, abs=1e-7)
        assert whole.terms == pytest.approx(split.terms, abs=1e-5)  # summed in float32
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-6, rtol=0)


# --- learning ------------------------------------------------------------------------------------


def error(model: DiffusionModel, source: PairSource) -> tuple[float, float]:
    """Mean squared error on fresh noise, of the model and of a prediction of 0."""
    (batch,) = source.batch(10**6)
    conditioning = model.denoiser.read(batch.pieces, batch.mask)
    x_t = model.schedule.add_noise(batch.latents, batch.noise, batch.levels)
    target = model.schedule.target(batch.latents, batch.noise, batch.levels, model.prediction)
    predicted = model.predict(x_t, batch.levels, conditioning)
    return float((predicted - target).square().mean()), float(target.square().mean())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "flow"])
def test_an_overfitted_model_beats_the_prediction_of_nothing(
    prediction: str, tmp_path: Path
) -> None:
    config = tiny_diffusion_train_config(
        tmp_path / "data", prediction=prediction, num_steps=100,  # type: ignore[arg-type]
        global_batch_size=12, micro_batch_size=12,
    )  # fmt: skip
    network = DiTConfig(hidden_size=32, num_layers=1, num_heads=2, patch_size=2)
    config = replace(
        config, model=replace(config.model, network=network), checkpoint_every=1000,
        ema_decay=0.95, optimizer=replace(config.optimizer, learning_rate=1e-2),
    )  # fmt: skip
    train_diffusion(config, tmp_path / "run")
    losses = [r["loss"] for r in logged(tmp_path / "run")]
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    source, _ = parts_of(config)
    ours, zero = error(load_diffusion(tmp_path / "run" / "model"), source)
    assert ours < 0.4 * zero


def test_foreign_parts_stay_as_they_are_and_the_rest_learns(tmp_path: Path) -> None:
    config = tiny_diffusion_train_config(tmp_path / "data", num_steps=12)
    encoder = write_tiny_text_encoder(tmp_path / "encoder")
    config = replace(
        config,
        model=replace(
            config.model,
            text_encoder=FrozenTextEncoderConfig(path=str(encoder), max_tokens=12),
            latents=AutoencoderKLConfig(path=str(write_tiny_autoencoder(tmp_path / "kl")), side=16),
        ),
    )
    with pytest.raises(StoppedError):
        train_diffusion(config, tmp_path / "run", progress=stop_at(5))
    train_diffusion(config, tmp_path / "run", resume=True)
    model = load_diffusion(tmp_path / "run" / "model")
    before = load_tensors(encoder / "model.safetensors")
    after = dict(model.denoiser.text_encoder.model.state_dict())
    assert before
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert model.denoiser.network.model.proj_out.weight.any()  # it began at 0


def test_weights_that_deepspeed_rounded_end_in_a_folder_that_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the whole module in bfloat16, a frozen text encoder too."""
    config = tiny_diffusion_train_config(tmp_path / "data")
    encoder = write_tiny_text_encoder(tmp_path / "encoder")
    frozen = FrozenTextEncoderConfig(path=str(encoder), max_tokens=12)
    config = replace(config, model=replace(config.model, text_encoder=frozen))

    def rounded(*arguments: object, **_: object) -> Trained:
        state = arguments[4].bfloat16().state_dict()  # type: ignore[attr-defined]
        return Trained(True, {name: tensor.float() for name, tensor in state.items()})

    monkeypatch.setattr(diffusion_module, "run_steps", rounded)
    train_diffusion(config, tmp_path / "run")
    model = load_diffusion(tmp_path / "run" / "model")
    assert {p.dtype for p in model.denoiser.parameters()} == {torch.float32}
    after = dict(model.denoiser.text_encoder.model.state_dict())
    for name, tensor in load_tensors(encoder / "model.safetensors").items():
        assert torch.equal(tensor, after[name])


def test_latents_of_a_vqgan_are_scaled_by_the_training_pictures(tmp_path: Path) -> None:
    config = tiny_diffusion_train_config(tmp_path / "data", num_steps=2)
    tiny_image_tokenizer().save(tmp_path / "image")
    latents = VQLatentsConfig(path=str(tmp_path / "image"))
    config = replace(config, model=replace(config.model, latents=latents))
    train_diffusion(config, tmp_path / "run")
    model = load_diffusion(tmp_path / "run" / "model")
    _, pairs = encode_pairs(config, None)
    by_channel = pairs.latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(by_channel.mean(1), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(by_channel.std(1, correction=0), torch.ones(4), atol=1e-4, rtol=0)
    scale = model.latents.scale  # type: ignore[attr-defined]
    assert (scale.mean.abs() > 1e-3).any()


# --- other processes -----------------------------------------------------------------------------


TRAIN = """
import sys
from pathlib import Path
from genvlm.config.diffusion import DiffusionTrainConfig
from genvlm.config.schema import load_config
from genvlm.training.diffusion import train_diffusion

config = load_config(DiffusionTrainConfig, Path(sys.argv[1]))
train_diffusion(config, Path(sys.argv[2]), resume=len(sys.argv) > 3)
"""


def same_losses(a: Path, b: Path) -> None:
    for ours, theirs in zip(logged(a), logged(b), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], abs=1e-3)
    for name in ("model/model.safetensors", "checkpoints/step-00000008/ema.safetensors"):
        tensors = [load_tensors(out / name) for out in (a, b)]
        assert tensors[0].keys() == tensors[1].keys()
        for key, tensor in tensors[1].items():
            torch.testing.assert_close(tensors[0][key], tensor, atol=1e-3, rtol=0)


def test_two_processes_equal_one_and_go_on_together(
    config: DiffusionTrainConfig, finished: Path, tmp_path: Path
) -> None:
    split = replace(config, micro_batch_size=1)
    train_elsewhere(TRAIN, split, tmp_path / "two", num_processes=2)
    same_losses(tmp_path / "two", finished)
    before = weights(tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "checkpoints" / "step-00000008")
    train_elsewhere(TRAIN, split, tmp_path / "two", num_processes=2, resume=True)
    assert weights(tmp_path / "two") == before


needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None
    or importlib.util.find_spec("ninja") is None
    or shutil.which("g++") is None,
    reason="deepspeed, or ninja or g++ with which it builds its communication, is not installed",
)


@needs_deepspeed
def test_deepspeed_zero_1_equals_plain_training(
    config: DiffusionTrainConfig, finished: Path, tmp_path: Path
) -> None:
    """The first start on a machine compiles for about a minute."""
    zero = replace(config, deepspeed="configs/deepspeed/zero1.json", micro_batch_size=1)
    train_elsewhere(TRAIN, zero, tmp_path / "zero")
    same_losses(tmp_path / "zero", finished)


# --- refusals ------------------------------------------------------------------------------------


def test_what_cannot_be_trained_is_said_before_the_first_step(
    config: DiffusionTrainConfig, tmp_path: Path
) -> None:
    short = replace(config.model.text_encoder, max_tokens=4)
    with pytest.raises(TokenError, match=r"'a blue bar on a white page' has \d+ tokens.*takes 4"):
        train_diffusion(
            replace(config, model=replace(config.model, text_encoder=short)), tmp_path / "short"
        )
    with pytest.raises(DataError, match="12 pairs, fewer than global_batch_size 16"):
        train_diffusion(replace(config, global_batch_size=16), tmp_path / "greedy")
    for out in (tmp_path / "short", tmp_path / "greedy"):
        assert not (out / "log.jsonl").exists()


def test_the_command_trains_a_diffusion_model_by_its_kind(
    config: DiffusionTrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(dump_config(config))
    out = tmp_path / "run"
    assert main(["train", str(path), "--out", str(out), "--num-steps", "2"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "model")
    load_diffusion(out / "model")
