"""Batches of captioned pictures, and captions that compare the other way round."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.data.caption_batches import CaptionSource, swapped_caption
from genvlm.data.pairs import Pairs, fit_pixels
from genvlm.data.scenes import sample_scenes
from genvlm.data.sources import Sample
from genvlm.errors import DataError, TokenError
from genvlm.models.text_encoder import PieceCoder
from genvlm.testing.tiny import tiny_pairs, tiny_text_tokenizer

CAPTIONS, PICTURES = zip(*tiny_pairs(), strict=True)


def source(size: int = 4, *, negatives: bool = False, max_tokens: int = 24) -> CaptionSource:
    texts = [*CAPTIONS[:-1], "a red bar above a white page"]
    samples = [Sample(str(i), (text, i), "test", None) for i, text in enumerate(texts)]
    return CaptionSource(
        pairs=Pairs(samples, fit_pixels(PICTURES, 16)),
        encode_texts=PieceCoder(tiny_text_tokenizer(), max_tokens).encode,
        texts_fingerprint="",
        negatives=negatives,
        global_batch_size=size,
        seed=3,
    )


@given(st.integers(2, len(CAPTIONS)), st.integers(1, 5))
@settings(deadline=None)
def test_every_batch_has_one_size_and_every_pair_comes_equally_often(
    size: int, epochs: int
) -> None:
    own, num = source(size), len(CAPTIONS)
    steps = num * epochs // size
    seen = Counter(
        picture.numpy().tobytes() for step in range(steps) for picture in own.batch(step)[0].images
    )
    assert all(len(own.batch(step)[0].images) == size for step in range(steps))
    assert sum(seen.values()) == steps * size
    assert max(seen.values()) <= epochs
    assert min(seen.values(), default=0) >= epochs - 1


def test_a_picture_stands_beside_its_caption_and_processes_share_a_batch() -> None:
    own = source()
    (whole,) = own.batch(2)
    parts = [own.batch(2, rank=rank, num_ranks=2)[0] for rank in (0, 1)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert [part.loss_denominator for part in parts] == [4.0, 4.0]
    for picture, pieces, mask in zip(whole.images, whole.pieces, whole.mask, strict=True):
        place = next(i for i, p in enumerate(fit_pixels(PICTURES, 16)) if torch.equal(p, picture))
        expected, _ = own.encode_texts([own.pairs.text(place)])
        assert torch.equal(pieces[mask], expected[0])
    assert torch.equal(own.batch(2)[0].images, source().batch(2)[0].images)


def test_negatives_stand_behind_the_captions_where_there_are_any() -> None:
    size = len(CAPTIONS)
    (batch,) = source(size, negatives=True).batch(0)
    assert batch.pieces.shape[0] == batch.allowed.shape[0] == 2 * size
    assert batch.allowed[:size].all()
    assert batch.allowed[size:].sum() == 1
    place = size + int(batch.allowed[size:].nonzero())
    expected, _ = source().encode_texts(["a white page above a red bar"])
    assert torch.equal(batch.pieces[place][batch.mask[place]], expected[0])


def test_what_is_compared_is_swapped() -> None:
    assert swapped_caption("hamster left of yellow circle") == "yellow circle left of hamster"
    assert swapped_caption("a red heart") is None
    assert swapped_caption("cat above cat") is None
    for scene in sample_scenes(50, seed=0, three=0.0):
        assert swapped_caption(scene.caption) == scene.swapped.caption


def test_too_few_pairs_and_too_long_texts_are_named_before_training() -> None:
    with pytest.raises(DataError, match="fewer than global_batch_size 100"):
        source(100).check()
    with pytest.raises(TokenError, match="takes 5"):
        source(max_tokens=5).check()
    source(negatives=True).check()


def test_pixels_are_those_of_the_picture() -> None:
    pixels = fit_pixels(PICTURES[:2], 16)
    assert pixels.dtype == torch.uint8
    np.testing.assert_array_equal(pixels[1].permute(1, 2, 0).numpy(), PICTURES[1])
