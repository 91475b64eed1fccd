"""Batches: one global order whatever the processes, and loss weights that add up."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from genvlm.config.data import DataConfig, InfillConfig, RetrievalConfig, ScenesSource
from genvlm.config.syntax import SyntaxConfig
from genvlm.data.batches import Batch, BatchSource, collate, to_device
from genvlm.data.sources import Sample
from genvlm.errors import DataError, TokenError
from genvlm.models.pretrained import build_vocabulary
from genvlm.testing.corpora import corpus_of
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_text_tokenizer
from genvlm.tokenization.document import Document, EncodedDocument, Text, encode_document
from genvlm.tokenization.vocabulary import Modality

TEXT, IMAGE = tiny_text_tokenizer(), tiny_image_tokenizer()
VOCABULARY = build_vocabulary(TEXT, IMAGE)
PLAIN = DataConfig(sources=(ScenesSource(num=1),), condition_dropout=0.0, image_first=0.0)


def _source(num: int = 53, *, batch: int = 8, config: DataConfig = PLAIN, **changes) -> BatchSource:
    """Pairs whose text, and so whose length, is their own."""
    samples = [Sample(str(i), (f"{i}" + " red" * (i % 7), i % 4), "pair") for i in range(num)]
    codes = np.random.default_rng(0).integers(0, 16, (4, 4, 4))
    settings = {
        "corpus": corpus_of(samples, codes),
        "config": config,
        "vocabulary": VOCABULARY,
        "text_tokenizer": TEXT,
        "grid": IMAGE.grid,
        "max_tokens": 64,
        "global_batch_size": batch,
        "seed": 3,
        "modality_weights": (1.0, 1.0, 1.0, 1.0),
    }
    return BatchSource(**(settings | changes))


def _rows(batches: list[Batch]) -> list[list[int]]:
    return [
        [t for t in row if t != VOCABULARY.pad] for b in batches for row in b.token_ids.tolist()
    ]


def _number(row: list[int]) -> int:
    """Which sample a row is: its text begins with the number."""
    pieces = [t for t in row if t >= VOCABULARY.text_tokens(np.array([0]))[0]]
    return int(TEXT.decode(VOCABULARY.text_pieces(np.array(pieces))).split()[0])


def test_documents_of_text_alone_have_a_loss_of_text_alone() -> None:
    samples = [Sample(str(i), (f"{i}" + " red" * (i % 7),), "document") for i in range(16)]
    weights = (1.0, 1.0, 50.0, 50.0)
    source = _source(corpus=corpus_of(samples, []), modality_weights=weights)
    source.check()
    (batch,) = source.batch(0)
    learned = batch.loss_weights > 0
    assert set(batch.modality[learned].tolist()) == {Modality.TEXT, Modality.CONTROL}
    assert batch.loss_denominator == learned.sum() == (batch.token_ids != VOCABULARY.pad).sum() - 8
    texts = {sample.id: sample.segments[0] for sample in samples}
    pieces = sum(len(TEXT.encode(str(texts[i]))) for i in source.ids(0))
    assert int((batch.modality == Modality.TEXT).sum()) == pieces


@pytest.mark.parametrize(("num", "batch"), [(53, 8), (64, 8), (8, 8), (15, 8), (400, 3)])
def test_each_sample_comes_exactly_once_an_epoch(num: int, batch: int) -> None:
    source = _source(num, batch=batch)
    steps = source.batches_per_epoch
    for epoch in range(2):
        batches = [source.batch(epoch * steps + step) for step in range(steps)]
        sizes = [len(_rows(b)) for b in batches]
        assert min(sizes) >= batch
        assert max(sizes) - min(sizes) <= 1
        assert sorted(_number(row) for b in batches for row in _rows(b)) == list(range(num))


def test_epochs_and_seeds_order_differently_and_repeat_exactly() -> None:
    def order(source: BatchSource, epoch: int) -> list[int]:
        steps = range(epoch * source.batches_per_epoch, (epoch + 1) * source.batches_per_epoch)
        return [_number(row) for step in steps for row in _rows(source.batch(step))]

    assert order(_source(), 0) == order(_source(), 0)
    assert order(_source(), 0) != order(_source(), 1)
    assert order(_source(), 0) != order(_source(seed=4), 0)


@pytest.mark.parametrize(("ranks", "accum"), [(1, 1), (1, 2), (2, 1), (2, 2), (4, 2), (8, 1)])
def test_processes_and_accumulation_only_cut_the_same_order(ranks: int, accum: int) -> None:
    source = _source()
    for step in (0, 3, 7):
        (whole,) = source.batch(step)
        parts = [
            source.batch(step, rank=rank, num_ranks=ranks, accum=accum) for rank in range(ranks)
        ]
        assert [len(p) for p in parts] == [accum] * ranks
        assert [row for part in parts for row in _rows(part)] == _rows([whole])


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (0.5, 2.0, 0.25, 0.0)])
@pytest.mark.parametrize(("ranks", "accum"), [(1, 1), (2, 2), (8, 1)])
def test_the_denominator_is_the_weight_of_all_micro_batches(
    ranks: int, accum: int, weights: tuple[float, ...]
) -> None:
    config = DataConfig(sources=PLAIN.sources, condition_dropout=0.3)
    source = _source(config=config, modality_weights=weights)
    for step in range(5):
        micro = [
            b
            for rank in range(ranks)
            for b in source.batch(step, rank=rank, num_ranks=ranks, accum=accum)
        ]
        total = sum(float(b.loss_weights.double().sum()) for b in micro)
        assert {b.loss_denominator for b in micro} == {micro[0].loss_denominator}
        assert micro[0].loss_denominator == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("packing", [False, True])
def test_a_process_encodes_its_own_documents_alone(
    monkeypatch: pytest.MonkeyPatch, packing: bool
) -> None:
    config = replace(PLAIN, condition_dropout=0.3, packing=packing)
    source = _source(config=config)
    encoded: list[str] = []

    def counting(document: Document, *args, **options) -> EncodedDocument:
        encoded.append(document.id)
        return encode_document(document, *args, **options)

    monkeypatch.setattr("genvlm.data.batches.encode_document", counting)
    for step in range(3):
        encoded.clear()
        for rank in range(4):
            before = len(encoded)
            source.batch(step, rank=rank, num_ranks=4)
            assert len(encoded) - before <= 0.5 * len(source.ids(step))
        assert encoded == source.ids(step)


def test_weights_follow_the_modality() -> None:
    weights = {Modality.TEXT: 2.0, Modality.IMAGE: 0.25, Modality.VIDEO: 7.0, Modality.CONTROL: 0.5}
    by_number = tuple(weights[m] for m in sorted(weights))
    (batch,) = _source(modality_weights=by_number).batch(0)
    learned = (batch.token_ids != VOCABULARY.pad) & (batch.token_ids != VOCABULARY.bos)
    expected = torch.tensor(by_number)[batch.modality] * learned
    assert torch.equal(batch.loss_weights, expected)


def test_a_document_that_fits_only_without_its_condition_is_named_before_training() -> None:
    """In epoch 0 its text may be dropped; in a later one it is not."""
    for seed in range(20):
        source = _source()
        long = replace(source.corpus.samples[0], segments=("a red square " * 30, 0), kind="pair")
        corpus = corpus_of([long, *source.corpus.samples[1:]], source.corpus.codes)
        data = replace(source.config, condition_dropout=0.5)
        with pytest.raises(TokenError, match="more than the context"):
            replace(source, corpus=corpus, config=data, seed=seed, max_tokens=48).check()


def test_padding_stands_on_the_right_and_weighs_nothing() -> None:
    source = _source()
    padded = 0
    for step in range(source.batches_per_epoch):
        (batch,) = source.batch(step)
        padding = batch.token_ids == VOCABULARY.pad
        assert (batch.loss_weights[padding] == 0).all()
        assert all(a <= b for row in padding.tolist() for a, b in pairwise(row))
        assert not padding.all(dim=0).any(), "wider than the longest document"
        padded += int(padding.sum())
    assert padded


def test_a_row_is_its_document_whatever_stands_beside_it() -> None:
    documents = [
        encode_document(Document(id=text, segments=[Text(text)]), VOCABULARY, TEXT, grid=IMAGE.grid)
        for text in ("a red square", "a")
    ]
    long, short = (collate([d], VOCABULARY.pad, 1.0) for d in documents)
    both = collate(documents, VOCABULARY.pad, 1.0)
    assert torch.equal(both.token_ids[:1], long.token_ids)
    width = short.token_ids.shape[1]
    for name in ("token_ids", "modality", "loss_weights"):
        assert torch.equal(getattr(both, name)[1:, :width], getattr(short, name))
    assert both.token_ids.dtype == both.modality.dtype == torch.int64
    assert both.loss_weights.dtype == torch.float32


def test_documents_of_like_length_share_a_batch() -> None:
    source = _source(400, batch=8)
    batches = [source.batch(step)[0] for step in range(source.batches_per_epoch)]
    padding = sum(int((b.token_ids == VOCABULARY.pad).sum()) for b in batches)
    assert padding / sum(b.token_ids.numel() for b in batches) < 0.05


def test_fewer_documents_than_a_batch_are_refused() -> None:
    with pytest.raises(DataError, match=r"5 documents.*global_batch_size 8"):
        _source(5).check()
    _source(8).check()


def test_moving_a_batch_keeps_its_values() -> None:
    (batch,) = _source().batch(0)
    moved = to_device(batch, torch.device("cpu"))
    assert torch.equal(moved.token_ids, batch.token_ids)
    assert moved.loss_denominator == batch.loss_denominator


def test_infilling_rotates_anew_each_epoch_and_weighs_only_what_is_predicted() -> None:
    syntax = SyntaxConfig(num_gaps=2)
    vocabulary = build_vocabulary(TEXT, IMAGE, syntax)
    config = replace(PLAIN, infill=InfillConfig(probability=0.5))
    source = _source(config=config, vocabulary=vocabulary, max_tokens=120)
    v, rotated, rows = vocabulary, 0, {}
    for step in range(3 * source.batches_per_epoch):
        for batch in source.batch(step):
            for ids, weights in zip(batch.token_ids, batch.loss_weights, strict=True):
                row = ids.tolist()
                given = [i in v.number_range or i in v.gap_range or i == v.infill for i in row]
                rotated += any(given)
                assert not weights[torch.tensor(given)].any()
                words = tuple(sorted(i for i in row if i in v.text_range))
                rows.setdefault(words, set()).add(tuple(i for i in row if i != v.pad))
    assert 0.35 < rotated / (3 * 53) < 0.65
    assert sum(len(r) > 1 for r in rows.values()) > 30
    again = _source(config=config, vocabulary=vocabulary, max_tokens=120)
    assert torch.equal(again.batch(5)[0].token_ids, source.batch(5)[0].token_ids)


def test_retrieved_documents_give_way_to_the_context() -> None:
    """Two fit nowhere, one fits some, and the pair itself always."""
    config = replace(PLAIN, retrieval=RetrievalConfig(num_documents=2, max_similarity=1.0))
    lengths = {}
    for limit in (48, 100, 200):
        source = _source(config=config, max_tokens=limit)
        source.check()
        lengths[limit] = [len(r) for s in range(3) for r in _rows(source.batch(s))]
        assert max(lengths[limit]) <= limit
    assert sum(lengths[48]) < sum(lengths[100]) < sum(lengths[200])
