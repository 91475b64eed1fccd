"""Folders of StableDiffusionPipeline: what is read, and what is refused with one sentence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genvlm.errors import CheckpointError, CheckpointWarning, ConfigError, TokenError
from genvlm.generation.diffusion import SamplerSettings, sample_latents
from genvlm.models.diffusion.stable_diffusion import is_stable_diffusion, load_stable_diffusion
from genvlm.models.pretrained import load_pretrained
from genvlm.testing.tiny_stable_diffusion import CONTEXT, SIDE, write_tiny_stable_diffusion
from genvlm.tokenization.image import fit_square


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd") / "pipeline"
    write_tiny_stable_diffusion(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(written, tmp_path / "copy"))


def edit(path: Path, **changes: Any) -> None:
    """Change a JSON file; None as a value removes nothing, `...` removes the key."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not ...}))


def test_a_pipeline_folder_is_known_by_its_index(written: Path, tmp_path: Path) -> None:
    assert is_stable_diffusion(written)
    assert not is_stable_diffusion(tmp_path)


def test_the_fingerprint_is_of_weights_and_configuration_alone(written: Path, folder: Path) -> None:
    first = load_stable_diffusion(written).fingerprint
    assert load_stable_diffusion(folder).fingerprint == first
    edit(folder / "unet" / "config.json", _name_or_path="elsewhere", _diffusers_version="0.0")
    edit(folder / "scheduler" / "scheduler_config.json", steps_offset=0)
    assert load_stable_diffusion(folder).fingerprint == first
    fingerprints = {first, load_stable_diffusion(written, dtype="bfloat16").fingerprint}
    edit(folder / "scheduler" / "scheduler_config.json", prediction_type="v_prediction")
    fingerprints.add(load_stable_diffusion(folder).fingerprint)
    edit(folder / "vae" / "config.json", scaling_factor=0.5)
    fingerprints.add(load_stable_diffusion(folder).fingerprint)
    shutil.rmtree(folder)
    write_tiny_stable_diffusion(folder, seed=1)
    fingerprints.add(load_stable_diffusion(folder).fingerprint)
    assert len(fingerprints) == 5


def test_pictures_of_any_shape_are_fitted_into_a_white_square(written: Path) -> None:
    latents = load_stable_diffusion(written).latents
    picture = np.random.default_rng(0).integers(0, 256, (20, 50, 3)).astype(np.uint8)
    found = latents.encode([picture])
    assert tuple(found.shape[1:]) == latents.shape
    assert torch.equal(found, latents.encode([fit_square(picture, SIDE)]))
    assert latents.decode(found).shape == (1, SIDE, SIDE, 3)


def test_a_text_longer_than_the_encoder_reads_is_never_cut(written: Path) -> None:
    model = load_stable_diffusion(written)
    letters = CONTEXT - 2
    assert model.read(["a" + " b" * (letters - 1)]).states.shape[1] == CONTEXT
    with pytest.raises(TokenError, match=rf"has {CONTEXT + 1} tokens .* takes {CONTEXT}"):
        model.read(["a", "a" + " b" * letters])


def test_a_text_that_spells_an_end_is_refused_and_an_exclamation_mark_is_not(
    tmp_path: Path,
) -> None:
    write_tiny_stable_diffusion(tmp_path, "2.1")  # whose padding is "!"
    model = load_stable_diffusion(tmp_path)
    model.read(["a red cow!"])
    with pytest.raises(TokenError, match="control token"):
        model.read(["a <|endoftext|> b"])


def test_half_precision_is_of_the_unet_alone(written: Path) -> None:
    model = load_stable_diffusion(written, dtype="bfloat16")
    assert {p.dtype for p in model.denoiser.network.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.denoiser.text_encoder.parameters()} == {torch.float32}
    settings = SamplerSettings(num_steps=3, guidance_scale=2.0)
    rounded, exact = (
        sample_latents(m, ["a"], settings, seed=0) for m in (model, load_stable_diffusion(written))
    )
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.1 * exact.norm()


