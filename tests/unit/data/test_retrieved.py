"""Retrieved pairs in front of training pairs (RA-CM3)."""

from dataclasses import replace

import numpy as np

from genvlm.config.data import DataConfig, RetrievalConfig, ScenesSource
from genvlm.data.corpus import Corpus
from genvlm.data.sources import Sample
from genvlm.testing.corpora import corpus_of
from genvlm.tokenization.document import Image, Text

RETRIEVED = ("cow left of star", "star left of cow", "cow above bell", "cow left of bell", "tree")


def _retrieving(num: int, **changes: float) -> tuple[Corpus, DataConfig]:
    samples = [Sample(t, (t, i), "pair") for i, t in enumerate(RETRIEVED)]
    codes = np.arange(5 * 16).reshape(5, 4, 4)
    retrieval = RetrievalConfig(num_documents=num, **{"query_dropout": 0.0} | changes)
    config = DataConfig(sources=(ScenesSource(num=1),), condition_dropout=0.0, retrieval=retrieval)
    return corpus_of(samples, codes), config


def test_like_pairs_stand_in_front_and_are_not_learned() -> None:
    corpus, config = _retrieving(2)
    document = corpus.document(0, config, 0, 0)
    texts = [s.text for s in document.segments if isinstance(s, Text)]
    # Not itself and not the swapped caption, which has the same words.
    assert set(texts[:2]) == {"cow left of bell", "cow above bell"}
    assert texts[2] == "cow left of star"
    assert list(document.loss) == [False] * 4 + [True] * 2
    images = [s for s in document.segments if isinstance(s, Image)]
    for text, image in zip(texts, images, strict=True):
        assert image.codes.tolist() == corpus.codes[RETRIEVED.index(text)].tolist()


def test_retrieved_pairs_have_the_order_of_the_pair() -> None:
    corpus, config = _retrieving(1)
    orders = set()
    for epoch in range(30):
        document = corpus.document(0, config, 0, epoch)
        orders.add("".join("T" if isinstance(s, Text) else "I" for s in document.segments))
    assert orders == {"TITI", "ITIT"}


def test_pairs_that_are_too_like_are_never_retrieved() -> None:
    corpus, config = _retrieving(4, max_similarity=0.5)
    texts = [s.text for s in corpus.document(0, config, 0, 0).segments if isinstance(s, Text)]
    assert "cow left of bell" not in texts
    # An equal picture under another caption.
    codes = corpus.codes.copy()
    codes[3] = codes[0]
    same = corpus_of(corpus.samples, codes)
    _, config = _retrieving(4)
    for text, found in ((corpus, True), (same, False)):
        segments = text.document(0, config, 0, 0).segments
        assert any(isinstance(s, Text) and s.text == RETRIEVED[3] for s in segments) == found


def test_the_query_loses_words_anew_each_epoch() -> None:
    corpus, config = _retrieving(1, query_dropout=0.5)
    first = set()
    for epoch in range(60):
        segments = corpus.document(3, config, 0, epoch).segments
        first.add(next(s.text for s in segments if isinstance(s, Text)))
    assert len(first) > 2


def _texts_in_front(corpus: Corpus, config: DataConfig, index: int, num_epochs: int) -> set[str]:
    found = set()
    for epoch in range(num_epochs):
        segments = corpus.document(index, config, 0, epoch).segments
        found |= {s.text for s in segments if isinstance(s, Text)}
    return found - {corpus.samples[index].segments[0]}


def test_a_near_duplicate_is_known_by_the_whole_caption_whatever_the_query_loses() -> None:
    captions = ["red bird on a tree", "red bird on one tree", "Tree, on a red bird.", "a blue tree"]
    samples = [Sample(str(i), (t, i), "pair") for i, t in enumerate(captions)]
    codes = np.arange(4 * 4).reshape(4, 2, 2)
    retrieval = RetrievalConfig(num_documents=3, query_dropout=0.5, max_similarity=0.6)
    config = DataConfig(sources=(ScenesSource(num=1),), condition_dropout=0.0, retrieval=retrieval)
    assert _texts_in_front(corpus_of(samples, codes), config, 0, 100) == {"a blue tree"}


def test_copies_do_not_hide_what_is_behind_them() -> None:
    samples = [Sample(str(i), ("red bird", i), "pair") for i in range(200)]
    samples.append(Sample("other", ("red tree", 200), "pair"))
    codes = np.arange(201 * 4).reshape(201, 2, 2)
    retrieval = RetrievalConfig(query_dropout=0.0)
    config = DataConfig(sources=(ScenesSource(num=1),), condition_dropout=0.0, retrieval=retrieval)
    assert _texts_in_front(corpus_of(samples, codes), config, 0, 3) == {"red tree"}


def test_what_two_small_pictures_lack_does_not_make_them_equal() -> None:
    codes = [np.array([[3]]), np.array([[4]])]
    samples = [Sample("a", ("red bird", 0), "pair"), Sample("b", ("red tree", 1), "pair")]
    retrieval = RetrievalConfig(query_dropout=0.0)
    config = DataConfig(sources=(ScenesSource(num=1),), condition_dropout=0.0, retrieval=retrieval)
    assert _texts_in_front(corpus_of(samples, codes), config, 0, 3) == {"red tree"}


def test_where_the_condition_is_dropped_nothing_is_retrieved() -> None:
    corpus, config = _retrieving(2)
    config = replace(config, condition_dropout=1.0)
    for epoch in range(5):
        assert len(corpus.document(0, config, 0, epoch).segments) == 1
