"""Folders of diffusion models: the round trip with every kind of part, and damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genvlm.config.diffusion import (
    AutoencoderKLConfig,
    DiffusionConfig,
    DiTConfig,
)
from genvlm.config.text_encoder import FrozenTextEncoderConfig
from genvlm.errors import CheckpointError
from genvlm.models.diffusion.build import assemble, build_denoiser
from genvlm.models.diffusion.folder import is_diffusion, load_diffusion, save_diffusion
from genvlm.models.diffusion.latents import build_latents
from genvlm.models.diffusion.model import DiffusionModel
from genvlm.models.pretrained import load_pretrained, save_pretrained
from genvlm.models.text_encoder import build_texts
from genvlm.nn.safetensors_folder import load_tensors
from genvlm.nn.whole_files import hash_file
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pairs, tiny_pretrained
from genvlm.testing.tiny_diffusion import (
    LatentKind,
    NetworkKind,
    tiny_diffusion,
    tiny_diffusion_config,
    write_tiny_autoencoder,
    write_tiny_text_encoder,
)

TEXTS = ["", "a red bar", "a blue square on a white page"]


def save(folder: Path, kind: NetworkKind = "dit", latent: LatentKind = "vqgan") -> DiffusionModel:
    model = tiny_diffusion(kind, latent)
    save_diffusion(model, tiny_diffusion_config(kind, latent), folder, "# card\n")
    return model


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save(folder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "model"))


def prediction(model: DiffusionModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(len(TEXTS), *model.latents.shape, generator=generator)
    return model.predict(x, torch.tensor([3, 500, 999]), model.read(TEXTS))


@pytest.mark.parametrize("kind", ["dit", "unet"])
@pytest.mark.parametrize("latent", ["pixels", "vqgan"])
def test_a_model_comes_back_bit_for_bit(
    tmp_path: Path, kind: NetworkKind, latent: LatentKind
) -> None:
    model = save(tmp_path / "model", kind, latent)
    loaded = load_diffusion(tmp_path / "model")
    assert loaded.fingerprint == model.fingerprint
    assert torch.equal(prediction(loaded), prediction(model))
    assert not loaded.denoiser.training
    assert not any(p.requires_grad for p in loaded.denoiser.parameters())
    assert (loaded.prediction, loaded.condition_dropout) == ("v_prediction", 0.1)
    assert len(loaded.schedule) == 1000
    pictures = [picture for _, picture in tiny_pairs()[:2]]
    assert torch.equal(loaded.latents.encode(pictures), model.latents.encode(pictures))


def test_foreign_parts_are_copied_into_the_folder(tmp_path: Path) -> None:
    encoder = write_tiny_text_encoder(tmp_path / "encoder")
    autoencoder = write_tiny_autoencoder(tmp_path / "autoencoder")
    (encoder / "code.py").write_text("print('never copied')")
    config = DiffusionConfig(
        network=DiTConfig(hidden_size=16, num_layers=1, num_heads=2),
        text_encoder=FrozenTextEncoderConfig(path=str(encoder), max_tokens=12),
        latents=AutoencoderKLConfig(path=str(autoencoder), side=16),
    )
    latents, texts = build_latents(config.latents, None), build_texts(config.text_encoder)
    denoiser = build_denoiser(config, latents.shape, texts, seed=1)
    torch.nn.init.normal_(denoiser.network.model.proj_out.weight)
    model = assemble(denoiser, config, latents, texts.coder, 0.1)
    save_diffusion(model, config, tmp_path / "model", "# card\n")
    shutil.rmtree(encoder)
    shutil.rmtree(autoencoder)
    loaded = load_diffusion(tmp_path / "model")
    assert loaded.fingerprint == model.fingerprint
    assert torch.equal(prediction(loaded), prediction(model))
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert {Path(f).suffix for f in files} == {".yaml", ".json", ".safetensors", ".md"}
    # The encoder's weights stand in its own folder alone.
    tensors = load_tensors(tmp_path / "model" / "model.safetensors")
    assert all(name.startswith("network.") for name in tensors)
    for path in (tmp_path / "model").rglob("*"):  # nor does a path of this machine
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes()


def test_the_fingerprint_follows_each_weight_and_setting() -> None:
    model = tiny_diffusion()
    config = tiny_diffusion_config()

    def fingerprint(of: DiffusionConfig) -> str:
        return assemble(model.denoiser, of, model.latents, model.texts, 0.1).fingerprint

    assert fingerprint(config) == model.fingerprint == tiny_diffusion().fingerprint
    found = {
        model.fingerprint,
        tiny_diffusion(seed=1).fingerprint,
        fingerprint(tiny_diffusion_config(prediction="epsilon")),
        fingerprint(tiny_diffusion_config(schedule="linear")),
        fingerprint(tiny_diffusion_config(num_levels=500)),
    }
    assert len(found) == 5
    for parameter in model.denoiser.parameters():
        with torch.no_grad():
            parameter.view(-1)[0] += 1e-4
        changed = fingerprint(config)
        assert changed not in found
        found.add(changed)


def test_which_folders_are_of_diffusion_models(folder: Path, tmp_path: Path) -> None:
    assert is_diffusion(folder)
    save_pretrained(tiny_pretrained(), tmp_path / "other", "# card\n")
    assert not is_diffusion(tmp_path / "other")
    assert not is_diffusion(tmp_path)
    (tmp_path / "config.yaml").write_text("a: [")
    assert not is_diffusion(tmp_path)
    with pytest.raises(CheckpointError, match="is a mixed-modal model: a diffusion one is needed"):
        load_diffusion(tmp_path / "other")
    with pytest.raises(CheckpointError, match="is a diffusion model: a mixed-modal one"):
        load_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"not a finished model folder.*did you mean"):
        load_diffusion(folder.parent)


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """Change a text file and its hash, as somebody would who means it."""
    path = folder / name
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[name] = hash_file(path)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def without_scale(text: str) -> str:
    start, end = text.index("latent_mean"), text.index("latent_space")
    return text[:start] + text[end:]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_scale, r"latent_mean, latent_std\) is missing"),
        (lambda t: t.replace("schema_version: 1", "schema_version: 9"), "has schema 9"),
        (lambda t: t.replace("texts: ", "texts: f"), "text encoder's tokenizer in .* is not"),
        (lambda t: t.replace("latent_space: ", "latent_space: f"), "latent space in .* is not"),
        (lambda t: t.replace("v_prediction", "epsilon"), "computes something else"),
        (lambda t: t.replace("hidden_size: 16", "hidden_size: 32"), "does not fit its config"),
    ],
)
def test_a_folder_that_does_not_fit_says_why(
    folder: Path, change: Callable[[str], str], said: str
) -> None:
    edit(folder, "config.yaml", change)
    with pytest.raises(CheckpointError, match=said):
        load_diffusion(folder)


def test_paths_of_a_folder_lead_into_it_alone(folder: Path) -> None:
    """Whatever its configuration says."""
    edit(folder, "config.yaml", lambda t: t.replace("path: tokenizers", "path: /nowhere"))
    load_diffusion(folder)


def test_another_image_tokenizer_or_a_flipped_bit_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was altered or damaged"):
        load_diffusion(folder)
    content[-1] ^= 1
    weights.write_bytes(content)
    load_diffusion(folder)
    tiny_image_tokenizer(seed=5).save(folder / "tokenizers")
    with pytest.raises(CheckpointError, match=r"image\.safetensors was altered or damaged"):
        load_diffusion(folder)
