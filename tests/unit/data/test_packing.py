"""Packed rows: no document is cut or lost, few positions stay empty."""

import numpy as np
import pytest
import torch

from genvlm.config.data import DataConfig, InfillConfig, RetrievalConfig, ScenesSource
from genvlm.config.syntax import SyntaxConfig
from genvlm.data.batches import Batch, BatchSource
from genvlm.data.packing import pack
from genvlm.data.sources import Sample
from genvlm.errors import ConfigError, DataError, TokenError
from genvlm.models.pretrained import build_vocabulary
from genvlm.testing.corpora import corpus_of
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_text_tokenizer

TEXT, IMAGE = tiny_text_tokenizer(), tiny_image_tokenizer()
VOCABULARY = build_vocabulary(TEXT, IMAGE)
PACKED = DataConfig(sources=(ScenesSource(num=1),), packing=True, condition_dropout=0.2)
ROW = 96


def packed_source(num: int = 400, *, config: DataConfig = PACKED, **changes) -> BatchSource:
    """Pairs and texts from 5 tokens to nearly a row, mixed."""
    rng = np.random.default_rng(0)
    samples = []
    for i in range(num):
        text = f"{i}" + " red" * int(rng.integers(1, 9))
        pair = i % 3 > 0
        segments = (text, i % 4) if pair else (text,)
        samples.append(Sample(str(i), segments, "pair" if pair else "document"))
    settings = {
        "corpus": corpus_of(samples, rng.integers(0, 16, (4, 4, 4))),
        "config": config,
        "vocabulary": VOCABULARY,
        "text_tokenizer": TEXT,
        "grid": IMAGE.grid,
        "max_tokens": ROW,
        "global_batch_size": 4,
        "seed": 3,
        "modality_weights": (1.0, 1.0, 0.5, 0.5),
    }
    return BatchSource(**(settings | changes))


def documents_of(batch: Batch) -> list[list[int]]:
    """Token ids of each document, row after row."""
    found = []
    for ids, numbers in zip(batch.token_ids, batch.document_ids, strict=True):
        count = int(numbers.max()) + 1
        found += [ids[numbers == n].tolist() for n in range(count)]
    return found


@pytest.mark.parametrize("seed", range(5))
def test_rows_hold_every_document_once_and_none_is_overfull(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 101, rng.integers(0, 400))
    rows = pack(lengths, 100)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(0 < lengths[row].sum() <= 100 for row in rows)


def test_best_fit_finds_the_packing_that_has_no_hole() -> None:
    """First-fit in the given order needs three rows."""
    assert len(pack(np.array([30, 60, 40, 70]), 100)) == 2
    with pytest.raises(ValueError, match="101 tokens"):
        pack(np.array([5, 101]), 100)


def test_few_positions_stay_empty() -> None:
    source = packed_source(2000)
    steps = source.batches_per_epoch
    assert source.share_used(steps) >= 0.95
    padded = packed_source(2000, config=DataConfig(sources=PACKED.sources))
    assert source.batches_per_epoch < 0.5 * padded.batches_per_epoch


@pytest.mark.parametrize("num", [40, 400, 2000])
def test_each_document_comes_exactly_once_an_epoch(num: int) -> None:
    source = packed_source(num)
    steps = source.batches_per_epoch
    for epoch in range(3):
        span = range(epoch * steps, (epoch + 1) * steps)
        assert sorted(i for step in span for i in source.ids(step)) == sorted(map(str, range(num)))


def test_ids_name_what_a_batch_holds() -> None:
    source = packed_source(config=DataConfig(sources=PACKED.sources, packing=True))
    for step in range(20):
        texts = []
        for document in documents_of(source.batch(step)[0]):
            pieces = [t for t in document if t in VOCABULARY.text_range]
            text = TEXT.decode(VOCABULARY.text_pieces(np.array(pieces))) if pieces else ""
            texts.append(text.split(" ")[0])
        named = [i if text else "" for i, text in zip(source.ids(step), texts, strict=True)]
        assert texts == named


