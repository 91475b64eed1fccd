import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.errors import TokenError
from genvlm.testing.tiny import tiny_text_tokenizer
from genvlm.tokenization.document import (
    Document,
    EncodedDocument,
    Image,
    Segment,
    Text,
    decode_document,
    encode_document,
)
from genvlm.tokenization.grammar import Grammar
from genvlm.tokenization.infilling import Gap, mask_gaps, rotate, unrotate
from genvlm.tokenization.vocabulary import Codebook, Modality, Vocabulary

GRID = (2, 3)
TEXT = tiny_text_tokenizer()


def vocabulary(*, sized: bool) -> Vocabulary:
    return Vocabulary(
        image=Codebook(16, "a"), text_size=TEXT.size, num_gaps=4, num_numbers=4, sized_images=sized
    )


def encode(segments: list[Segment], v: Vocabulary) -> EncodedDocument:
    return encode_document(Document(id="d", segments=segments), v, TEXT, grid=GRID)


def documents(*, sized: bool) -> st.SearchStrategy[list[Segment]]:
    texts = st.sampled_from(["a red square", "blue", "green bar on white"]).map(Text)
    shapes = st.tuples(st.integers(1, 4), st.integers(1, 4)) if sized else st.just(GRID)
    images = st.tuples(shapes, st.integers(0, 99)).map(
        lambda a: Image(np.random.default_rng(a[1]).integers(0, 16, a[0]))
    )
    return st.lists(st.one_of(texts, images), min_size=1, max_size=4)


def draw_gaps(data: st.DataObject, document: EncodedDocument, v: Vocabulary) -> list[Gap]:
    """Any set of gaps that do not overlap: each begins anywhere and takes what it may."""
    gaps: list[Gap] = []
    at, spans = 1, 0
    while at < len(document.token_ids) - 1:
        choice = data.draw(st.sampled_from(["skip", "skip", "gap"]))
        inside = document.modality[at] == Modality.IMAGE
        if inside:
            row = document.positions[at, 1]
            stop = at + 1
            while choice == "gap" and document.modality[stop] == Modality.IMAGE:
                if document.positions[stop, 1] != row or not data.draw(st.booleans()):
                    break
                stop += 1
        elif document.token_ids[at] == v.boi:
            end = at + int(np.argmax(document.token_ids[at:] == v.eoi)) + 1
            stop = end if choice == "gap" and spans < v.num_gaps else at + 1
            choice = choice if stop == end else "skip"
        elif document.modality[at] == Modality.TEXT:
            stop = at + 1
            while choice == "gap" and document.modality[stop] == Modality.TEXT:
                if not data.draw(st.booleans()):
                    break
                stop += 1
        else:
            stop, choice = at + 1, "skip"
        if choice == "gap" and (inside or spans < v.num_gaps):
            gaps.append(Gap(at, stop))
            spans += not inside
        at = stop
    return gaps


@pytest.mark.parametrize("sized", [False, True])
@settings(deadline=None, max_examples=60)  # an example steps a grammar token by token
@given(data=st.data())
def test_unrotate_undoes_rotate_and_the_grammar_reads_what_stands_between(
    sized: bool, data: st.DataObject
) -> None:
    v = vocabulary(sized=sized)
    original = encode(data.draw(documents(sized=sized)), v)
    gaps = draw_gaps(data, original, v)
    if not gaps:
        return
    rotated = rotate(original, gaps, v)
    np.testing.assert_array_equal(unrotate(rotated.token_ids, v), original.token_ids)
    grammar = Grammar(v, GRID)
    state = grammar.start(1)
    for token_id, modality, position in zip(
        rotated.token_ids, rotated.modality, rotated.positions, strict=True
    ):
        placed = grammar.placement(state)
        assert placed.positions[0].tolist() == position.tolist()
        if modality == Modality.IMAGE:
            assert int(placed.modality) == modality
        state = grammar.step(state, torch.tensor([int(token_id)]))
    done = grammar.allowed(state)[0, 0].item()
    assert done == v.pad
    # Every token of the document is learned once, as before; sentinels and INFILL never.
    spans = sum(original.modality[g.start] != Modality.IMAGE for g in gaps)
    closing = spans - (original.modality[max(gaps).start] != Modality.IMAGE)
    assert rotated.loss_weights.sum() == original.loss_weights.sum() + closing
    for name in ("modality", "positions", "loss_weights"):
        moved = sorted(
            zip(original.token_ids.tolist(), map(str, getattr(original, name)), strict=True)
        )
        kept = [
            (i, str(x))
            for i, x in zip(rotated.token_ids.tolist(), getattr(rotated, name), strict=True)
        ]
        for pair in set(moved):
            if pair[0] not in v.number_range:
                assert kept.count(pair) >= moved.count(pair)


