"""FLAVA: what is masked is not seen, losses by hand, scores, training, folder."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.config.masked import MaskedObjectiveConfig
from genvlm.data.caption_batches import CaptionBatch
from genvlm.data.pairs import fit_pixels
from genvlm.errors import ConfigError
from genvlm.models.auxiliary.masked import MASKED, MaskedModel, load_masked
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_pairs
from genvlm.testing.tiny_auxiliary import (
    tiny_masked,
    tiny_masked_config,
    tiny_masked_encoders,
    tiny_masked_train_config,
)
from genvlm.tokenization.coarse import merge_codes
from genvlm.training.caption_run import prepare_captions
from genvlm.training.masked import masked_run, train_masked
from genvlm.training.objectives.masked import MaskedObjective, draw_masked

CAPTIONS, PICTURES = zip(*tiny_pairs(), strict=True)
TEXTS = ["a red bar", "a blue square on a white page", "white"]


def a_batch(model: MaskedModel, num: int = 4) -> CaptionBatch:
    pieces, mask = model.texts.encode(list(CAPTIONS[:num]))
    codes = torch.from_numpy(tiny_image_tokenizer().encode(PICTURES[:num])).flatten(1)
    allowed = torch.ones(num, dtype=torch.bool)
    return CaptionBatch(fit_pixels(PICTURES[:num], 16), pieces, mask, allowed, codes, float(num))


@given(st.integers(1, 20), st.floats(0.01, 0.99), st.integers(0, 2**31))
@settings(deadline=None)
def test_of_each_row_a_rounded_share_is_masked_and_nothing_that_is_not_there(
    num: int, share: float, seed: int
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        there = torch.rand(5, num) < 0.7
        masked = draw_masked(there, share)
    assert not (masked & ~there).any()
    for row, found in zip(there.sum(1).tolist(), masked.sum(1).tolist(), strict=True):
        assert found == min(row, max(1, round(row * share)))


def test_what_is_masked_is_not_seen() -> None:
    network = tiny_masked().network
    images = fit_pixels(PICTURES[:1], 16).float() / 127.5 - 1
    other = images.clone()
    other[..., :4, :4] *= -0.5
    masked = torch.zeros(1, 16, dtype=torch.bool)
    masked[0, 0] = True
    torch.testing.assert_close(
        network.read_images(images, masked), network.read_images(other, masked)
    )
    assert (network.read_images(images) - network.read_images(other)).abs().max() > 1e-4
    pieces, mask = tiny_masked().texts.encode(["a red bar"])
    changed = pieces.clone()
    changed[0, 1] = 5
    hidden = torch.zeros_like(mask)
    hidden[0, 1] = True
    torch.testing.assert_close(
        network.read_texts(pieces, mask, hidden), network.read_texts(changed, mask, hidden)
    )
    assert (network.read_texts(pieces, mask) - network.read_texts(changed, mask)).abs().max() > 1e-4


def test_scores_depend_on_both_and_not_on_padding() -> None:
    model = tiny_masked()
    together = model.match(PICTURES[0], TEXTS)
    alone = torch.cat([model.match(PICTURES[0], [text]) for text in TEXTS])
    torch.testing.assert_close(together, alone)
    assert (model.match(PICTURES[5], TEXTS) - together).abs().max() > 1e-3
    one, other = (model.pseudo_log_probs(picture, TEXTS[1]) for picture in PICTURES[:6:5])
    assert (one < 0).all()
    assert (one - other).abs().max() > 1e-4
    embedded = torch.cat([model.embed_texts([text]) for text in TEXTS])
    torch.testing.assert_close(model.embed_texts(TEXTS), embedded)


def test_a_piece_is_told_from_all_others_and_never_from_itself() -> None:
    """Pseudo log-probabilities of a text by hand, a piece at a time; of one place they sum to 1."""
    model = tiny_masked()
    pieces, mask = model.texts.encode([TEXTS[0]])
    images = model.network.read_images(model.pixels(PICTURES[:1]))
    by_hand = []
    for place in range(1, pieces.shape[1]):
        hidden = torch.zeros_like(mask)
        hidden[0, place] = True
        both = model.network.read_both(images, model.network.read_texts(pieces, mask, hidden), mask)
        logits = model.network.joint_piece_head(both[0, 1 + images.shape[1] + place])
        by_hand.append(float(logits.log_softmax(0)[pieces[0, place]]))
    found = model.pseudo_log_probs(PICTURES[0], TEXTS[0]).tolist()
    assert found == pytest.approx(by_hand, abs=1e-5)


def test_the_losses_are_those_by_hand() -> None:
    """Each weight alone, against plain loops over what was masked."""
    model = tiny_masked()
    batch, network = a_batch(model, 3), model.network
    off = MaskedObjectiveConfig(
        image_weight=0, text_weight=0, multimodal_weight=0, contrastive_weight=0, matching_weight=0
    )

    def loss(**weights: float) -> tuple[float, dict[str, float]]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found = MaskedObjective(network, replace(off, **weights))(batch)
        return found.weighted_sum.item(), {n: t.item() for n, t in found.terms.items()}

    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = draw_masked(torch.ones(3, 16, dtype=torch.bool), 0.4)
    pixels = batch.images.float() / 127.5 - 1
    states = network.read_images(pixels, hidden)
    assert batch.codes is not None
    by_hand = 0.0
    for row in range(3):
        places = hidden[row].nonzero()[:, 0].tolist()
        told = [network.code_head(states[row, p]).log_softmax(0) for p in places]
        nll = [-float(t[batch.codes[row, p]]) for t, p in zip(told, places, strict=True)]
        by_hand += sum(nll) / len(nll)
    value, terms = loss(image_weight=2.0)
    assert value == pytest.approx(2 * by_hand, rel=1e-5)
    assert terms["masked_image"] == pytest.approx(by_hand * 6, rel=1e-5)  # 6 of 16 in each row
    matching = 0.0
    for row, given_text in enumerate((0, 2, 2)):
        logit = float(model.match(PICTURES[row], [CAPTIONS[given_text]]))
        right = logit if row == given_text else -logit
        matching += math.log(1 + math.exp(-right))
    assert loss(matching_weight=1.0)[0] == pytest.approx(matching, rel=1e-4)
    everything = loss(
        image_weight=1, text_weight=1, multimodal_weight=1, contrastive_weight=1, matching_weight=1
    )[0]
    parts = ("image_weight", "text_weight", "multimodal_weight", "contrastive_weight")
    assert everything == pytest.approx(
        sum(loss(**{part: 1.0})[0] for part in parts) + matching, rel=1e-5
    )


def test_every_guess_is_that_by_hand() -> None:
    """Codes and pieces, alone and beside the other, place by place over what was masked."""
    model = tiny_masked()
    batch, network = a_batch(model, 3), model.network
    assert batch.codes is not None
    there = batch.mask.clone()
    there[:, 0] = False
    with torch.random.fork_rng():
        torch.manual_seed(0)
        patches = draw_masked(torch.ones(3, 16, dtype=torch.bool), 0.4)
        pieces = draw_masked(there, 0.3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = MaskedObjective(network, MaskedObjectiveConfig()).forward(batch)
    images = network.read_images(batch.images.float() / 127.5 - 1, patches)
    texts = network.read_texts(batch.pieces, batch.mask, pieces)
    both = network.read_both(images, texts, batch.mask)  # a class token, patches, pieces
    for name, states, head, targets, hidden in (
        ("masked_image", images, network.code_head, batch.codes, patches),
        ("masked_text", texts, network.piece_head, batch.pieces, pieces),
        ("joint_image", both[:, 1:17], network.joint_code_head, batch.codes, patches),
        ("joint_text", both[:, 17:], network.joint_piece_head, batch.pieces, pieces),
    ):
        total = 0.0
        for row, place in hidden.nonzero().tolist():
            logits = head(states[row, place]).tolist()
            total += math.log(sum(map(math.exp, logits))) - logits[int(targets[row, place])]
        assert found.terms[name].item() == pytest.approx(total, rel=1e-5), name
        assert found.counts[name] == hidden.sum(), name


def test_with_one_masked_each_is_told_beside_the_whole_other() -> None:
    model = tiny_masked()
    batch, network = a_batch(model, 3), model.network

    def terms(of: CaptionBatch, multimodal: Literal["both_masked", "one_masked"]) -> list[float]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found = MaskedObjective(network, MaskedObjectiveConfig(multimodal=multimodal))(of).terms
        return [found[name].item() for name in ("masked_image", "joint_image", "joint_text")]

    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden = draw_masked(torch.ones(3, 16, dtype=torch.bool), 0.4)
    assert batch.codes is not None
    states = network.read_images(batch.images.float() / 127.5 - 1, hidden)
    both = network.read_both(states, network.read_texts(batch.pieces, batch.mask), batch.mask)
    told = network.joint_code_head(both[:, 1:17][hidden]).log_softmax(1)
    by_hand = -told.gather(1, batch.codes[hidden][:, None]).sum().item()
    one, pair = terms(batch, "one_masked"), terms(batch, "both_masked")
    assert one[1] == pytest.approx(by_hand, rel=1e-5)
    assert one[0] == pair[0]
    assert one[1] != pytest.approx(pair[1])
    assert one[2] != pytest.approx(pair[2])


def test_training_lowers_every_loss(tmp_path: Path) -> None:
    folder = train_masked(tiny_masked_train_config(tmp_path, num_steps=60), tmp_path / "run")
    lines = (tmp_path / "run/log.jsonl").read_text().splitlines()
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    for name in ("masked_image", "masked_text", "joint_image", "joint_text", "infonce"):
        assert last[f"loss_{name}"] < 0.8 * first[f"loss_{name}"], name
    assert last["loss_matching"] < first["loss_matching"]
    assert load_masked(folder).fingerprint != tiny_masked().fingerprint


def test_a_folder_gives_back_the_model(tmp_path: Path) -> None:
    MASKED.save(tiny_masked_config(), tiny_masked_encoders(), tmp_path / "model", "# card\n")
    found, expected = load_masked(tmp_path / "model"), tiny_masked()
    assert found.fingerprint == expected.fingerprint
    torch.testing.assert_close(
        found.match(PICTURES[0], TEXTS), expected.match(PICTURES[0], TEXTS), rtol=0, atol=0
    )


def test_patches_that_are_no_cells_and_another_codebook_are_refused(tmp_path: Path) -> None:
    config = tiny_masked_train_config(tmp_path)
    image = replace(config.model.image_encoder, patch_size=8)
    with pytest.raises(ConfigError, match=r"set image_encoder.side to 16 and .*patch_size to 4"):
        train_masked(
            replace(config, model=replace(config.model, image_encoder=image)), tmp_path / "a"
        )
    with pytest.raises(ConfigError, match="has 16 codes: set codebook_size to it"):
        train_masked(replace(config, model=replace(config.model, codebook_size=17)), tmp_path / "b")


def test_a_smaller_codebook_learns_merged_codes(tmp_path: Path) -> None:
    config = tiny_masked_train_config(tmp_path)
    small = replace(config, model=replace(config.model, codebook_size=3))
    source, _ = prepare_captions(small, masked_run(small), None)
    assert source.codes is not None
    merged = merge_codes(tiny_image_tokenizer(), 3)
    assert torch.equal(source.codes, torch.from_numpy(merged.encode(PICTURES)).flatten(1))
    assert source.codes.max() == 2
