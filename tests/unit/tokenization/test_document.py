import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.errors import TokenError
from genvlm.testing.tiny import tiny_text_tokenizer
from genvlm.tokenization.document import (
    Document,
    Image,
    Segment,
    Text,
    Video,
    count_learned,
    count_tokens,
    decode_document,
    encode_document,
)
from genvlm.tokenization.grammar import Grammar, Mode
from genvlm.tokenization.vocabulary import Codebook, Modality, Vocabulary

GRID = (2, 3)
TEXT = tiny_text_tokenizer()
VOCABULARIES = {
    "own": Vocabulary(image=Codebook(5, "a"), video=Codebook(7, "b"), text_size=TEXT.size),
    "shared": Vocabulary(image=Codebook(7, "a"), video=Codebook(7, "a"), text_size=TEXT.size),
}

texts = st.text("abcd red 9é\n", min_size=1).filter(lambda t: t.strip())


def codes(size: int, frames: int | None = None) -> st.SearchStrategy[np.ndarray]:
    shape = (*(() if frames is None else (frames,)), *GRID)
    num = int(np.prod(shape))
    return st.lists(st.integers(0, size - 1), min_size=num, max_size=num).map(
        lambda values: np.array(values).reshape(shape)
    )


segments = st.one_of(
    texts.map(Text),
    codes(5).map(Image),
    st.integers(1, 3).flatmap(lambda n: codes(7, n)).map(Video),
)


def separated(parts: list[Segment]) -> list[Segment]:
    """Without two texts in a row: ids do not say where one ends and the next begins."""
    return [
        s
        for i, s in enumerate(parts)
        if not (i and isinstance(s, Text) and isinstance(parts[i - 1], Text))
    ]


documents = st.lists(segments, max_size=5).map(separated)


def encode(parts: list[Segment], v: Vocabulary):
    return encode_document(Document(id="d", segments=parts), v, TEXT, grid=GRID)


@settings(deadline=None, max_examples=60)
@given(parts=documents)
def test_text_that_is_tokenised_already_gives_the_same_document(parts: list[Segment]) -> None:
    v = VOCABULARIES["own"]
    known = [
        Text(s.text, np.array(TEXT.encode(s.text), np.uint16)) if isinstance(s, Text) else s
        for s in parts
    ]
    ours, theirs = (encode(p, v) for p in (known, parts))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)
    for document in (known, parts):
        counted = count_tokens(Document(id="d", segments=document), TEXT, sized_images=False)
        assert counted == len(ours.token_ids)


@pytest.mark.parametrize("v", VOCABULARIES.values(), ids=VOCABULARIES.keys())
@settings(deadline=None, max_examples=60)
@given(parts=documents, data=st.data())
def test_learned_tokens_are_counted_as_they_are_encoded(
    v: Vocabulary, parts: list[Segment], data: st.DataObject
) -> None:
    loss = data.draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts)))
    document = Document(id="d", segments=parts, loss=loss)
    encoded = encode_document(document, v, TEXT, grid=GRID)
    counted = count_learned(document, TEXT, sized_images=v.sized_images)
    expected = np.bincount(encoded.modality, encoded.loss_weights, len(Modality))
    assert counted.tolist() == expected.tolist()


def test_pieces_are_taken_at_their_word() -> None:
    """No tokenizer is asked: the second argument of a text is what is encoded."""
    v = VOCABULARIES["own"]
    encoded = encode([Text("red", [5, 6, 7])], v)
    assert v.text_pieces(encoded.token_ids[1:-1]) == [5, 6, 7]


@pytest.mark.parametrize("v", VOCABULARIES.values(), ids=VOCABULARIES.keys())
@settings(deadline=None, max_examples=60)
@given(parts=documents)
def test_documents_round_trip(v: Vocabulary, parts: list[Segment]) -> None:
    decoded = decode_document(encode(parts, v).token_ids, v, TEXT, grid=GRID)
    assert [type(s) for s in decoded] == [type(s) for s in parts]
    for before, after in zip(parts, decoded, strict=True):
        if isinstance(before, Text):
            assert after.text == before.text
        else:
            np.testing.assert_array_equal(after.codes, before.codes)


