"""The dual encoder and its folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from genvlm.config.contrastive import ContrastiveConfig
from genvlm.config.image_encoder import ForeignPatchesConfig
from genvlm.config.text_encoder import FrozenTextEncoderConfig
from genvlm.errors import CheckpointError, TokenError
from genvlm.models.auxiliary.contrastive import (
    CONTRASTIVE,
    ContrastiveModel,
    Loss,
    load_contrastive,
)
from genvlm.models.auxiliary.folder import trained_state
from genvlm.nn.safetensors_folder import load_tensors
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_auxiliary import (
    tiny_contrastive,
    tiny_contrastive_config,
    tiny_dual_encoder,
)
from genvlm.testing.tiny_diffusion import write_tiny_text_encoder
from genvlm.testing.tiny_projector import write_tiny_vision_model

CAPTIONS, PICTURES = zip(*tiny_pairs(), strict=True)


def save(folder: Path, loss: Loss = "infonce", *, seed: int = 0) -> None:
    built = tiny_dual_encoder(loss, seed=seed)
    CONTRASTIVE.save(tiny_contrastive_config(loss), built, folder, "# card\n")


TEXTS = ["a red bar", "a blue square on a white page", "white"]


def test_embeddings_have_length_one_and_do_not_depend_on_what_stands_beside() -> None:
    model = tiny_contrastive()
    images, texts = model.embed_images(PICTURES), model.embed_texts(TEXTS)
    for rows in (images, texts):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    alone = torch.cat([model.embed_texts([text]) for text in TEXTS])
    torch.testing.assert_close(texts, alone)
    torch.testing.assert_close(images[:2], model.embed_images(PICTURES[:2]))
    assert torch.pdist(texts).min() > 0.01
    assert torch.pdist(images).min() > 0.001


def test_pictures_of_any_size_are_scaled() -> None:
    model = tiny_contrastive()
    large = PICTURES[0].repeat(2, 0).repeat(2, 1)
    assert model.embed_images([large]).shape == (1, 8)


def test_the_order_of_words_and_the_places_of_patches_matter() -> None:
    model = tiny_contrastive()
    texts = model.embed_texts(["a red bar", "bar red a"])
    pictures = model.embed_images([PICTURES[0], PICTURES[0][::-1].copy(), PICTURES[1]])
    assert (texts[0] - texts[1]).norm() > 0.01
    assert (pictures[0] - pictures[2]).norm() > 0.01


def test_the_scale_grows_no_further_than_a_hundred() -> None:
    network = tiny_contrastive().network
    with torch.no_grad():
        network.log_scale.fill_(9.0)
    assert network.scale.item() == pytest.approx(100)
    assert network.bias is None
    assert tiny_contrastive("sigmoid").network.bias is not None


def test_a_text_that_is_too_long_is_named() -> None:
    with pytest.raises(TokenError, match="tokens, and the text encoder takes 24"):
        tiny_contrastive().embed_texts(["white page " * 30])


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_a_folder_gives_back_the_model(loss: Loss, tmp_path: Path) -> None:
    model = tiny_contrastive(loss)
    save(tmp_path / "model", loss)
    moved = Path(shutil.move(tmp_path / "model", tmp_path / "moved"))
    again = load_contrastive(moved)
    assert CONTRASTIVE.owns(moved)
    assert again.fingerprint == model.fingerprint
    torch.testing.assert_close(again.embed_texts(TEXTS), model.embed_texts(TEXTS), rtol=0, atol=0)
    torch.testing.assert_close(
        again.embed_images(PICTURES), model.embed_images(PICTURES), rtol=0, atol=0
    )


def test_a_folder_of_other_weights_or_another_kind_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a")
    save(tmp_path / "b", seed=1)
    assert not CONTRASTIVE.owns(tmp_path)
    shutil.copy(tmp_path / "b/model.safetensors", tmp_path / "a/model.safetensors")
    with pytest.raises(CheckpointError, match="altered or damaged"):
        load_contrastive(tmp_path / "a")
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    other = json.loads((tmp_path / "b/manifest.json").read_text())
    manifest["model.safetensors"] = other["model.safetensors"]
    (tmp_path / "a/manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="computes something else"):
        load_contrastive(tmp_path / "a")


def test_frozen_encoders_are_copied_and_no_weights_of_theirs_are_trained(tmp_path: Path) -> None:
    text = write_tiny_text_encoder(tmp_path / "text")
    seeing = write_tiny_vision_model(tmp_path / "image")
    config = ContrastiveConfig(
        image_encoder=ForeignPatchesConfig(path=str(seeing), layer=-1),
        text_encoder=FrozenTextEncoderConfig(path=str(text), max_tokens=16),
        embedding_dim=8,
    )
    built = CONTRASTIVE.build(config, 0)
    assert set(trained_state(built.network)) == {
        "image_projection.weight", "text_projection.weight", "log_scale",
    }  # fmt: skip
    built.network.train()
    assert not built.network.image_encoder.model.training
    model = ContrastiveModel.of(CONTRASTIVE, config, built)
    assert model.embed_images([]).shape == model.embed_texts([]).shape == (0, 8)
    expected = model.embed_images(PICTURES)
    CONTRASTIVE.save(config, built, tmp_path / "model", "# card\n")
    shutil.rmtree(text)
    shutil.rmtree(seeing)
    found = load_contrastive(tmp_path / "model")
    torch.testing.assert_close(found.embed_images(PICTURES), expected, rtol=0, atol=0)
    assert len(load_tensors(tmp_path / "model/model.safetensors")) == 3
