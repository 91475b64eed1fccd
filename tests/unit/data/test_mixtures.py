"""Mixtures: shares by weight, each source through its own permutations, one order for all."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from genvlm.config.data import DataConfig, ScenesSource
from genvlm.data.batches import BatchSource
from genvlm.data.order import Mixture
from genvlm.data.sources import Sample
from genvlm.errors import ConfigError
from genvlm.models.pretrained import build_vocabulary
from genvlm.testing.corpora import corpus_of
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_text_tokenizer

TEXT, IMAGE = tiny_text_tokenizer(), tiny_image_tokenizer()
SIZES, WEIGHTS = (70, 5, 400), (3.0, 1.0, 6.0)


def mixed_source(weights: tuple[float, ...] | None = WEIGHTS, **changes) -> BatchSource:
    """Texts of three sources, `a` to `c`."""
    names = [f"{name}{i}" for name, size in zip("abc", SIZES, strict=True) for i in range(size)]
    samples = [Sample(n, (n + " red" * (len(n) % 5),), "document") for n in names]
    ends = np.cumsum([0, *SIZES])
    corpus = corpus_of(samples, np.zeros((0, 4, 4)), sources=[
        range(a, b) for a, b in pairwise(ends)
    ])  # fmt: skip
    sources = tuple(ScenesSource(num=n) for n in SIZES)
    config = DataConfig(sources=sources, weights=weights, packing=changes.pop("packing", False))
    settings = {
        "corpus": corpus,
        "config": config,
        "vocabulary": build_vocabulary(TEXT, IMAGE),
        "text_tokenizer": TEXT,
        "grid": IMAGE.grid,
        "max_tokens": 64,
        "global_batch_size": 6,
        "seed": 1,
        "modality_weights": (1.0, 1.0, 1.0, 1.0),
    }
    return BatchSource(**(settings | changes))


def _dealt(source: BatchSource, num_sections: int) -> list[list[str]]:
    steps = source.batches_per_epoch
    return [
        [i for step in range(k * steps, (k + 1) * steps) for i in source.ids(step)]
        for k in range(num_sections)
    ]


@pytest.mark.parametrize("packing", [False, True])
def test_shares_are_those_of_the_weights_after_any_number_of_sections(packing: bool) -> None:
    sections = _dealt(mixed_source(packing=packing), 12)
    counts: Counter[str] = Counter()
    for section in sections:
        counts.update(name[0] for name in section)
        total = sum(counts.values())
        for name, weight in zip("abc", WEIGHTS, strict=True):
            assert counts[name] == pytest.approx(total * weight / 10, abs=2)


@pytest.mark.parametrize("packing", [False, True])
def test_each_sample_of_a_source_comes_once_before_any_comes_twice(packing: bool) -> None:
    """At the ends of sections, inside which documents are sorted by length."""
    counts = Counter({i.id: 0 for i in mixed_source().corpus.samples})
    for section in _dealt(mixed_source(packing=packing), 20):
        counts.update(section)
        for name in "abc":
            times = [n for i, n in counts.items() if i[0] == name]
            assert max(times) - min(times) <= 1
    assert min(counts.values()) >= 4


def test_a_tiny_weight_still_comes_to_its_share() -> None:
    """Less than one document a section: rounding each section alone would never deal it."""
    mixture = Mixture([range(0, 10), range(10, 20)], [0.999, 0.001], 50, 0)
    dealt = [mixture.section(k).indices for k in range(400)]
    assert sum(int((d >= 10).sum()) for d in dealt) == 20
    assert {len(d) for d in dealt} <= {49, 50}


def test_a_mixture_is_a_function_of_seed_and_step() -> None:
    steps = [95, 3, 40, 0, 41]
    first = {step: mixed_source().ids(step) for step in steps}
    again = mixed_source()
    assert {step: again.ids(step) for step in reversed(steps)} == first
    assert mixed_source(seed=2).ids(3) != first[3]


def test_batches_of_a_mixture_hold_at_least_their_size() -> None:
    source = mixed_source()
    sizes = [len(source.ids(step)) for step in range(3 * source.batches_per_epoch)]
    assert min(sizes) == 6
    assert max(sizes) == 7


def test_without_weights_every_sample_comes_once_an_epoch() -> None:
    source = mixed_source(None)
    steps = source.batches_per_epoch
    everything = sorted(s.id for s in source.corpus.samples)
    for epoch in range(3):
        span = range(epoch * steps, (epoch + 1) * steps)
        assert sorted(i for step in span for i in source.ids(step)) == everything


def test_processes_and_accumulation_only_cut_a_mixture() -> None:
    source = mixed_source()
    pad = source.vocabulary.pad

    def rows(**cut: int) -> list[list[int]]:
        found = source.batch(7, **cut)
        return [[t for t in row if t != pad] for b in found for row in b.token_ids.tolist()]

    parts = [rows(rank=rank, num_ranks=3, accum=2) for rank in range(3)]
    assert [row for part in parts for row in part] == rows()


def test_a_sample_that_comes_again_is_drawn_anew() -> None:
    source = mixed_source()
    entries = [e for step in range(96) for row in source._steps.rows(step) for e in row]
    of_b1 = [e.epoch for e in entries if source.corpus.id(e.sample) == "b1"]
    assert sorted(of_b1) == list(range(len(of_b1)))
    assert len(of_b1) > 5


def test_weights_are_one_for_each_source() -> None:
    with pytest.raises(ConfigError, match="weights has 2 numbers for 1 sources"):
        DataConfig(sources=(ScenesSource(num=1),), weights=(1.0, 2.0))
