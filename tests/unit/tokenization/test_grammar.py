import pytest
import torch

from genvlm.errors import TokenError
from genvlm.tokenization.grammar import Grammar, GrammarState, Mode
from genvlm.tokenization.vocabulary import Codebook, Vocabulary

V = Vocabulary(image=Codebook(4, "a"), video=Codebook(3, "b"), text_size=10)
GRAMMAR = Grammar(V, (1, 2))
WORD = V.text_range.start


def read(*token_ids: int, grammar: Grammar = GRAMMAR) -> GrammarState:
    state = grammar.start(1)
    for token_id in token_ids:
        state = grammar.step(state, torch.tensor([token_id]))
    return state


@pytest.mark.parametrize(
    ("seen", "wrong", "said"),
    [
        ([], WORD, "START"),
        ([V.bos], V.bos, "TEXT"),
        ([V.bos], 0, "TEXT"),
        ([V.bos], V.eoi, "TEXT"),
        ([V.bos], V.pad, "TEXT"),
        ([V.bos, V.boi], 4, "CODES"),
        ([V.bos, V.boi, 0], V.eoi, "CODES"),
        ([V.bos, V.boi, 0, 0], 0, "EOI"),
        ([V.bos, V.bov], V.eov, "FRAME"),
        ([V.bos, V.bov], 0, "FRAME"),
        ([V.bos, V.bov, 4], V.eov, "FRAME"),
        ([V.bos, V.bov, 4, 4], V.eos, "FRAME_EDGE"),
        ([V.bos, V.eos], WORD, "DONE"),
        ([V.bos], V.size, "TEXT"),
    ],
)
def test_a_wrong_token_is_refused_with_its_state(seen: list[int], wrong: int, said: str) -> None:
    with pytest.raises(TokenError, match=rf"row 0: token {wrong} .*state {said}\)"):
        GRAMMAR.step(read(*seen), torch.tensor([wrong]))


def test_rows_of_one_batch_may_be_in_different_modes() -> None:
    rows = [
        [V.bos, WORD, WORD, V.eos, V.pad, V.pad],
        [V.bos, V.boi, 1, 2, V.eoi, WORD],
        [V.bos, V.bov, 4, 5, 6, 4],
        [V.bos, V.boi, 1, 2, V.eoi, V.boi],
    ]
    state = GRAMMAR.start(len(rows))
    for column in torch.tensor(rows).T:
        state = GRAMMAR.step(state, column)
    assert state.mode.tolist() == [Mode.DONE, Mode.TEXT, Mode.FRAME_EDGE, Mode.CODES]
    one_by_one = [read(*row) for row in rows]
    assert [int(s.mode) for s in one_by_one] == state.mode.tolist()
    assert [int(s.frame) for s in one_by_one] == state.frame.tolist()
    assert GRAMMAR.placement(state).positions.tolist() == [[-1] * 3, [-1] * 3, [2, 0, 0], [0, 0, 0]]


def test_the_first_wrong_row_is_named() -> None:
    state = GRAMMAR.step(GRAMMAR.start(3), torch.full((3,), V.bos))
    with pytest.raises(TokenError, match="row 1:"):
        GRAMMAR.step(state, torch.tensor([WORD, 0, 0]))


def test_another_frame_or_the_end_is_one_slice() -> None:
    low, high = GRAMMAR.allowed(read(V.bos, V.bov, 4, 4))[0].tolist()
    assert set(range(low, high)) == {*V.video_range, V.eov}


def test_budget_forbids_an_image_that_does_not_fit() -> None:
    state = read(V.bos)
    forbidden = [GRAMMAR.over_budget(state, torch.tensor([room])).item() for room in (3, 4)]
    assert forbidden == [True, False]


def test_a_video_cannot_begin_without_a_video_codebook() -> None:
    without_video = Grammar(Vocabulary(image=Codebook(4, "a"), text_size=10), (1, 2))
    state = read(without_video.vocabulary.bos, grammar=without_video)
    with pytest.raises(TokenError, match="TEXT"):
        without_video.step(state, torch.tensor([without_video.vocabulary.bov]))


def test_a_video_must_end_when_the_next_frame_does_not_fit() -> None:
    edge = read(V.bos, V.bov, 4, 4)
    assert [GRAMMAR.must_end_video(edge, torch.tensor([r])).item() for r in (2, 3)] == [True, False]
    assert not GRAMMAR.must_end_video(read(V.bos), torch.tensor([0])).item()
