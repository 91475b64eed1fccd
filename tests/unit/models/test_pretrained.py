"""Model folders: the round trip, and what a folder that does not fit is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from genvlm.errors import CheckpointError
from genvlm.models import model_folder
from genvlm.models.pretrained import PretrainedModel, load_pretrained, save_pretrained
from genvlm.nn.whole_files import hash_file
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pretrained


@pytest.fixture(scope="module")
def pretrained() -> PretrainedModel:
    return tiny_pretrained()


@pytest.fixture(scope="module")
def written(pretrained: PretrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_pretrained(pretrained, folder, "# card\n")
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "model"))


def test_a_folder_comes_back_bit_for_bit(
    pretrained: PretrainedModel, written: Path, tmp_path: Path
) -> None:
    loaded = load_pretrained(written)
    assert loaded.fingerprint == pretrained.fingerprint
    assert loaded.model.config == pretrained.model.config
    assert loaded.condition_dropout == pretrained.condition_dropout
    assert not any(p.requires_grad for p in loaded.model.parameters())
    save_pretrained(loaded, tmp_path / "again", "# card\n")
    before, after = (
        {p.relative_to(f): p.read_bytes() for f in (root,) for p in f.rglob("*") if p.is_file()}
        for root in (written, tmp_path / "again")
    )
    assert before == after


def test_nothing_in_a_folder_is_a_pickle(written: Path) -> None:
    assert {p.suffix for p in written.rglob("*") if p.is_file()} == {
        ".yaml", ".safetensors", ".model", ".json", ".md",
    }  # fmt: skip


def edit(folder: Path, name: str, change: Callable[[str], str]) -> None:
    """Change a text file and its hash, as somebody would who means it."""
    path = folder / name
    before = path.read_text()
    path.write_text(change(before))
    assert path.read_text() != before
    rehash(folder, name)


def rehash(folder: Path, name: str, path: Path | None = None) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest[name] = hash_file(path or folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.safetensors", "lacks model.safetensors: copy"),
        ("tokenizers/image.safetensors", "lacks tokenizers/image.safetensors: copy"),
        ("manifest.json", "not a finished model folder"),
    ],
)
def test_a_missing_file_is_named(folder: Path, name: str, said: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=said):
        load_pretrained(folder)


def test_one_changed_bit_is_found(folder: Path) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was altered or damaged"):
        load_pretrained(folder)


def test_a_manifest_cannot_point_outside_the_folder(folder: Path) -> None:
    outside = folder.parent / "outside"
    outside.write_text("x")
    rehash(folder, "../outside", outside)
    with pytest.raises(CheckpointError, match=r"lacks \.\./outside"):
        load_pretrained(folder)


def test_a_folder_of_another_schema_says_which(folder: Path) -> None:
    edit(folder, "config.yaml", lambda text: text.replace("schema_version: 3", "schema_version: 1"))
    with pytest.raises(CheckpointError, match=r"has schema 1; this genvlm reads 3"):
        load_pretrained(folder)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("vocabulary", "another layout of token ids"),
        ("text_tokenizer", "text tokenizer in .* is not the one the model was trained with"),
        ("image_tokenizer", "image tokenizer in .* is not the one the model was trained with"),
    ],
)
def test_another_fingerprint_is_refused(folder: Path, key: str, said: str) -> None:
    edit(folder, "config.yaml", lambda text: text.replace(f"{key}: ", f"{key}: f"))
    with pytest.raises(CheckpointError, match=said):
        load_pretrained(folder)


def test_the_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    tiny_image_tokenizer(seed=5).save(folder / "tokenizers")
    rehash(folder, "tokenizers/image.safetensors")
    with pytest.raises(CheckpointError, match=r"image tokenizer in .* is not the one"):
        load_pretrained(folder)


def test_the_fingerprint_follows_weights_and_tokenizers(pretrained: PretrainedModel) -> None:
    other_weights = tiny_pretrained(seed=1)
    assert other_weights.fingerprint != pretrained.fingerprint
    same = tiny_pretrained()
    assert same.fingerprint == pretrained.fingerprint
    with torch.no_grad():
        same.model.norm.weight[0] += 1e-6
    fresh = PretrainedModel(
        model=same.model,
        text_tokenizer=same.text_tokenizer,
        image_tokenizer=same.image_tokenizer,
        condition_dropout=same.condition_dropout,
    )
    assert fresh.fingerprint != pretrained.fingerprint


def test_a_kill_while_writing_leaves_the_earlier_folder(
    pretrained: PretrainedModel, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_folder, "publish_folder", killed)
    with pytest.raises(KeyboardInterrupt):
        save_pretrained(tiny_pretrained(seed=5), folder, "# other\n")
    assert load_pretrained(folder).fingerprint == pretrained.fingerprint


def test_a_second_model_replaces_the_first_whole(folder: Path) -> None:
    (folder / "left.txt").write_text("of the first")
    other = tiny_pretrained(seed=5)
    save_pretrained(other, folder, "# other\n")
    assert load_pretrained(folder).fingerprint == other.fingerprint
    assert not (folder / "left.txt").exists()
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]


def test_a_manifest_that_lists_nothing_is_none(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no readable manifest"):
        load_pretrained(folder)


def test_codebooks_are_told_apart_by_numbers_and_by_sphere() -> None:
    one, same, other = (tiny_image_tokenizer(seed=s) for s in (0, 0, 1))
    assert one.codebook_fingerprint == same.codebook_fingerprint != other.codebook_fingerprint
    same = tiny_image_tokenizer(seed=0)
    same.network.quantize.l2_normalized = False
    assert same.codebook_fingerprint != one.codebook_fingerprint
