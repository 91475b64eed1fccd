from dataclasses import replace

import numpy as np
import pytest
import torch

from genvlm.config.data import InfillConfig
from genvlm.data.infill import random_rectangle, rotate_at_random
from genvlm.testing.tiny import tiny_text_tokenizer
from genvlm.tokenization.document import (
    Document,
    EncodedDocument,
    Image,
    Segment,
    Text,
    Video,
    encode_document,
)
from genvlm.tokenization.grammar import Grammar, Mode
from genvlm.tokenization.infilling import unrotate
from genvlm.tokenization.vocabulary import Codebook, Vocabulary

TEXT = tiny_text_tokenizer()
SEGMENTS: list[Segment] = [
    Text("a red square on white"),
    Image(np.zeros((4, 4), int)),
    Text("blue"),
]


def vocabulary(*, sized: bool = False) -> Vocabulary:
    return Vocabulary(
        image=Codebook(16, "a"), text_size=TEXT.size, num_gaps=2, num_numbers=4, sized_images=sized
    )


def encode(v: Vocabulary, segments: list[Segment] = SEGMENTS) -> EncodedDocument:
    return encode_document(Document(id="d", segments=segments), v, TEXT, grid=(4, 4))


@pytest.mark.parametrize("sized", [False, True])
def test_rotated_documents_are_the_document_in_another_order(sized: bool) -> None:
    v = vocabulary(sized=sized)
    original, rng = encode(v), np.random.default_rng(0)
    config, num_rotated, seen = InfillConfig(probability=0.7), 0, set[str]()
    for _ in range(400):
        made = rotate_at_random(original, config, v, rng, 999)
        np.testing.assert_array_equal(unrotate(made.token_ids, v), original.token_ids)
        rotated = v.infill in made.token_ids
        num_rotated += rotated
        ids = made.token_ids.tolist()
        if rotated:
            body, filling = ids[: ids.index(v.infill)], ids[ids.index(v.infill) :]
            seen |= {"span" for i in body if i in v.gap_range}
            seen |= {"picture"} if v.boi in filling else set()
            numbers = [i for i in filling if i in v.number_range]
            seen |= {"rectangle"} if len(numbers) > 2 else set()
    assert 0.6 < num_rotated / 400 < 0.8
    assert seen == {"span", "picture", "rectangle"}


@pytest.mark.parametrize("shared", [False, True])
def test_videos_are_left_whole(shared: bool) -> None:
    base = vocabulary(sized=True)
    v = replace(base, video=Codebook(16, "a" if shared else "b"))
    clip = Video(np.arange(32).reshape(2, 4, 4) % 16)
    segments = [Text("a red ball"), clip, Text("rolls"), Image(np.ones((2, 3), int)), clip]
    original, grammar, rng = encode(v, segments), Grammar(v, (4, 4)), np.random.default_rng(0)
    whole = encode(v, [clip]).token_ids[1:-1].tolist()
    num_rotated = 0
    for number in range(150):
        made = rotate_at_random(original, InfillConfig(probability=1), v, rng, 999)
        ids = made.token_ids.tolist()
        np.testing.assert_array_equal(unrotate(made.token_ids, v), original.token_ids)
        num_rotated += v.infill in ids
        body = ids[: ids.index(v.infill)]
        starts = [at for at, token_id in enumerate(body) if token_id == v.bov]
        assert [body[at : at + len(whole)] for at in starts] == [whole, whole]
        if number >= 2:
            continue
        state = grammar.start(1)
        for token_id, position in zip(ids, made.positions.tolist(), strict=True):
            if token_id not in v.number_range:
                assert grammar.placement(state).positions[0].tolist() == position
            state = grammar.step(state, torch.tensor([token_id]))
        assert state.mode.item() == Mode.DONE
    assert num_rotated == 150


def test_a_document_of_a_video_alone_is_not_rotated() -> None:
    v = replace(vocabulary(), video=Codebook(16, "a"))
    original = encode(v, [Video(np.zeros((2, 4, 4), int))])
    made = rotate_at_random(original, InfillConfig(probability=1), v, np.random.default_rng(0), 999)
    assert made is original


def test_probabilities_choose_what_is_lost() -> None:
    v, rng = vocabulary(), np.random.default_rng(0)
    for config, in_text, in_image in (
        (InfillConfig(probability=1, image=0), True, False),
        (InfillConfig(probability=1, image=1, rectangle=1), False, True),
    ):
        for _ in range(50):
            ids = rotate_at_random(encode(v), config, v, rng, 999).token_ids.tolist()
            assert (v.gap_range[0] in ids) == in_text
            assert any(i in v.number_range for i in ids) == in_image


def test_a_document_that_would_not_fit_is_not_rotated() -> None:
    v, rng = vocabulary(), np.random.default_rng(0)
    original = encode(v)
    limit = len(original.token_ids) + 2
    config = InfillConfig(probability=1)
    for _ in range(100):
        made = rotate_at_random(original, config, v, rng, limit)
        assert len(made.token_ids) <= limit


def test_rectangles_are_rectangles_often_half_or_all_of_a_side() -> None:
    rng = np.random.default_rng(0)
    masks = [random_rectangle((4, 6), rng) for _ in range(300)]
    sizes = set()
    for mask in masks:
        rows, columns = mask.any(1), mask.any(0)
        assert (mask == rows[:, None] & columns[None]).all()
        assert mask.any()
        sizes.add((int(rows.sum()), int(columns.sum())))
        for side in (rows, columns):
            assert np.diff(np.flatnonzero(side)).max(initial=1) == 1
    halves = np.mean([m.any(1).sum() in (2, 4) for m in masks])
    assert halves > 0.5
    assert len(sizes) > 15


def test_a_document_with_nothing_to_lose_stays() -> None:
    v = vocabulary()
    empty = encode(v, [])
    made = rotate_at_random(empty, InfillConfig(probability=1), v, np.random.default_rng(0), 99)
    assert made.token_ids.tolist() == [v.bos, v.eos]