def test_a_component_that_is_left_out_is_named(folder: Path) -> None:
    edit(
        folder / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    with pytest.warns(CheckpointWarning, match="safety_checker, feature_extractor"):
        load_stable_diffusion(folder)


def test_betas_that_end_without_signal_are_those_of_diffusers(folder: Path) -> None:
    import diffusers

    path = folder / "scheduler" / "scheduler_config.json"
    edit(path, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    model = load_stable_diffusion(folder)
    expected = diffusers.DDIMScheduler.from_pretrained(folder / "scheduler").alphas_cumprod
    np.testing.assert_allclose(model.schedule.alphas**2, expected.numpy(), rtol=1e-3, atol=1e-7)
    assert model.schedule.alphas[-1] == 0
    edit(path, prediction_type="epsilon")
    with pytest.raises(ConfigError, match="no epsilon"):
        sample_latents(load_stable_diffusion(folder), ["a"], SamplerSettings(), seed=0)


def test_betas_may_be_listed(folder: Path) -> None:
    betas = np.linspace(1e-4, 0.02, 10).tolist()
    edit(folder / "scheduler" / "scheduler_config.json", trained_betas=betas)
    schedule = load_stable_diffusion(folder).schedule
    np.testing.assert_allclose(schedule.alphas**2, np.cumprod(1 - np.array(betas)))


def pickled(folder: Path) -> None:
    for path in (folder / "unet").glob("*.safetensors"):
        path.rename(path.with_suffix(".bin"))


def with_code(folder: Path) -> None:
    (folder / "unet" / "my_unet.py").write_text("print('run')\n")


REFUSED: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: edit(f / "model_index.json", _class_name="StableDiffusionXLPipeline"), "XLPipeline"),
    (lambda f: edit(f / "model_index.json", _class_name=["mine", "Pipe"]), "'mine', 'Pipe'"),
    (lambda f: edit(f / "model_index.json", text_encoder_2=["transformers", "CLIPTextModel"]),
     "component 'text_encoder_2'"),
    (lambda f: edit(f / "model_index.json", unet=["my_unet", "MyUNet"]), "my_unet.MyUNet"),
    (lambda f: edit(f / "model_index.json", scheduler=["mine", "Scheduler"]), "mine.Scheduler"),
    (lambda f: edit(f / "model_index.json", vae=...), "'vae' .* is missing"),
    (with_code, "Python code .*my_unet.py"),
    (lambda f: edit(f / "unet" / "config.json", auto_map={"AutoModel": "x.Y"}), "auto_map"),
    (lambda f: edit(f / "tokenizer" / "tokenizer_config.json", auto_map={}), "auto_map"),
    (pickled, "pickle alone .*model.bin"),
    (lambda f: (f / "vae" / "diffusion_pytorch_model.safetensors").unlink(), "can be read here"),
    (lambda f: edit(f / "vae" / "config.json", scaling_factor=...), "scaling_factor.*0.18215"),
    (lambda f: edit(f / "unet" / "config.json", in_channels=9), "takes 9 channels"),
    (lambda f: edit(f / "unet" / "config.json", class_embed_type="timestep"), "class_embed_type"),
    (lambda f: edit(f / "unet" / "config.json", cross_attention_dim=32), "width 32"),
    (lambda f: edit(f / "unet" / "config.json", sample_size=None), "how large"),
    (lambda f: edit(f / "unet" / "config.json", sample_size=0), "how large"),
    (lambda f: edit(f / "vae" / "config.json", block_out_channels=[]), "how large"),
    (lambda f: edit(f / "vae" / "config.json", shift_factor="a"), "shift_factor 'a'"),
    (lambda f: edit(f / "text_encoder" / "config.json", max_position_embeddings="x"), "'x'"),
    (lambda f: edit(f / "scheduler" / "scheduler_config.json", trained_betas=[]), "2 or more"),
    (lambda f: edit(f / "scheduler" / "scheduler_config.json", beta_end=2.0), "between 0 and 1"),
    (lambda f: edit(f / "scheduler" / "scheduler_config.json", prediction_type="sample"),
     "'sample': only epsilon"),
    (lambda f: edit(f / "scheduler" / "scheduler_config.json", beta_end=...), "says no betas"),
    (lambda f: edit(f / "scheduler" / "scheduler_config.json", beta_schedule="exp"), "no betas"),
    (lambda f: shutil.rmtree(f / "scheduler"), "scheduler_config.json cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "said"), REFUSED)
def test_what_cannot_be_read_is_refused_by_name(
    folder: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(folder)
    with pytest.raises(CheckpointError, match=said):
        load_stable_diffusion(folder)


def test_a_device_that_there_is_not_is_named(written: Path) -> None:
    with pytest.raises(ConfigError, match="no computing on device 'cuda:99'"):
        load_stable_diffusion(written, "cuda:99")


def test_a_pipeline_is_named_where_a_transformer_is_needed(written: Path) -> None:
    with pytest.raises(CheckpointError, match="pipeline of diffusers goes with"):
        load_pretrained(written)


def test_a_tensor_that_is_missing_is_named(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    del tensors["conv_out.weight"]
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"conv_out\.weight"):
        load_stable_diffusion(folder)