def test_a_rotated_document_looks_as_the_module_says() -> None:
    v = vocabulary(sized=False)
    original = encode([Text("a red square"), Image(np.arange(6).reshape(GRID)), Text("blue")], v)
    start = int(np.flatnonzero(original.token_ids == v.boi)[0])
    gaps = [Gap(start + 2, start + 4), Gap(1, 2)]
    rotated = rotate(original, gaps, v).token_ids.tolist()
    ids = original.token_ids.tolist()
    gap0, two = v.gap_range[0], v.number(2)
    assert rotated == [
        v.bos, gap0, *ids[2:start], v.boi, 0, two, 3, 4, 5, v.eoi, *ids[start + 8 : -1], v.infill,
        gap0, ids[1], v.eos, two, 1, 2, v.eos,
    ]  # fmt: skip


def test_documents_with_filled_gaps_decode_to_the_whole_document() -> None:
    v = vocabulary(sized=True)
    original = encode([Text("blue"), Image(np.arange(8).reshape(4, 2))], v)
    mask = np.zeros((4, 2), bool)
    mask[1:3] = True
    rotated = rotate(original, mask_gaps(original, mask), v)
    text, image = decode_document(unrotate(rotated.token_ids, v), v, TEXT, grid=GRID)
    assert (text.text, image.codes.tolist()) == ("blue", np.arange(8).reshape(4, 2).tolist())


def test_masks_become_runs_within_rows() -> None:
    v = vocabulary(sized=False)
    original = encode([Image(np.zeros(GRID, int)), Text("blue"), Image(np.zeros(GRID, int))], v)
    mask = np.array([[True, False, True], [True, True, True]])
    first, second = (mask_gaps(original, mask, image=i) for i in (0, 1))
    assert [(g.start, g.stop) for g in first] == [(2, 3), (4, 5), (5, 8)]
    assert [s.start - f.start for f, s in zip(first, second, strict=True)] == [
        second[0].start - 2
    ] * 3
    assert mask_gaps(original, np.zeros(GRID, bool)) == []
    with pytest.raises(TokenError, match=r"mask of \(1, 3\) codes for an image of \(2, 3\)"):
        mask_gaps(original, mask[:1])
    with pytest.raises(TokenError, match="has 2 images and no image 2"):
        mask_gaps(original, mask, image=2)


@pytest.mark.parametrize(
    ("gaps", "said"),
    [
        ([], "takes 1 to 256 gaps, got 0"),
        ([(1, 3), (2, 4)], "2..4 overlaps"),
        ([(0, 2)], "0..2 overlaps another, is empty, or holds BOS"),
        ([(2, 2)], "2..2"),
        ([(3, 99)], "3..99"),
    ],
)
def test_gaps_that_cannot_be_are_refused(gaps: list[tuple[int, int]], said: str) -> None:
    v = vocabulary(sized=False)
    original = encode([Text("a red square on a white page")], v)
    with pytest.raises(TokenError, match=said):
        rotate(original, [Gap(*g) for g in gaps], v)


@pytest.mark.parametrize("sized", [False, True])
def test_gaps_do_not_cut_through_images(sized: bool) -> None:
    v = vocabulary(sized=sized)
    original = encode([Image(np.zeros(GRID, int))], v)
    begin = 3 + 2 * sized  # of the second code
    for gap in [(1, 2), (1, begin), (begin, begin + 5), (begin, len(original.token_ids) - 1)]:
        with pytest.raises(TokenError, match="cuts through"):
            rotate(original, [Gap(*gap)], v)


def test_a_run_longer_than_the_vocabulary_counts_is_refused() -> None:
    few = Vocabulary(image=Codebook(16, "a"), text_size=TEXT.size, num_gaps=1, num_numbers=1)
    original = encode([Image(np.zeros(GRID, int))], few)
    with pytest.raises(TokenError, match="counts to 1"):
        rotate(original, [Gap(2, 4)], few)


def test_more_spans_than_sentinels_are_refused() -> None:
    v = vocabulary(sized=False)
    original = encode([Text("a red square on a white page, a blue bar")], v)
    with pytest.raises(TokenError, match="sentinels for 4 spans"):
        rotate(original, [Gap(i, i + 1) for i in range(1, 10, 2)], v)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_filling_that_is_cut_off_is_refused(cut: int) -> None:
    v = vocabulary(sized=False)
    original = encode([Image(np.zeros(GRID, int))], v)
    rotated = rotate(original, [Gap(2, 4), Gap(5, 7)], v).token_ids
    with pytest.raises(TokenError, match=r"cut off|not filled"):
        unrotate(rotated[: -1 - cut], v)
