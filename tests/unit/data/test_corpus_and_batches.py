"""Corpus and batches: pure functions of seed and step, every sample once an epoch."""

import numpy as np
import pytest

from genvlm.config.data import DataConfig, ScenesSource, StoriesSource
from genvlm.data.batches import BatchSource
from genvlm.data.corpus import build_corpus
from genvlm.errors import TokenError
from genvlm.models.pretrained import build_vocabulary
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_text_tokenizer
from genvlm.tokenization.document import Image, Text

CONFIG = DataConfig(sources=(ScenesSource(num=30), StoriesSource(num=7)))


@pytest.fixture(scope="module")
def corpus():
    return build_corpus(CONFIG, tiny_image_tokenizer(), None)


def _source(corpus, **changes):
    image, text = tiny_image_tokenizer(), tiny_text_tokenizer()
    settings = {
        "corpus": corpus,
        "config": CONFIG,
        "vocabulary": build_vocabulary(text, image),
        "text_tokenizer": text,
        "grid": image.grid,
        "max_tokens": 1024,
        "global_batch_size": 8,
        "seed": 3,
        "modality_weights": (1.0, 1.0, 0.5, 0.5),
    }
    return BatchSource(**(settings | changes))


def test_the_cache_gives_the_same_corpus_and_another_config_another_file(tmp_path, corpus):
    tokenizer = tiny_image_tokenizer()
    first = build_corpus(CONFIG, tokenizer, tmp_path)
    again = build_corpus(CONFIG, tokenizer, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    assert list(first.samples) == list(again.samples) == list(corpus.samples)
    assert (first.codes == again.codes).all()
    build_corpus(DataConfig(sources=(ScenesSource(num=3),)), tokenizer, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_document_depends_on_seed_epoch_and_id_alone(corpus):
    def shape(document):
        return [s.text if isinstance(s, Text) else "image" for s in document.segments]

    assert shape(corpus.document(4, CONFIG, 0, 1)) == shape(corpus.document(4, CONFIG, 0, 1))
    over_epochs = {tuple(shape(corpus.document(4, CONFIG, 0, e))) for e in range(60)}
    assert len(over_epochs) == 4  # both orders, and either part alone


def test_orders_are_half_and_half_and_a_tenth_loses_its_condition(corpus):
    documents = [corpus.document(i, CONFIG, 0, e) for i in range(30) for e in range(100)]
    dropped = np.mean([len(d.segments) == 1 for d in documents])
    image_first = np.mean(
        [isinstance(d.segments[0], Image) for d in documents if len(d.segments) == 2]
    )
    assert dropped == pytest.approx(0.1, abs=0.02)
    assert image_first == pytest.approx(0.5, abs=0.03)


def test_each_sample_occurs_once_an_epoch(corpus):
    source = _source(corpus)
    for epoch in (0, 1):
        seen = np.concatenate(source._order(epoch))
        assert sorted(seen) == list(range(len(corpus.samples)))
    assert source._order(0)[0].tolist() != source._order(1)[0].tolist()


@pytest.mark.parametrize(("ranks", "accum"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_ranks_and_accumulation_cut_one_global_batch(corpus, ranks, accum):
    source = _source(corpus)
    (whole,) = source.batch(2)
    parts = [b for r in range(ranks) for b in source.batch(2, rank=r, num_ranks=ranks, accum=accum)]
    rows = [row[row != source.vocabulary.pad].tolist() for b in parts for row in b.token_ids]
    assert rows == [row[row != source.vocabulary.pad].tolist() for row in whole.token_ids]
    assert {b.loss_denominator for b in parts} == {whole.loss_denominator}
    total = sum(float(b.loss_weights.sum()) for b in parts)
    assert total == pytest.approx(whole.loss_denominator)


def test_padding_and_bos_weigh_nothing(corpus):
    source = _source(corpus)
    (batch,) = source.batch(0)
    assert (batch.loss_weights[batch.token_ids == source.vocabulary.pad] == 0).all()
    assert (batch.loss_weights[:, 0] == 0).all()


def test_a_document_that_does_not_fit_is_named_before_training(corpus):
    with pytest.raises(TokenError, match=r"0-scenes-\d+.*context of 12"):
        _source(corpus, max_tokens=12).check()
