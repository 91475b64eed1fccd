"""Folders of projectors: the round trip with every kind of part, and damage."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from genvlm.config.image_encoder import ForeignPatchesConfig, SmallImageEncoderConfig
from genvlm.config.projector import (
    ProjectorConfig,
)
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.auxiliary.projector import ProjectorModel
from genvlm.models.auxiliary.projector_folder import is_projector, load_projector, save_projector
from genvlm.models.pretrained import load_pretrained, save_pretrained
from genvlm.models.text_only import build_language
from genvlm.nn.safetensors_folder import load_tensors, save_tensors
from genvlm.nn.whole_files import hash_file
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pairs, tiny_pretrained
from genvlm.testing.tiny_projector import (
    TINY_QUERIES,
    LanguageKind,
    PatchKind,
    ProjectorKind,
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
    ("language", "patches", "kind"),
    [
        ("llama", "vqgan", "mlp"), ("gpt2", "clip", "linear"), ("genvlm", "siglip", "mlp"),
        ("gpt2", "vqgan", "queries"), ("llama", "small", "linear"), ("gpt2", "small", "queries"),
        ("llama", "own", "mlp"),
    ],
)  # fmt: skip
def test_a_model_comes_back_bit_for_bit_without_its_parts(
    language: LanguageKind, patches: PatchKind, kind: ProjectorKind, tmp_path: Path
) -> None:
    config = tiny_projector_config(tmp_path / "parts", language, patches, projector=kind)
    (tmp_path / "parts" / "language" / "code.py").write_text("print('never copied')")
    model = build_tiny(config, seed=1)
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
    names = {name for name, _ in model.projector.named_parameters()}
    assert len(names) == {"linear": 2, "mlp": 4, "queries": 43}[kind]
    if patches == "small":
        names |= {f"image_encoder.{name}" for name, _ in model.patches.encoder.named_parameters()}
    assert load_tensors(tmp_path / "model" / "model.safetensors").keys() == names
    for path in (tmp_path / "model").rglob("*"):
        assert path.suffix != ".py"
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes()


def test_the_fingerprint_follows_weights_parts_and_prompt(tmp_path: Path) -> None:
    config = tiny_projector_config(tmp_path / "0")
    other = tiny_projector_config(tmp_path / "1", seed=1)
    clip = ForeignPatchesConfig(path=str(write_tiny_vision_model(tmp_path / "clip")))
    small = SmallImageEncoderConfig(
        side=16, patch_size=4, hidden_size=16, num_layers=1, num_heads=2
    )
    configs = [
        config,
        replace(config, prompt="a {image}"),
        replace(config, projector="linear"),
        replace(config, image_encoder=other.image_encoder),
        replace(config, language_model=other.language_model),
        replace(config, image_encoder=clip),
        replace(config, image_encoder=replace(clip, layer=-1)),
        replace(config, image_encoder=small),
        replace(config, image_encoder=replace(small, num_heads=1)),
        replace(config, projector="queries", queries=TINY_QUERIES),
        replace(config, projector="queries", queries=replace(TINY_QUERIES, num_heads=1)),
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


def test_weights_of_another_image_encoder_are_refused(tmp_path: Path) -> None:
    config = tiny_projector_config(tmp_path / "parts", "gpt2", "small")
    folder = tmp_path / "model"
    save_projector(build_tiny(config), config, folder, "# card\n")
    weights = load_tensors(folder / "model.safetensors")
    save_tensors(
        {n: t * 2 if n == "image_encoder.norm.weight" else t for n, t in weights.items()},
        folder / "model.safetensors",
    )
    rehash(folder, "model.safetensors")
    with pytest.raises(CheckpointError, match="computes something else than the model that was"):
        load_projector(folder, build_language)
    left_out = {n: t for n, t in weights.items() if not n.startswith("image_encoder.norm")}
    save_tensors(left_out, folder / "model.safetensors")
    rehash(folder, "model.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit its .* \(missing: norm\.weight\)"):
        load_projector(folder, build_language)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"queries": TINY_QUERIES}, "projector mlp takes no `queries`"),
        ({"projector": "queries"}, "projector queries lacks `queries`"),
        ({"image_encoder": SmallImageEncoderConfig(
            hidden_size=16, num_layers=1, num_heads=2, patch_dropout=0.5
        )}, "fewer patches in training .* set it to 0"),
    ],
)  # fmt: skip
def test_parts_that_do_not_go_together_are_refused(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    config = tiny_projector_config(tmp_path)
    with pytest.raises(ConfigError, match=said):
        replace(config, **change)


def test_queries_of_uneven_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match="hidden_size 8 is not a multiple of twice num_heads 3"):
        replace(TINY_QUERIES, num_heads=3)
