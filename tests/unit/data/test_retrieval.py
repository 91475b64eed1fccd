import numpy as np
import pytest

from genvlm.data.retrieval import TfIdfRetriever, drop_words
from genvlm.errors import DataError

TEXTS = ["cow left of star", "cow above star", "tiger left of bell", "a bell", "cow"]


def test_equal_words_have_similarity_one_and_come_first() -> None:
    hits = TfIdfRetriever(TEXTS)("star left of COW", 5)
    assert hits[0].number == 0
    assert hits[0].similarity == pytest.approx(1)
    assert all(0 < h.similarity < 1 for h in hits[1:])
    assert [h.similarity for h in hits] == sorted((h.similarity for h in hits), reverse=True)


def test_similarity_is_the_cosine_of_tf_idf_vectors() -> None:
    """Written out: idf = ln((1 + n) / (1 + df)) + 1."""
    texts = ["a a b", "b c"]
    idf = {w: np.log(3 / (1 + df)) + 1 for w, df in {"a": 1, "b": 2, "c": 1}.items()}
    first = np.array([2 * idf["a"], idf["b"], 0])
    second = np.array([0, idf["b"], idf["c"]])
    query = np.array([idf["a"], idf["b"], 0])
    (one, other) = TfIdfRetriever(texts)("b a", 2)
    for hit, vector in ((one, first), (other, second)):
        cosine = vector @ query / np.linalg.norm(vector) / np.linalg.norm(query)
        assert hit.similarity == pytest.approx(cosine)


def test_rare_words_count_more_than_frequent_ones() -> None:
    hits = TfIdfRetriever(TEXTS)("cow bell", 5)
    assert hits[0].number == 4  # all of its one word
    numbers = [h.number for h in hits]
    assert numbers.index(3) < numbers.index(1)


def test_unknown_words_find_nothing() -> None:
    retrieve = TfIdfRetriever(TEXTS)
    assert retrieve("zebra", 3) == []
    assert retrieve("", 3) == []
    assert [h.number for h in retrieve("zebra bell", 9)] == [3, 2]


def test_texts_without_a_word_are_refused() -> None:
    with pytest.raises(DataError, match="hold no word"):
        TfIdfRetriever(["...", "!"])


def test_words_are_dropped_at_the_given_rate() -> None:
    rng = np.random.default_rng(0)
    text = " ".join(map(str, range(1000)))
    kept = drop_words(text, 0.2, rng).split()
    assert 740 < len(kept) < 860
    assert kept == [w for w in text.split() if w in set(kept)]
    assert drop_words(text, 0.0, rng) == text
    assert drop_words(text, 1.0, rng) == ""
