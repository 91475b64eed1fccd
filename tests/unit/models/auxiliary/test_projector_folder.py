"""Folders of projectors: the round trip with every kind of part, and damage."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.config.image_encoder import ForeignPatchesConfig
from genvlm.config.projector import (
    ProjectorConfig,
)
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.auxiliary.projector import ProjectorModel
from genvlm.models.auxiliary.projector_folder import is_projector, load_projector, save_projector
from genvlm.models.pretrained import load_pretrained, save_pretrained
from genvlm.models.text_only import build_language
from genvlm.nn.safetensors_folder import load_tensors
from genvlm.nn.whole_files import hash_file
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pairs, tiny_pretrained
from genvlm.testing.tiny_projector import (
    LanguageKind,
    PatchKind,
    build_tiny,
    tiny_projector_config,
    write_tiny_vision_model,
)
from genvlm.tokenization.image_slots import parse_prompt

IMAGES = [image for _, image in tiny_pairs()[:3]]
PROMPT = parse_prompt("{image}a red {image}{image}square")


def logits(model: ProjectorModel) -> torch.Tensor:
    with torch.no_grad():
        return model.language.model(model.read(PROMPT, model.project(IMAGES)), 60)


@pytest.mark.parametrize(
    ("language", "patches"), [("llama", "vqgan"), ("gpt2", "clip"), ("genvlm", "siglip")]
)
def test_a_model_comes_back_bit_for_bit_without_its_parts(
    language: LanguageKind, patches: PatchKind, tmp_path: Path
) -> None:
    kind = "linear" if language == "gpt2" else "mlp"
    config = tiny_projector_config(tmp_path / "parts", language, patches, projector=kind)
    (tmp_path / "parts" / "language" / "code.py").write_text("print('never copied')")
    model = build_tiny(config)
    expected = logits(model)
    save_projector(model, config, tmp_path / "model", "# card\n")
    shutil.rmtree(tmp_path / "parts")
    loaded = load_projector(tmp_path / "model", build_language)
    assert loaded.fingerprint == model.fingerprint
    assert torch.equal(logits(loaded), expected)
    assert loaded.prompt == "{image}"
    assert not any(
        p.requires_grad
        for part in (loaded.projector, loaded.patches.encoder, loaded.language.model)
        for p in part.parameters()
    )
    names = {"linear_1.weight", "linear_1.bias"}
    if kind == "mlp":
        names |= {"linear_2.weight", "linear_2.bias"}
    assert load_tensors(tmp_path / "model" / "model.safetensors").keys() == names
    for path in (tmp_path / "model").rglob("*"):
        assert path.suffix != ".py"
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes()


def test_the_fingerprint_follows_weights_parts_and_prompt(tmp_path: Path) -> None:
    config = tiny_projector_config(tmp_path / "0")
    other = tiny_projector_config(tmp_path / "1", seed=1)
    clip = ForeignPatchesConfig(path=str(write_tiny_vision_model(tmp_path / "clip")))
    configs = [
        config,
        replace(config, prompt="a {image}"),
        replace(config, projector="linear"),
        replace(config, image_encoder=other.image_encoder),
        replace(config, language_model=other.language_model),
        replace(config, image_encoder=clip),
        replace(config, image_encoder=replace(clip, layer=-1)),
    ]
    seen = {build_tiny(c).fingerprint for c in configs} | {build_tiny(config, seed=1).fingerprint}
    assert len(seen) == len(configs) + 1
    assert build_tiny(config).fingerprint in seen


def test_which_folders_are_of_projectors(folder: Path, tmp_path: Path) -> None:
    assert is_projector(folder)
    save_pretrained(tiny_pretrained(), tmp_path / "other", "# card\n")
    assert not is_projector(tmp_path / "other")
    assert not is_projector(tmp_path)
    with pytest.raises(CheckpointError, match="is a mixed-modal model: a projector one is needed"):
        load_projector(tmp_path / "other", build_language)
    with pytest.raises(CheckpointError, match="is a projector model: a mixed-modal one"):
        load_pretrained(folder)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("written")
    config = tiny_projector_config(root / "parts")
    save_projector(build_tiny(config), config, root / "model", "# card\n")
    return root / "model"


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "model"))


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """Change a text file and its hash, as somebody would who means it."""
    path = folder / name
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    rehash(folder, name)


def rehash(folder: Path, name: str) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[name] = hash_file(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.replace("schema_version: 1", "schema_version: 9"), "has schema 9"),
        (lambda t: t.replace("prompt: '{image}'", "prompt: 'a {image}'"), "computes something"),
        (lambda t: t.replace("projector: mlp", "projector: linear"), "does not fit its config"),
        (lambda t: t.replace("\nlanguage_model: ", "\nlanguage_model: f"), "the language model in"),
    ],
)
def test_a_folder_that_does_not_fit_says_why(
    folder: Path, change: Callable[[str], str], said: str
) -> None:
    edit(folder, "config.yaml", change)
    with pytest.raises(CheckpointError, match=said):
        load_projector(folder, build_language)


def test_another_frozen_part_is_refused(folder: Path) -> None:
    tiny_image_tokenizer(seed=5).save(folder / "image_encoder")
    with pytest.raises(CheckpointError, match=r"image\.safetensors was altered or damaged"):
        load_projector(folder, build_language)
    rehash(folder, "image_encoder/image.safetensors")
    with pytest.raises(CheckpointError, match=r"the image encoder in .* is not the one"):
        load_projector(folder, build_language)


def test_paths_of_a_folder_lead_into_it_alone(folder: Path) -> None:
    edit(folder, "config.yaml", lambda t: t.replace("path: language_model", "path: /nowhere"))
    load_projector(folder, build_language)


def test_a_prompt_of_a_configuration_shows_one_picture(tmp_path: Path) -> None:
    config = tiny_projector_config(tmp_path)
    for prompt in ("a picture", "{image}{image}"):
        with pytest.raises(ConfigError, match=r"must hold \{image\} once"):
            ProjectorConfig(
                image_encoder=config.image_encoder, language_model=config.language_model,
                prompt=prompt,
            )  # fmt: skip
