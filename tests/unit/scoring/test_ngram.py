"""A trigram over words: probabilities, ties, and no leak between folds."""

import gzip
import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from genvlm.scoring.ngram import FoldItem, NGramScorer, fit_trigram, score_left_out
from genvlm.scoring.protocols import Grid

TEXTS = ["a cat sits", "a cat sleeps", "a dog sits on a mat"]
SUGARCREPE = Path(__file__).resolve().parents[3] / "eval" / "data" / "sugarcrepe"


def test_the_next_word_has_probability_one_in_total() -> None:
    model = fit_trigram(TEXTS)
    words = ["a", "cat", "sits", "sleeps", "dog", "on", "mat", "</s>"]
    for history in product(["<s>", "a", "cat", "never"], ["<s>", "cat", "sits", "never"]):
        total = sum(model._prob(history, word) for word in [*words, "never"])
        assert total == pytest.approx(1, abs=1e-12)


def test_a_probability_is_that_of_the_formula() -> None:
    model = fit_trigram(["a b", "a c"], discount=0.5)
    unigram = (2 - 0.5) / 6 + 0.5 * 4 / 6 * (
        1 / 5
    )  # "a": a, a, b, c, end, end; 4 kinds and unknown
    bigram = (2 - 0.5) / 2 + 0.5 * 1 / 2 * unigram
    trigram = (2 - 0.5) / 2 + 0.5 * 1 / 2 * bigram
    assert model._prob(("<s>", "<s>"), "a") == pytest.approx(trigram)
    unknown = 0.5 * 4 / 6 * (1 / 5)
    assert model._prob(("never", "seen"), "x") == pytest.approx(unknown)


def test_a_lower_order_reads_fewer_words() -> None:
    model = fit_trigram(["a b", "a c"], discount=0.5)
    given = {
        1: [(), (), ()],
        2: [("<s>",), ("a",), ("b",)],
        3: [("<s>", "<s>"), ("<s>", "a"), ("a", "b")],
    }
    for order, histories in given.items():
        words = zip(histories, ["a", "b", "</s>"], strict=True)
        expected = math.log(math.prod(model._prob(history, word) for history, word in words))
        assert model.score("a b", order=order).log_prob == pytest.approx(expected)


def test_natural_order_is_likelier_and_shorter_texts_win_by_sum() -> None:
    model = fit_trigram(TEXTS)
    assert model.score("a cat sits").log_prob > model.score("sits cat a").log_prob
    short, long = model.score("a cat sits"), model.score("a cat sits on a mat")
    assert short.log_prob > long.log_prob
    assert (short.num_words, long.num_words) == (4, 7)
    assert model.score("A CAT, sits.").log_prob == short.log_prob


def test_the_order_of_texts_and_copies_of_them_change_nothing() -> None:
    model = fit_trigram([*reversed(TEXTS), TEXTS[0]])
    assert model == fit_trigram(TEXTS)
    assert model.fingerprint != fit_trigram(TEXTS, discount=0.5).fingerprint


def test_a_scorer_gives_every_image_of_a_grid_the_same_row() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    grid = Grid(item_id="x", images=[image, image + 255], texts=["a cat sits", "a cat"])
    model = fit_trigram(TEXTS)
    (by_sum,), (by_mean,) = (NGramScorer(model, reduction=r).score([grid]) for r in ("sum", "mean"))
    assert by_sum.values.shape == (2, 2)
    np.testing.assert_array_equal(by_sum.values[0], by_sum.values[1])
    np.testing.assert_allclose(by_sum.values, by_mean.values * by_sum.num_tokens)
    fingerprints = {NGramScorer(model, reduction=r).info.fingerprint for r in ("sum", "mean")}
    assert len(fingerprints) == 2


def item(fold: str, image: str, *texts: str) -> FoldItem:
    return FoldItem(fold=fold, image=image, texts=texts, natural=texts[:1])


def test_an_item_never_meets_its_own_caption_or_image_in_training() -> None:
    judged = item("one", "1.jpg", "the red fox", "the fox red")
    other = item("two", "2.jpg", "a dog runs home", "a home runs dog")
    leaks = [
        item("two", "1.jpg", "the red fox jumps", "x"),
        item("two", "3.jpg", "the red fox", "x"),
        item("two", "4.jpg", "the fox red", "x"),
        item("one", "5.jpg", "the red fox ran", "x"),
    ]
    known = [judged, item("one", "9.jpg", "grey sky", "sky grey"), other]
    clean = score_left_out(known)[0]
    for leak in leaks[:3]:
        assert score_left_out([*known, leak])[0] == clean
    # Items of its own fold are not trained on, whatever they share.
    assert score_left_out([*known, leaks[3]])[0] == clean
    allowed = item("two", "6.jpg", "the red fox jumps", "x")
    assert score_left_out([*known, allowed])[0] != clean


def test_nothing_to_train_on_makes_every_text_equal() -> None:
    assert score_left_out([item("one", "1.jpg", "a", "b")]) == [[0.0, 0.0]]


def test_sugarcrepe_is_not_blind_proof_by_a_trigram() -> None:
    """By mean; by sum it is a control of the benchmark, whose 75.0 has a test of its own."""
    items = []
    for path in sorted(SUGARCREPE.glob("*.json.gz")):
        for row in json.loads(gzip.decompress(path.read_bytes())).values():
            texts = [row["caption"], row["negative_caption"]]
            items.append(
                FoldItem(fold=path.name, image=row["filename"], texts=texts, natural=texts[:1])
            )
    credit: dict[str, list[float]] = {}
    for one, (true, false) in zip(items, score_left_out(items, reduction="mean"), strict=True):
        credit.setdefault(one.fold, []).append((true > false) + 0.5 * (true == false))
    macro = 100 * np.mean([np.mean(c) for c in credit.values()])
    assert macro == pytest.approx(69.7, abs=0.05)
