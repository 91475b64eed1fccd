"""What holds for the folders and networks of every kind of model that reads pictures and texts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from genvlm.errors import CheckpointError
from genvlm.models.auxiliary.coca import COCA
from genvlm.models.auxiliary.contrastive import CONTRASTIVE
from genvlm.models.auxiliary.folder import Built, Family
from genvlm.models.auxiliary.llip import LLIP
from genvlm.models.auxiliary.masked import MASKED
from genvlm.nn.safetensors_folder import load_tensors, save_tensors
from genvlm.nn.whole_files import hash_file
from genvlm.scoring.features import open_features
from genvlm.scoring.open import METHODS, model_kind, open_scorer
from genvlm.scoring.protocols import Grid
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_auxiliary import (
    tiny_captioner,
    tiny_coca_config,
    tiny_contrastive_config,
    tiny_dual_encoder,
    tiny_llip_config,
    tiny_llip_network,
    tiny_masked_config,
    tiny_masked_encoders,
)

CAPTIONS, PICTURES = zip(*tiny_pairs()[:3], strict=True)
GRID = Grid(item_id="all", images=list(PICTURES), texts=list(CAPTIONS))


class Kind(NamedTuple):
    family: Family[Any, Any]
    config: Any
    build: Callable[[int], Built[Any]]


KINDS = {
    "CLIP": Kind(CONTRASTIVE, tiny_contrastive_config(), lambda seed: tiny_dual_encoder(seed=seed)),
    "SigLIP": Kind(
        CONTRASTIVE,
        tiny_contrastive_config("sigmoid"),
        lambda seed: tiny_dual_encoder("sigmoid", seed=seed),
    ),
    "Llip": Kind(
        LLIP, tiny_llip_config(), lambda seed: tiny_llip_network(tiny_llip_config(), seed=seed)
    ),
    "CoCa": Kind(COCA, tiny_coca_config(), lambda seed: tiny_captioner(seed=seed)),
    "FLAVA": Kind(MASKED, tiny_masked_config(), lambda seed: tiny_masked_encoders(seed=seed)),
}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request: pytest.FixtureRequest) -> Kind:
    found = request.param
    assert isinstance(found, Kind)
    return found


def saved(kind: Kind, folder: Path, seed: int = 0) -> Path:
    kind.family.save(kind.config, kind.build(seed), folder, "# card\n")
    return folder


def test_a_folder_gives_every_weight_back_without_pickles_or_paths(
    kind: Kind, tmp_path: Path
) -> None:
    folder = saved(kind, tmp_path / "model")
    config, found = kind.family.load(folder)
    expected = kind.build(0).network.state_dict()
    assert found.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(t, expected[n]) for n, t in found.network.state_dict().items())
    assert not found.network.training
    assert not any(p.requires_grad for p in found.network.parameters())
    assert type(config) is kind.family.config
    for path in folder.rglob("*"):
        assert path.suffix not in (".pt", ".bin", ".pkl", ".py")
        assert not path.is_file() or str(tmp_path).encode() not in path.read_bytes()


def test_the_fingerprint_follows_the_weights_and_not_the_place(kind: Kind, tmp_path: Path) -> None:
    def fingerprint(folder: Path) -> str:
        return kind.family.fingerprint(*kind.family.load(folder))

    one, same, other = (saved(kind, tmp_path / str(n), seed) for n, seed in enumerate((0, 0, 1)))
    assert fingerprint(one) == fingerprint(same) != fingerprint(other)


def test_damage_is_named(kind: Kind, tmp_path: Path) -> None:
    folder = saved(kind, tmp_path / "model")
    path = folder / "model.safetensors"
    weights = load_tensors(path)
    name = next(name for name, tensor in weights.items() if tensor.dim() > 1)
    save_tensors({**weights, name: weights[name] + 1e-3}, path)
    with pytest.raises(CheckpointError, match="was altered or damaged"):
        kind.family.load(folder)
    manifest = (folder / "manifest.json").read_text()
    before = saved(kind, tmp_path / "whole") / "model.safetensors"
    (folder / "manifest.json").write_text(manifest.replace(hash_file(before), hash_file(path)))
    with pytest.raises(CheckpointError, match="computes something else than the model that was"):
        kind.family.load(folder)


def test_every_way_to_use_a_folder_takes_it(kind: Kind, tmp_path: Path) -> None:
    folder = saved(kind, tmp_path / "model")
    for method in METHODS[model_kind(folder)]:
        (scores,) = open_scorer(folder, method).score([GRID])
        assert scores.values.shape == (3, 3)
        assert scores.values.std() > 0
    features = open_features(folder).features(PICTURES)
    assert len(features) == 3
    assert (features[0] != features[1]).any()