def test_every_document_is_whole_and_keeps_its_arrays() -> None:
    source = packed_source()
    alone = packed_source(config=DataConfig(sources=PACKED.sources, condition_dropout=0.2))
    lines: dict[str, tuple[object, ...]] = {}
    for step in range(alone.batches_per_epoch):
        (batch,) = alone.batch(step)
        for row, name in enumerate(alone.ids(step)):
            inside = batch.token_ids[row] != VOCABULARY.pad
            lines[name] = tuple(
                getattr(batch, n)[row][inside].tolist()
                for n in ("token_ids", "modality", "positions", "loss_weights")
            )
    for step in range(source.batches_per_epoch):
        (batch,) = source.batch(step)
        names = iter(source.ids(step))
        for row, numbers in enumerate(batch.document_ids):
            for number in range(int(numbers.max()) + 1):
                inside = numbers == number
                found = tuple(
                    getattr(batch, n)[row][inside].tolist()
                    for n in ("token_ids", "modality", "positions", "loss_weights")
                )
                assert found == lines[next(names)]
        assert next(names, None) is None


def test_what_follows_a_document_is_never_predicted() -> None:
    source = packed_source()
    for step in range(5):
        (batch,) = source.batch(step)
        begins = batch.token_ids == VOCABULARY.bos
        assert int(begins.sum()) > len(batch.token_ids)
        assert not batch.loss_weights[begins].any()
        padding = batch.token_ids == VOCABULARY.pad
        assert not batch.loss_weights[padding].any()
        assert torch.equal(padding, batch.document_ids == -1)


@pytest.mark.parametrize(("ranks", "accum"), [(1, 2), (2, 2), (4, 1)])
def test_processes_and_accumulation_only_cut_the_same_rows(ranks: int, accum: int) -> None:
    source = packed_source()
    for step in (0, 5, source.batches_per_epoch + 2):
        (whole,) = source.batch(step)
        parts = [
            b
            for rank in range(ranks)
            for b in source.batch(step, rank=rank, num_ranks=ranks, accum=accum)
        ]
        assert torch.equal(torch.cat([b.token_ids for b in parts]), whole.token_ids)
        assert {b.loss_denominator for b in parts} == {whole.loss_denominator}


def test_batches_have_their_rows_and_one_width() -> None:
    source = packed_source(1000)  # an epoch of three sections
    for step in range(2 * source.batches_per_epoch):
        (batch,) = source.batch(step)
        assert batch.token_ids.shape[1] == ROW
        assert len(batch.token_ids) in (4, 5)


def test_infilling_is_packed_with_what_it_adds() -> None:
    syntax = SyntaxConfig(num_gaps=2)
    vocabulary = build_vocabulary(TEXT, IMAGE, syntax)
    config = DataConfig(sources=PACKED.sources, packing=True, infill=InfillConfig(probability=1.0))
    source = packed_source(config=config, vocabulary=vocabulary)
    names = [i for step in range(source.batches_per_epoch) for i in source.ids(step)]
    assert sorted(names) == sorted(map(str, range(400)))
    batches = [source.batch(step)[0] for step in range(source.batches_per_epoch)]
    assert sum(int((b.token_ids == vocabulary.infill).sum()) for b in batches) > 300


def test_a_document_longer_than_a_row_is_named_before_training() -> None:
    source = packed_source()
    samples = [*source.corpus.samples, Sample("novel", ("red " * 100,), "document")]
    long = packed_source(corpus=corpus_of(samples, source.corpus.codes))
    with pytest.raises(TokenError, match=r"'novel' has .* tokens, more than the context of 96"):
        long.check()


def test_fewer_rows_than_a_batch_are_refused() -> None:
    with pytest.raises(DataError, match=r"hold [1-3] rows of 96 tokens, fewer than.*size 4"):
        packed_source(9).check()
    packed_source(40).check()


def test_packing_and_retrieval_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="packing and retrieval exclude each other"):
        DataConfig(sources=PACKED.sources, packing=True, retrieval=RetrievalConfig())
