"""Pairs: each picture once, batches that depend on seed and step alone, even levels, noise."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.config.data import (
    CaptionsSource,
    EditsSource,
    EmojiSource,
    ScenesSource,
    Source,
    StoriesSource,
)
from genvlm.config.diffusion import PairDataConfig
from genvlm.data.batches import to_device
from genvlm.data.images import RGBImage
from genvlm.data.pairs import PairBatch, Pairs, PairSource, build_pairs, standardised
from genvlm.data.sources import Sample
from genvlm.errors import ConfigError, DataError, TokenError
from genvlm.models.diffusion.latents import PixelSpace, measure_scale
from genvlm.models.text_encoder import PieceCoder
from genvlm.testing.tiny import tiny_text_tokenizer, write_tiny_captions

CODER = PieceCoder(tiny_text_tokenizer(), 64)
BEGIN = CODER.tokenizer.size


def pairs(num: int = 53) -> Pairs:
    """Captions of their own numbers, of which some share a picture."""
    latents = torch.arange(num, dtype=torch.float32)[:, None, None, None].expand(-1, 2, 2, 2)
    return Pairs([Sample(str(i), (f"red {i}", i // 2), "pair") for i in range(num)], latents)


def source(num: int = 53, *, batch: int = 8, **changes: object) -> PairSource:
    settings: dict[str, object] = {
        "pairs": pairs(num),
        "encode_texts": CODER.encode,
        "condition_dropout": 0.0,
        "num_levels": 1000,
        "level_sampling": "uniform",
        "global_batch_size": batch,
        "seed": 3,
    }
    return PairSource(**(settings | changes))  # type: ignore[arg-type]


def captions(batch: PairBatch) -> list[str]:
    return [
        CODER.tokenizer.decode([p for p in row[mask].tolist() if p != BEGIN])
        for row, mask in zip(batch.pieces, batch.mask, strict=True)
    ]


def equal(a: PairBatch, b: PairBatch) -> bool:
    names = ("latents", "pieces", "mask", "levels", "noise")
    return all(torch.equal(getattr(a, n), getattr(b, n)) for n in names)


@pytest.mark.parametrize(("num", "batch"), [(53, 8), (64, 8), (8, 8), (15, 8)])
def test_each_pair_comes_exactly_once_an_epoch(num: int, batch: int) -> None:
    cut = source(num, batch=batch)
    for epoch in range(2):
        seen = [
            caption
            for step in range(cut.batches_per_epoch)
            for part in cut.batch(epoch * cut.batches_per_epoch + step)
            for caption in captions(part)
        ]
        assert sorted(seen) == sorted(f"red {i}" for i in range(num))


def test_a_caption_stands_beside_its_picture() -> None:
    (batch,) = source().batch(2)
    for caption, latent in zip(captions(batch), batch.latents, strict=True):
        assert latent[0, 0, 0] == int(caption.split()[1]) // 2


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    (one,), (same,) = source().batch(9), source().batch(9)
    assert equal(one, same)
    for (other,) in (source().batch(8), source(seed=4).batch(9)):
        assert not torch.equal(one.noise, other.noise)
        assert not torch.equal(one.levels, other.levels)
        assert captions(one) != captions(other)


@pytest.mark.parametrize(("num_ranks", "accum"), [(1, 4), (2, 2), (4, 1), (3, 1)])
def test_processes_and_accumulation_cut_one_and_the_same_batch(num_ranks: int, accum: int) -> None:
    cut = source(condition_dropout=0.3)
    (whole,) = cut.batch(4)
    parts = [
        part
        for rank in range(num_ranks)
        for part in cut.batch(4, rank=rank, num_ranks=num_ranks, accum=accum)
    ]
    assert len(parts) == num_ranks * accum
    for name in ("latents", "levels", "noise"):
        together = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(together, getattr(whole, name)), name
    assert [c for part in parts for c in captions(part)] == captions(whole)
    assert {part.loss_denominator for part in parts} == {float(len(whole.levels))}


@pytest.mark.parametrize("num", [8, 9, 10])
def test_levels_of_a_global_batch_cover_the_schedule_evenly(num: int) -> None:
    """Every stretch of 1/num of the schedule holds one, wherever the first falls."""
    cut = source(num, batch=num, num_levels=720)
    starts = set()
    for step in range(50):
        (batch,) = cut.batch(step)
        cells = batch.levels.sort().values // (720 // num)
        assert cells.tolist() == list(range(num))
        starts.add(int(batch.levels.min()))
    assert len(starts) > 20


def test_every_level_is_drawn_equally_often() -> None:
    cut = source(8, num_levels=16)
    counts = Counter(int(n) for s in range(500) for n in cut.batch(s)[0].levels)
    assert sorted(counts) == list(range(16))
    assert max(counts.values()) - min(counts.values()) < 0.2 * 250


def test_logit_normal_levels_prefer_the_middle() -> None:
    cut = source(8, level_sampling="logit_normal")
    levels = torch.cat([cut.batch(s)[0].levels for s in range(500)]).double() / 1000
    logits = (levels.clamp(1e-3, 1 - 1e-3)).logit()
    assert abs(logits.mean()) < 0.05
    assert abs(logits.std() - 1) < 0.05
    assert levels.min() >= 0
    assert levels.max() < 1


def test_noise_is_standard_normal_and_of_each_row_its_own() -> None:
    cut = source(8)
    noise = torch.cat([cut.batch(s)[0].noise for s in range(200)])
    assert noise.shape[1:] == (2, 2, 2)
    assert abs(noise.mean()) < 0.03
    assert abs(noise.std() - 1) < 0.03
    assert len(torch.unique(noise.flatten(1), dim=0)) == len(noise)


def test_a_condition_is_dropped_as_often_as_asked_and_anew_each_epoch() -> None:
    cut = source(200, batch=20, condition_dropout=0.25)
    dropped = [
        [caption == "" for step in range(10) for c in cut.batch(10 * e + step) for caption in
         sorted(captions(c))]
        for e in range(20)
    ]  # fmt: skip
    share = np.mean(dropped)
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 4000) ** 0.5
    kept = [
        {c for step in range(10) for c in captions(cut.batch(10 * e + step)[0])} for e in range(2)
    ]
    assert kept[0] != kept[1]
    assert all("" not in captions(source().batch(s)[0]) for s in range(6))


def test_captions_that_are_too_long_and_too_few_pairs_are_told_before_training() -> None:
    short = PieceCoder(tiny_text_tokenizer(), 3)
    with pytest.raises(TokenError, match=r"'red \d+' has \d+ tokens"):
        source(encode_texts=short.encode).check()
    with pytest.raises(DataError, match="hold 7 pairs, fewer than global_batch_size 8"):
        source(7).check()
    source(8).check()


@pytest.mark.parametrize("wrong", [StoriesSource(num=1), EditsSource(num=1)])
def test_documents_that_are_no_pairs_are_refused(wrong: Source) -> None:
    with pytest.raises(ConfigError, match=rf"sources\.1 is of kind {wrong.kind}.*no pairs"):
        PairDataConfig(sources=(ScenesSource(num=1), wrong))


def test_equal_pictures_are_encoded_once_and_the_cache_gives_the_same(tmp_path: Path) -> None:
    """Labels and captions of one drawing share it."""
    config = PairDataConfig(
        sources=(
            EmojiSource(vendors=("noto",), concepts="classes"),
            EmojiSource(vendors=("noto",), concepts="classes", texts="labels"),
            CaptionsSource(path=str(write_tiny_captions(tmp_path / "pairs"))),
        )
    )
    encoded: list[int] = []
    space = PixelSpace(8)

    def encode(pictures: Sequence[RGBImage]) -> torch.Tensor:
        encoded.append(len(pictures))
        return space.encode(pictures)

    built = build_pairs(config, encode, "pixels", tmp_path / "cache")
    assert (len(built), len(built.latents), sum(encoded)) == (212, 112, 112)
    assert built.picture(0) == built.picture(100) == 0
    assert built.text(200) == "a red square on a white page"
    encoded.clear()
    again = build_pairs(config, encode, "pixels", tmp_path / "cache")
    assert encoded == []
    assert again.fingerprint == built.fingerprint
    assert again.samples == built.samples
    build_pairs(config, encode, "other", tmp_path / "cache")
    assert sum(encoded) == 112  # another encoder, another key


def test_of_two_that_want_one_cache_the_second_waits_and_finds_it_made(tmp_path: Path) -> None:
    config = PairDataConfig(sources=(CaptionsSource(path=str(write_tiny_captions(tmp_path))),))
    cache, space, found = tmp_path / "cache", PixelSpace(8), list[str]()
    encoding, second_came = threading.Event(), threading.Event()

    def build(encode: Callable[[Sequence[RGBImage]], torch.Tensor]) -> None:
        found.append(build_pairs(config, encode, "pixels", cache).fingerprint)

    def slow(pictures: Sequence[RGBImage]) -> torch.Tensor:
        encoding.set()
        assert second_came.wait(20)
        return space.encode(pictures)

    first = threading.Thread(target=build, args=(slow,))
    first.start()
    assert encoding.wait(20)
    second = threading.Thread(target=build, args=(None,))  # fails when it has to encode
    second.start()
    second.join(0.3)
    assert second.is_alive()
    second_came.set()
    for thread in (first, second):
        thread.join(20)
    assert len(found) == 2
    assert len(set(found)) == 1


def test_the_fingerprint_of_pairs_follows_captions_and_latents() -> None:
    moved = pairs().latents.clone()
    moved[-1] += 1
    renamed = [Sample("0", ("blue", 0), "pair"), *pairs().samples[1:]]
    found = {
        p.fingerprint
        for p in (pairs(), Pairs(pairs().samples, moved), Pairs(renamed, pairs().latents))
    }
    assert len(found) == 3


def test_standardised_pairs_have_unit_scale() -> None:
    latents = torch.randn(50, 2, 3, 3, generator=torch.Generator().manual_seed(0)) * 4 + 7
    raw = Pairs(pairs(50).samples, latents)
    scaled = standardised(raw, *measure_scale(latents))
    assert scaled.samples == raw.samples
    by_channel = scaled.latents.transpose(0, 1).flatten(1)
    torch.testing.assert_close(by_channel.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(by_channel.std(1, correction=0), torch.ones(2))


def test_a_batch_moves_to_another_device_whole() -> None:
    (batch,) = source().batch(0)
    moved = to_device(batch, torch.device("meta"))
    for name in ("latents", "pieces", "mask", "levels", "noise"):
        assert getattr(moved, name).is_meta, name
    assert moved.loss_denominator == batch.loss_denominator
