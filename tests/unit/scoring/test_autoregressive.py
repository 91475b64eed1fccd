"""On a toy whose 81 images (2x2 codes of 3) can all be enumerated."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from genvlm.errors import ConfigError, TokenError
from genvlm.generation.interleaved import sample_documents
from genvlm.generation.sampling import SamplingSettings, mask_logits
from genvlm.models.mixed_modal.transformer import KVCache
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import Likelihood, LikelihoodScorer
from genvlm.scoring.protocols import Grid
from genvlm.testing.documents import image_positions
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained
from genvlm.tokenization.document import Document, Image, Text, encode_document

EVERY_IMAGE = [np.array(c).reshape(2, 2) for c in itertools.product(range(3), repeat=4)]
TEXTS = ["a red square", "blue", "a green corner on a white page", "a yellow bar on a page"]


@pytest.fixture(scope="module")
def toy() -> PretrainedModel:
    return tiny_pretrained(resolution=8, codebook_size=3, dtype=torch.float64)


@pytest.fixture(scope="module")
def toy32() -> PretrainedModel:
    return tiny_pretrained(resolution=8, codebook_size=3)


def totals(scored) -> np.ndarray:
    return np.array([s.total for s in scored])


@pytest.mark.parametrize("text", ["a red square", "x", None])
def test_all_images_together_have_probability_one(toy: PretrainedModel, text: str | None) -> None:
    pairs = [(image, text) for image in EVERY_IMAGE]
    scored = Likelihood(toy).score_image_given_text(pairs)
    assert all(s.log_probs.dtype == np.float64 and len(s.log_probs) == 4 for s in scored)
    probabilities = np.exp(totals(scored))
    assert abs(probabilities.sum() - 1) < 1e-6
    assert probabilities.max() > 2 / 81  # it does prefer some
    raw = totals(Likelihood(toy, "vocabulary").score_image_given_text(pairs))
    assert (raw < totals(scored)).all()
    assert np.exp(raw).sum() < 0.01


@torch.no_grad()
def hidden_states(toy: PretrainedModel, token_ids: np.ndarray) -> torch.Tensor:
    """One token at a time, through a cache."""
    cache = KVCache(toy.model.config, 1, len(token_ids), dtype=torch.float64)
    states = []
    at = image_positions(token_ids.tolist(), toy.vocabulary.boi, (2, 2))
    for t, token_id in enumerate(token_ids.tolist()):
        one = torch.tensor([[token_id]])
        states.append(toy.model(one, positions=at[:, t : t + 2], cache=cache)[0, 0])
        cache.lengths = cache.lengths + 1
    return torch.stack(states)


def by_hand(toy: PretrainedModel, segments: list, chosen, bounds: range) -> np.ndarray:
    v = toy.vocabulary
    ids = encode_document(
        Document(id="d", segments=segments), v, toy.text_tokenizer, grid=(2, 2)
    ).token_ids
    with torch.no_grad():
        logits = toy.model.head(hidden_states(toy, ids))
    allowed = torch.tensor([[bounds.start, bounds.stop]])
    log_probs = mask_logits(logits[:-1], allowed)
    return np.array([log_probs[t, i].item() for t, i in enumerate(ids[1:].tolist()) if chosen(i)])


def test_per_token_values_equal_stepping_a_cache(toy: PretrainedModel) -> None:
    v, text, image = toy.vocabulary, TEXTS[0], EVERY_IMAGE[40]
    (scored,) = Likelihood(toy).score_image_given_text([(image, text)])
    expected = by_hand(toy, [Text(text), Image(image)], lambda i: i < 3, v.image_range)
    np.testing.assert_allclose(scored.log_probs, expected, atol=1e-10)
    (scored,) = Likelihood(toy).score_text_given_image([(image, text)])
    expected = by_hand(
        toy,
        [Image(image), Text(text)],
        lambda i: i in v.text_range or i == v.eos,
        v.text_state_range,
    )
    assert len(expected) == len(toy.text_tokenizer.encode(text)) + 1
    np.testing.assert_allclose(scored.log_probs, expected, atol=1e-10)
    (scored,) = Likelihood(toy, "vocabulary").score_text_given_image([(None, text)])
    expected = by_hand(toy, [Text(text)], lambda i: i in v.text_range or i == v.eos, range(v.size))
    np.testing.assert_allclose(scored.log_probs, expected, atol=1e-10)


def everything(likelihood: Likelihood) -> list:
    pairs = [(EVERY_IMAGE[(17 * i) % 81], TEXTS[i % 4] * (1 + i % 2)) for i in range(12)]
    with_none = [(pairs[0][0], None), *pairs]
    return [
        *likelihood.score_image_given_text(with_none),
        *likelihood.score_text_given_image([(None, "blue"), *pairs]),
    ]


@pytest.mark.parametrize("tokens_per_batch", [1, 60, 8192])
def test_batches_equal_one_by_one(
    toy: PretrainedModel, toy32: PretrainedModel, tokens_per_batch: int
) -> None:
    alone = everything(Likelihood(toy, tokens_per_batch=1))
    together = everything(Likelihood(toy, tokens_per_batch=tokens_per_batch))
    np.testing.assert_allclose(totals(together), totals(alone), rtol=1e-9, atol=0)
    alone = everything(Likelihood(toy32, tokens_per_batch=1))
    together = everything(Likelihood(toy32, tokens_per_batch=tokens_per_batch))
    for a, b in zip(together, alone, strict=True):
        assert a.log_probs.dtype == np.float32
        np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5, rtol=0)


def test_totals_are_added_in_float64(toy32: PretrainedModel) -> None:
    (scored,) = Likelihood(toy32).score_text_given_image([(None, "a red square")])
    assert scored.total == float(np.sum(scored.log_probs, dtype=np.float64))
    assert scored.total < 0


def test_nothing_to_score_gives_nothing(toy: PretrainedModel) -> None:
    assert Likelihood(toy).score_image_given_text([]) == []


def test_a_text_that_does_not_fit_is_named(toy: PretrainedModel) -> None:
    with pytest.raises(TokenError, match="more than the context of 64"):
        Likelihood(toy).score_text_given_image([(None, "zq " * 80)])


def test_sampling_draws_from_the_likelihood(toy: PretrainedModel) -> None:
    text = "red"
    expected = 1500 * np.exp(
        totals(Likelihood(toy).score_image_given_text([(i, text) for i in EVERY_IMAGE]))
    )
    sampled = sample_documents(
        toy,
        [[Text(text)]] * 1500,
        SamplingSettings(),
        seed=3,
        image_next=True,
        stop_after_visual=True,
        batch_size=1500,
    )
    places = [int(d.images[0].reshape(-1) @ [27, 9, 3, 1]) for d in sampled]
    observed = np.bincount(places, minlength=81)
    rare = expected < 8
    observed = np.append(observed[~rare], observed[rare].sum())
    grouped = np.append(expected[~rare], expected[rare].sum())
    assert len(grouped) > 10
    assert chisquare(observed, grouped * observed.sum() / grouped.sum()).pvalue > 0.001
    # The test has teeth: the uniform distribution is rejected.
    assert chisquare(np.bincount(places, minlength=81)).pvalue < 1e-9


def test_text_is_normalised_over_what_sampling_draws_from(toy: PretrainedModel) -> None:
    v = toy.vocabulary
    ids = torch.tensor([[v.bos]])
    with torch.no_grad():
        logits = toy.model.head(toy.model(ids, positions=torch.full((1, 2, 3), -1))[:, -1])
    piece = toy.text_tokenizer.encode("blue")[0]
    (scored,) = Likelihood(toy).score_text_given_image([(None, "blue")])
    drawn = mask_logits(logits, torch.tensor([[v.eos, v.size]]))[0, v.text_range.start + piece]
    assert scored.log_probs[0] == pytest.approx(drawn.item(), abs=1e-9)


# --- scorers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def grids() -> list[Grid]:
    pictures = [image for _, image in tiny_pairs(8)]
    return [
        Grid(item_id="0", images=pictures[:2], texts=TEXTS[:2]),
        Grid(item_id="1", images=[pictures[5]], texts=TEXTS),
    ]


@pytest.mark.parametrize("direction", ["image_given_text", "text_given_image"])
@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_scorers_subtract_alpha_times_the_unconditional(
    toy: PretrainedModel, grids: list[Grid], direction: str, alpha: float
) -> None:
    scorer = LikelihoodScorer(toy, direction, alpha=alpha)
    likelihood = Likelihood(toy)
    for grid, scores in zip(grids, scorer.score(grids), strict=True):
        for (i, image), (j, text) in itertools.product(
            enumerate(grid.images), enumerate(grid.texts)
        ):
            codes = toy.image_tokenizer.encode([image])[0]
            if direction == "image_given_text":
                (joint,) = likelihood.score_image_given_text([(codes, text)])
                (alone,) = likelihood.score_image_given_text([(codes, None)])
            else:
                (joint,) = likelihood.score_text_given_image([(codes, text)])
                (alone,) = likelihood.score_text_given_image([(None, text)])
            expected = joint.total - alpha * alone.total
            assert scores.values[i, j] == pytest.approx(expected, rel=1e-9)
            assert scores.num_tokens[i, j] == len(joint.log_probs)


def test_what_was_never_learned_is_not_reported() -> None:
    never = tiny_pretrained(resolution=8, dtype=torch.float64, condition_dropout=0.0)
    with pytest.raises(ConfigError, match="without condition dropout"):
        LikelihoodScorer(never, "text_given_image", alpha=1.0)


def test_alpha_is_part_of_the_fingerprint(toy: PretrainedModel) -> None:
    prints = {
        LikelihoodScorer(toy, d, alpha=a, normalization=n).info.fingerprint
        for d in ("image_given_text", "text_given_image")
        for a in (0.0, 1.0)
        for n in ("grammar", "vocabulary")
    }
    assert len(prints) == 8
