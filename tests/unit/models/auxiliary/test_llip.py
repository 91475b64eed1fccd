"""Llip: what a text makes of a picture, its gradients, its folder."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.config.contrastive import MixtureTokensConfig
from genvlm.config.schema import to_plain
from genvlm.data.caption_batches import CaptionBatch
from genvlm.data.pairs import fit_pixels
from genvlm.errors import CheckpointError, ConfigError, TokenError
from genvlm.models.auxiliary.contrastive import CONTRASTIVE, Loss, load_contrastive
from genvlm.models.auxiliary.llip import LLIP, LlipModel, load_llip
from genvlm.scoring.open import METHODS, model_kind, open_scorer
from genvlm.scoring.protocols import Grid
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_auxiliary import (
    tiny_contrastive_config,
    tiny_llip,
    tiny_llip_config,
    tiny_llip_network,
)
from genvlm.training.objectives.contrastive import ContrastiveObjective

CAPTIONS, PICTURES = zip(*tiny_pairs(), strict=True)
TEXTS = ["a red bar", "a blue square on a white page", "white"]


def test_a_picture_has_another_embedding_for_another_text() -> None:
    model = tiny_llip()
    network = model.network
    tokens = network.read_images(model.pixels(PICTURES[:2]))
    texts = network.embed_texts(*model.pieces(TEXTS))
    seen = network.embed_images(tokens, texts)
    assert tokens.shape == (2, 3, 8)
    assert seen.shape == (2, 3, 8)
    torch.testing.assert_close(seen.norm(dim=-1), torch.ones(2, 3))
    for of_picture in seen:
        assert torch.pdist(of_picture).min() > 0.01
    assert (seen[0] - seen[1]).norm(dim=-1).min() > 0.01


def test_one_token_leaves_a_text_nothing_to_choose() -> None:
    model = tiny_llip(num_tokens=1)
    tokens = model.network.read_images(model.pixels(PICTURES[:2]))
    seen = model.network.embed_images(tokens, model.network.embed_texts(*model.pieces(TEXTS)))
    torch.testing.assert_close(seen, seen[:, :1].expand_as(seen))
    assert (seen[0] - seen[1]).norm(dim=-1).min() > 0.01


def test_the_order_of_tokens_changes_nothing_and_each_of_them_counts() -> None:
    model = tiny_llip()
    network = model.network
    tokens = network.read_images(model.pixels(PICTURES[:4]))
    texts = network.embed_texts(*model.pieces(TEXTS))
    whole = network.compare(tokens, texts, network.scale)
    torch.testing.assert_close(network.compare(tokens[:, [2, 0, 1]], texts, network.scale), whole)
    for left in ([0, 1], [0, 2], [1, 2]):
        assert (network.compare(tokens[:, left], texts, network.scale) - whole).abs().max() > 1e-3


def test_a_pair_does_not_depend_on_what_stands_beside_it() -> None:
    model = tiny_llip()
    together = model.cosines(PICTURES[0], TEXTS)
    alone = torch.cat([model.cosines(PICTURES[0], [text]) for text in TEXTS])
    torch.testing.assert_close(alone, together)
    assert together.abs().max() <= 1 + 1e-6
    assert (together - model.cosines(PICTURES[1], TEXTS)).abs().min() > 1e-4
    with pytest.raises(TokenError, match="tokens, and the text encoder takes 24"):
        model.cosines(PICTURES[0], ["white page " * 30])


def three_pairs(model: LlipModel) -> CaptionBatch:
    pieces, mask = model.texts.encode(CAPTIONS[:3])
    allowed = torch.ones(3, dtype=torch.bool)
    return CaptionBatch(fit_pixels(PICTURES[:3], 16), pieces, mask, allowed, None, 3.0)


@pytest.mark.parametrize("chunk_rows", [None, 2])
@pytest.mark.parametrize("loss", ["sigmoid", "infonce"])
def test_the_losses_are_those_by_hand(loss: Loss, chunk_rows: int | None) -> None:
    """Three pairs, whose nine cosines are each of a picture as that text sees it."""
    model = tiny_llip(loss)
    network = model.network
    scale = float(network.scale)
    logits = [
        [scale * float(model.cosines(picture, [text])[0]) for text in CAPTIONS[:3]]
        for picture in PICTURES[:3]
    ]
    by_hand = 0.0
    for i in range(3):
        if loss == "infonce":
            row, column = logits[i], [logits[j][i] for j in range(3)]
            sums = (sum(math.exp(value) for value in values) for values in (row, column))
            by_hand += sum(math.log(total) - logits[i][i] for total in sums) / 2
            continue
        assert network.bias is not None
        for j in range(3):
            sign = 1 if i == j else -1
            by_hand += math.log(1 + math.exp(-sign * (logits[i][j] + float(network.bias))))
    found = ContrastiveObjective(network, chunk_rows)(three_pairs(model))
    assert found.weighted_sum.item() == pytest.approx(by_hand, rel=1e-5)
    nearest = sum(row.index(max(row)) == i for i, row in enumerate(logits))
    assert found.means["own_caption_nearest"].tolist() == [nearest, 3]


def test_gradients_reach_every_weight() -> None:
    model = tiny_llip()
    network = model.network.requires_grad_(True)
    ContrastiveObjective(network, chunk_rows=1)(three_pairs(model)).weighted_sum.backward()
    without = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_a_folder_gives_back_the_model_which_is_asked_by_pairs(tmp_path: Path) -> None:
    model, config, folder = tiny_llip(), tiny_llip_config(), tmp_path / "model"
    LLIP.save(config, tiny_llip_network(config), folder, "# card\n")
    moved = Path(shutil.move(folder, tmp_path / "moved"))
    again = load_llip(moved)
    assert again.fingerprint == model.fingerprint
    expected = model.cosines(PICTURES[0], TEXTS)
    torch.testing.assert_close(again.cosines(PICTURES[0], TEXTS), expected, rtol=0, atol=0)
    assert METHODS[model_kind(moved)] == ("cosine", "logit")
    grid = Grid(item_id="one", images=[PICTURES[0]], texts=TEXTS)
    cosines, logits = (open_scorer(moved, by).score([grid])[0].values for by in METHODS["llip"])
    assert cosines[0].tolist() == pytest.approx(expected.tolist())
    assert logits == pytest.approx(float(model.network.scale) * cosines)
    with pytest.raises(CheckpointError, match="is a llip model: a contrastive one is needed"):
        load_contrastive(moved)


def test_models_without_mixture_tokens_are_as_they_were() -> None:
    """Configurations are hashed as they are written, into fingerprints and records of runs."""
    plain = to_plain(tiny_contrastive_config())
    assert list(plain) == ["image_encoder", "text_encoder", "embedding_dim", "loss"]
    assert to_plain(tiny_llip_config())["mixture_tokens"] == {"num_tokens": 3, "num_heads": 2}


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"8 is not a multiple of mixture_tokens\.num_heads 3"):
        replace(tiny_llip_config(), mixture_tokens=MixtureTokensConfig(num_tokens=2, num_heads=3))
    with pytest.raises(ConfigError, match="a dual encoder has no mixture_tokens"):
        CONTRASTIVE.build(tiny_llip_config(), 0)
    with pytest.raises(ConfigError, match="Llip needs mixture_tokens"):
        LLIP.build(tiny_contrastive_config(), 0)
