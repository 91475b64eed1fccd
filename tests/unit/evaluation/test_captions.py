import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from genvlm.errors import EvaluationError
from genvlm.evaluation.captions import (
    COLUMNS,
    caption_metrics,
    caption_statistics,
    cider_d,
    rouge_l,
    tokenize_caption,
)
from genvlm.evaluation.resampling import Resampling
from genvlm.evaluation.statistics import NUM_RESAMPLES

Read = Callable[[str], str]
SENTENCE = st.lists(st.sampled_from(["a", "cat", "dog", "sits", "on", "mat"]), max_size=9).map(
    " ".join
)
ITEMS = st.lists(st.tuples(SENTENCE, st.lists(SENTENCE, min_size=1, max_size=3)), min_size=1)


def test_nlg_eval_example_has_its_published_numbers(released: Read) -> None:
    captions = released("captions/nlgeval_hyp.txt").splitlines()
    references = [released(f"captions/nlgeval_ref{k}.txt").splitlines() for k in (1, 2)]
    rows = caption_statistics(captions, list(zip(*references, strict=True)))
    for summary in (rows.sum(axis=0), rows.mean(axis=0)):
        metrics = caption_metrics(summary)
        bleu = [round(float(metrics[f"bleu_{n}"]), 6) for n in (1, 2, 3, 4)]
        assert bleu == [0.55, 0.428174, 0.284043, 0.201143]
        assert round(float(metrics["rouge_l"]), 6) == 0.522104
        assert round(float(metrics["cider_d"]), 6) == 1.242192


def test_clipscore_good_captions_have_their_published_numbers(released: Read) -> None:
    captions = json.loads(released("captions/clipscore_good_captions.json"))
    references = json.loads(released("captions/clipscore_refs.json"))
    rows = caption_statistics(list(captions.values()), [references[key] for key in captions])
    metrics = caption_metrics(rows.sum(axis=0))
    bleu = [round(float(metrics[f"bleu_{n}"]), 4) for n in (1, 2, 3, 4)]
    assert bleu == [0.6667, 0.4899, 0.3469, 0]
    assert round(float(metrics["rouge_l"]), 4) == 0.4280
    assert round(float(metrics["cider_d"]), 4) == 0.5637


def test_captions_are_split_as_the_treebank_splits_them() -> None:
    text = 'The dog\u2019s ball isn\'t (really) "1,000.5" well-worn coins; it cost $5!'
    expected = "the dog 's ball is n't really 1,000.5 well-worn coins it cost $ 5"
    assert tokenize_caption(text) == expected.split()
    assert tokenize_caption("... !?") == []
    assert tokenize_caption("can't 2nd") == ["ca", "n't", "2nd"]


@given(ITEMS)
def test_bleu_of_summed_rows_is_that_of_sacrebleu(items: list[tuple[str, list[str]]]) -> None:
    captions, references = zip(*items, strict=True)
    metrics = caption_metrics(caption_statistics(captions, references).sum(axis=0))
    # sacrebleu wants as many references for each item; repeating one changes nothing.
    streams = [[refs[min(k, len(refs) - 1)] for refs in references] for k in range(3)]
    for order in range(1, 5):
        judge = BLEU(tokenize="none", smooth_method="none", max_ngram_order=order, force=True)
        score = judge.corpus_score(captions, streams).score / 100
        assert metrics[f"bleu_{order}"] == pytest.approx(score, abs=1e-12)


@given(ITEMS)
def test_metrics_stay_in_their_ranges_and_never_become_nan(
    items: list[tuple[str, list[str]]],
) -> None:
    captions, references = zip(*items, strict=True)
    metrics = caption_metrics(caption_statistics(captions, references))
    for name, values in metrics.items():
        assert values.shape == (len(items),)
        assert np.isfinite(values).all()
        top = {"cider_d": 10, "length": 9}.get(name, 1)
        assert (values >= 0).all()
        assert (values <= top + 1e-9).all()


def test_a_caption_equal_to_its_reference_scores_the_most() -> None:
    captions = ["a red bird sings", "the old tram stops here"]
    metrics = caption_metrics(caption_statistics(captions, [[text] for text in captions]).sum(0))
    assert metrics["bleu_4"] == pytest.approx(1)
    assert metrics["rouge_l"] == pytest.approx(1)
    assert metrics["cider_d"] == pytest.approx(10)
    assert metrics["length"] == 4.5


def test_bleu_is_of_the_corpus_not_the_mean_of_its_items() -> None:
    captions = ["a b c d", "e f g h i j k l"]
    rows = caption_statistics(captions, [["a b c d"], ["x y"]])
    assert caption_metrics(rows.sum(axis=0))["bleu_1"] == pytest.approx(4 / 12)
    assert caption_metrics(rows)["bleu_1"].mean() == pytest.approx(1 / 2)


def test_bleu_takes_the_closest_reference_length_and_the_shorter_of_two() -> None:
    rows = caption_statistics(["a b c"], [["a b c d", "a b", "a b c d e f"]])
    assert rows[0, COLUMNS.index("reference_length")] == 2


def test_rouge_takes_the_best_precision_and_the_best_recall_apart() -> None:
    tokens, references = list("abcd"), [list("abxyzwvu"), ["a"]]
    precision, recall = 2 / 4, 1 / 1  # of different references
    expected = (1 + 1.44) * precision * recall / (recall + 1.44 * precision)
    assert rouge_l(tokens, references) == pytest.approx(expected)
    alone = max(rouge_l(tokens, [reference]) for reference in references)
    assert alone < expected
    assert rouge_l([], references) == 0
    assert rouge_l(tokens, [[]]) == 0


def test_cider_clips_repeated_words_and_charges_for_length() -> None:
    references = [[["a", "red", "bird"]], [["the", "old", "tram"]]]
    exact, repeated = (
        cider_d([text.split(), ["x"]], references)[0]
        for text in ("a red bird", "a red bird bird bird bird bird bird")
    )
    assert repeated < exact / 2


def test_the_bootstrap_of_corpus_metrics_is_vectorised() -> None:
    captions = ["a b c d", "a b x d", "e f g h"]
    rows = caption_statistics(captions, [["a b c d e"], ["a b c d"], ["e f g"]])
    sums = Resampling(["1", "2", "3"]).sums(rows, np.ones(3, np.bool_))
    metrics = caption_metrics(sums)
    assert metrics["bleu_2"].shape == (NUM_RESAMPLES,)
    one = caption_metrics(sums[7])
    assert all(metrics[name][7] == pytest.approx(one[name]) for name in one)


def test_captions_and_references_must_pair() -> None:
    with pytest.raises(EvaluationError, match="1 captions but 2"):
        caption_statistics(["a"], [["a"], ["b"]])
    with pytest.raises(EvaluationError, match="caption 1 has no reference"):
        caption_statistics(["a", "b"], [["a"], []])