@pytest.mark.parametrize("v", VOCABULARIES.values(), ids=VOCABULARIES.keys())
@settings(deadline=None, max_examples=60)
@given(parts=documents)
def test_arrays_equal_what_stepping_the_grammar_yields(v: Vocabulary, parts: list[Segment]) -> None:
    encoded = encode(parts, v)
    grammar = Grammar(v, GRID)
    state = grammar.start(1)
    for token_id, modality, position in zip(
        encoded.token_ids.tolist(), encoded.modality, encoded.positions, strict=True
    ):
        placement = grammar.placement(state)
        was_video = placement.modality[0] == Modality.VIDEO and token_id != v.eov
        was_image = placement.modality[0] == Modality.IMAGE
        if was_video or was_image:
            assert placement.modality[0] == modality
        else:
            assert modality == (Modality.TEXT if token_id in v.text_range else Modality.CONTROL)
        assert placement.positions[0].tolist() == position.tolist()
        state = grammar.step(state, torch.tensor([token_id]))
    assert state.mode.item() == Mode.DONE


def test_positions_of_a_clip_are_frame_row_and_column() -> None:
    v = VOCABULARIES["own"]
    encoded = encode([Video(np.zeros((2, *GRID), int))], v)
    assert encoded.positions[-2].tolist() == [2, 0, 0]  # EOV, where a third frame might begin
    inside = encoded.positions[2:-2]
    assert inside[0].tolist() == [0, 0, 0]
    assert inside[5].tolist() == [0, 1, 2]
    assert inside[6].tolist() == [1, 0, 0]


def test_loss_weights_follow_the_document_and_spare_bos() -> None:
    v = VOCABULARIES["own"]
    document = Document(
        id="d", segments=[Text("red"), Image(np.zeros(GRID, int))], loss=[False, True]
    )
    encoded = encode_document(document, v, TEXT, grid=GRID)
    num_text = len(TEXT.encode("red"))
    assert encoded.loss_weights.tolist() == [0] * (1 + num_text) + [1] * (6 + 2 + 1)


def test_a_cut_off_document_decodes_without_its_end() -> None:
    v = VOCABULARIES["own"]
    ids = encode([Text("red"), Image(np.ones(GRID, int))], v).token_ids
    assert len(decode_document(ids[:-1], v, TEXT, grid=GRID)) == 2
    with pytest.raises(TokenError, match="has no end"):
        decode_document(ids[:-2], v, TEXT, grid=GRID)
    with pytest.raises(TokenError, match="5 codes instead of 6"):
        decode_document(ids[:-3], v, TEXT, grid=GRID)


def test_a_clip_without_end_or_with_half_a_frame_is_refused() -> None:
    v = VOCABULARIES["own"]
    ids = encode([Video(np.zeros((2, *GRID), int))], v).token_ids
    for broken in (ids[:-2], np.delete(ids, 4)):
        with pytest.raises(TokenError, match="no whole frames or end"):
            decode_document(broken, v, TEXT, grid=GRID)


def test_what_does_not_fit_is_named_with_its_document() -> None:
    v = VOCABULARIES["own"]
    with pytest.raises(TokenError, match="document 'd' has 3x2 codes; this model takes 2x3"):
        encode([Image(np.zeros((3, 2), int))], v)
    with pytest.raises(TokenError, match=r"0\.\.4, got 0\.\.5"):
        encode([Image(np.array([[0, 1, 2], [3, 4, 5]]))], v)
    with pytest.raises(TokenError, match="'d' has 10 tokens, more than the context of 9"):
        encode_document(
            Document(id="d", segments=[Image(np.zeros(GRID, int))]),
            v,
            TEXT,
            grid=GRID,
            max_tokens=9,
        )
    no_video = Vocabulary(image=Codebook(5, "a"), text_size=TEXT.size)
    with pytest.raises(TokenError, match="no video codebook"):
        encode([Video(np.zeros((1, *GRID), int))], no_video)
