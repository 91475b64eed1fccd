"""Image encoders of our own models, frozen, for projectors."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from genvlm.config.image_encoder import OwnPatchesConfig, VQPatchesConfig
from genvlm.errors import CheckpointError, ConfigError
from genvlm.models.auxiliary.coca import COCA
from genvlm.models.auxiliary.contrastive import CONTRASTIVE, build_dual_encoder, load_contrastive
from genvlm.models.auxiliary.folder import Built, Family
from genvlm.models.auxiliary.llip import LLIP
from genvlm.models.auxiliary.masked import MASKED
from genvlm.models.auxiliary.seeing import build_seeing, load_own_patches
from genvlm.models.pretrained import save_pretrained
from genvlm.nn.frozen import Frozen
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pairs, tiny_pretrained
from genvlm.testing.tiny_auxiliary import (
    tiny_coca_config,
    tiny_contrastive_config,
    tiny_dual_encoder,
    tiny_llip_config,
    tiny_masked_config,
)
from genvlm.tokenization.image import fit_squares, to_pixels

PIXELS = to_pixels(fit_squares([image for _, image in tiny_pairs()[:2]], 16))


def saved(folder: Path, *, seed: int = 0) -> Built[Any]:
    built = tiny_dual_encoder(seed=seed)
    CONTRASTIVE.save(tiny_contrastive_config(), built, folder, "# card\n")
    return built


def test_states_are_those_of_the_model_and_their_mean_gives_its_embedding(tmp_path: Path) -> None:
    built = saved(tmp_path / "clip")
    reader = build_seeing(OwnPatchesConfig(path=str(tmp_path / "clip")))
    states = reader.encoder(PIXELS)
    assert states.shape == (2, reader.num_patches, reader.width) == (2, 16, 16)
    assert torch.equal(states, built.network.image_encoder(PIXELS))
    network = load_contrastive(tmp_path / "clip").network
    embedded = torch.nn.functional.normalize(network.image_projection(states.mean(1)), dim=-1)
    assert torch.equal(embedded, network.embed_images(PIXELS))
    assert isinstance(reader.encoder, Frozen)
    assert not any(p.requires_grad for p in reader.encoder.parameters())


def test_dropped_patches_come_back(tmp_path: Path) -> None:
    """An encoder that was trained on half of the patches is read with all of them."""
    config = tiny_contrastive_config()
    half = replace(config, image_encoder=replace(config.image_encoder, patch_dropout=0.5))
    CONTRASTIVE.save(half, tiny_dual_encoder(), tmp_path / "half", "# card\n")
    reader = load_own_patches(tmp_path / "half")
    reader.encoder.train()
    assert reader.encoder(PIXELS).shape[1] == reader.num_patches == 16


def test_the_fingerprint_follows_the_image_encoder_alone(tmp_path: Path) -> None:
    built = saved(tmp_path / "one")
    with torch.no_grad():
        built.network.text_projection.weight.mul_(2)
    CONTRASTIVE.save(tiny_contrastive_config(), built, tmp_path / "other texts", "# card\n")
    saved(tmp_path / "other pictures", seed=1)
    names = ("one", "other texts", "other pictures")
    one, texts, pictures = (load_own_patches(tmp_path / name).fingerprint for name in names)
    assert one == texts != pictures


@pytest.mark.parametrize(
    ("family", "config"),
    [(COCA, tiny_coca_config), (LLIP, tiny_llip_config), (MASKED, tiny_masked_config)],
)
def test_every_family_that_has_a_small_encoder_lends_it(
    family: Family[Any, Any], config: Callable[[], Any], tmp_path: Path
) -> None:
    built = family.build(config(), 1)
    family.save(config(), built, tmp_path / "model", "# card\n")
    states = load_own_patches(tmp_path / "model").encoder(PIXELS)
    assert torch.equal(states, built.network.eval().image_encoder(PIXELS))


def test_what_lends_no_encoder_is_refused(tmp_path: Path) -> None:
    save_pretrained(tiny_pretrained(), tmp_path / "transformer", "# card\n")
    with pytest.raises(ConfigError, match="no image encoder for a projector: give a model folder"):
        load_own_patches(tmp_path / "transformer")
    with pytest.raises(CheckpointError, match="no model folder at"):
        load_own_patches(tmp_path / "nowhere")
    tiny_image_tokenizer().save(tmp_path / "image")
    lent = VQPatchesConfig(path=str(tmp_path / "image"))
    config = replace(tiny_contrastive_config(), image_encoder=lent)
    CONTRASTIVE.save(config, build_dual_encoder(config, 0), tmp_path / "frozen", "# card\n")
    with pytest.raises(ConfigError, match="a frozen encoder of kind vqgan: name that one instead"):
        load_own_patches(tmp_path / "frozen")
