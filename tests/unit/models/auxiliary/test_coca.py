"""CoCa: what its halves see, its probabilities, its losses by hand, its folder."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genvlm.data.caption_batches import CaptionBatch
from genvlm.data.images import RGBImage
from genvlm.data.pairs import fit_pixels
from genvlm.models.auxiliary.coca import COCA, CoCaModel, load_coca
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_auxiliary import (
    tiny_captioner,
    tiny_coca,
    tiny_coca_config,
    tiny_coca_train_config,
)
from genvlm.training.coca import train_coca
from genvlm.training.objectives.coca import CoCaObjective

CAPTIONS, PICTURES = zip(*tiny_pairs(), strict=True)
TEXTS = ["a red bar", "a blue square on a white page", "white"]


def test_a_score_depends_on_picture_and_text_and_not_on_what_stands_beside() -> None:
    model = tiny_coca()
    together, mask = model.score_texts(PICTURES[0], TEXTS)
    for number, text in enumerate(TEXTS):
        alone, of_alone = model.score_texts(PICTURES[0], [text])
        torch.testing.assert_close(alone[0][of_alone[0]], together[number][mask[number]])
    other, _ = model.score_texts(PICTURES[5], TEXTS)
    assert (other - together).abs().max() > 1e-3
    assert (together[~mask] == 0).all()
    alone = torch.cat([model.embed_texts([text]) for text in TEXTS])
    torch.testing.assert_close(model.embed_texts(TEXTS), alone)
    torch.testing.assert_close(model.embed_images(PICTURES[:1]), model.embed_images(PICTURES)[:1])


def test_a_piece_is_given_those_before_it_and_the_picture() -> None:
    model = tiny_coca()
    short, _ = model.score_texts(PICTURES[0], ["a red bar"])
    long, _ = model.score_texts(PICTURES[0], ["a red bar on a white page"])
    num = short.shape[1] - 1  # behind these, one ends and the other goes on
    torch.testing.assert_close(short[0, :num], long[0, :num])
    assert abs(short[0, num] - long[0, num]) > 1e-4


def test_everything_that_may_follow_has_probability_one_together() -> None:
    network, coder, _ = tiny_captioner()
    begin = coder.tokenizer.size  # type: ignore[attr-defined]
    pooled, _ = network.read_images(torch.zeros(1, 3, 16, 16))
    total = 0.0
    for following in range(begin):
        total += math.exp(_second(network, [begin, 3, following], pooled))
    ended = _second(network, [begin, 3], pooled)
    assert total + math.exp(ended) == pytest.approx(1, abs=1e-4)


def _second(network: torch.nn.Module, row: list[int], pooled: Tensor) -> float:
    """log p of what stands behind the second token."""
    pieces, mask = torch.tensor([row]), torch.ones(1, len(row), dtype=torch.bool)
    tokens = network.read_texts(pieces, mask).tokens
    return float(network.log_probs(tokens, pooled, pieces, mask)[0, 1])


def _surprise(model: CoCaModel, row: list[int], at: int, picture: RGBImage) -> float:
    """-log p of what stands behind a token, or of the end: logits of all pieces, by hand."""
    network = model.network
    pieces, mask = torch.tensor([row]), torch.ones(1, len(row), dtype=torch.bool)
    states = network.read_texts(pieces, mask).tokens
    seen = torch.ones(1, 1, len(row), len(row), dtype=torch.bool).tril()
    pooled, _ = network.read_images(model.pixels([picture]))
    for block in network.multimodal_blocks:
        states = block(states, network._rotary(mask, class_token=False), seen, pooled)
    logits = (network.norm(states)[0, at] @ network.head.proj.weight.T).tolist()
    following = (*row[1:], row[0])[at]
    return math.log(sum(map(math.exp, logits))) - logits[following]


def test_the_losses_are_those_by_hand() -> None:
    """Three pairs: InfoNCE of their embeddings, and twice minus the log-probability."""
    model = tiny_coca()
    texts = list(CAPTIONS[:3])
    pieces, mask = model.texts.encode(texts)
    batch = CaptionBatch(
        fit_pixels(PICTURES[:3], 16), pieces, mask, torch.ones(3, dtype=torch.bool), None, 3.0
    )
    images, embedded = model.embed_images(PICTURES[:3]), model.embed_texts(texts)
    logits = [[float(model.network.scale * i @ t) for t in embedded] for i in images]
    contrastive = 0.0
    for k in range(3):
        row = math.log(sum(math.exp(logits[k][j]) for j in range(3))) - logits[k][k]
        column = math.log(sum(math.exp(logits[j][k]) for j in range(3))) - logits[k][k]
        contrastive += (row + column) / 2
    caption = 0.0
    for k in range(3):
        (row,), _ = model.texts.encode([texts[k]])  # the begin token is the end's
        caption += sum(_surprise(model, row.tolist(), at, PICTURES[k]) for at in range(len(row)))
    losses = CoCaObjective(model.network, contrastive_weight=1.0, caption_weight=2.0)(batch)
    assert losses.terms["infonce"].item() == pytest.approx(contrastive, rel=1e-5)
    assert losses.terms["caption"].item() == pytest.approx(caption, rel=1e-5)
    assert losses.weighted_sum.item() == pytest.approx(contrastive + 2 * caption, rel=1e-5)
    assert losses.counts["caption"] == mask.sum()


def test_training_lowers_both_losses_and_the_folder_gives_the_model_back(tmp_path: Path) -> None:
    config = tiny_coca_train_config(tmp_path, num_steps=40)
    trained = load_coca(train_coca(config, tmp_path / "run"))
    lines = (tmp_path / "run/log.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    assert last["loss_caption"] < first["loss_caption"] / 2
    assert last["loss_infonce"] < 0.9 * first["loss_infonce"]
    assert trained.fingerprint != tiny_coca().fingerprint
    built = tiny_captioner()
    COCA.save(tiny_coca_config(), built, tmp_path / "model", "# card\n")
    again = load_coca(tmp_path / "model")
    scored = [m.score_texts(PICTURES[0], TEXTS)[0] for m in (again, tiny_coca())]
    torch.testing.assert_close(*scored, rtol=0, atol=0)
