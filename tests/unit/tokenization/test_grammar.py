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
    for room, forbidden in ((3, True), (4, False)):
        no_image, no_video = GRAMMAR.over_budget(state, torch.tensor([room]))
        assert (no_image.item(), no_video.item()) == (forbidden, forbidden)


def test_a_video_cannot_begin_without_a_video_codebook() -> None:
    without_video = Grammar(Vocabulary(image=Codebook(4, "a"), text_size=10), (1, 2))
    state = read(without_video.vocabulary.bos, grammar=without_video)
    with pytest.raises(TokenError, match="TEXT"):
        without_video.step(state, torch.tensor([without_video.vocabulary.bov]))


def test_a_video_must_end_when_the_next_frame_does_not_fit() -> None:
    edge = read(V.bos, V.bov, 4, 4)
    tight, wide = (GRAMMAR.allowed(edge, torch.tensor([room]))[0].tolist() for room in (2, 3))
    assert tight == [V.eov, V.eov + 1]
    assert wide == GRAMMAR.allowed(edge)[0].tolist()


SIZED = Vocabulary(image=Codebook(4, "a"), text_size=10, num_numbers=3, sized_images=True)


def test_a_sized_image_tells_rows_and_columns_and_holds_as_many_codes() -> None:
    grammar = Grammar(SIZED, (2, 2))
    shape = [SIZED.bos, SIZED.boi, SIZED.number(3), SIZED.number(2)]
    state = read(*shape, *[0] * 5, grammar=grammar)
    assert grammar.placement(state).positions.tolist() == [[0, 2, 1]]
    assert Mode(int(read(*shape, *[0] * 6, grammar=grammar).mode)) == Mode.EOI
    with pytest.raises(TokenError, match="HEIGHT"):
        read(SIZED.bos, SIZED.boi, 0, grammar=grammar)


@pytest.mark.parametrize("room", range(5, 15))
def test_a_sized_image_is_drawn_no_larger_than_what_fits(room: int) -> None:
    grammar = Grammar(SIZED, (2, 2))
    state, left = read(SIZED.bos, grammar=grammar), room
    assert not grammar.over_budget(state, torch.tensor([room]))[0].item()
    state, left = grammar.step(state, torch.tensor([SIZED.boi])), left - 1
    sides = []
    for _ in range(2):
        low, high = grammar.allowed(state, torch.tensor([left]))[0].tolist()
        assert low < high
        sides.append(high - low)
        state, left = grammar.step(state, torch.tensor([high - 1])), left - 1
    rows, columns = sides
    assert rows * columns + 1 <= left
    assert columns == 3 or rows * (columns + 1) + 1 > left
    assert grammar.over_budget(read(SIZED.bos, grammar=grammar), torch.tensor([4]))[0].item()


FILLED = Vocabulary(
    image=Codebook(4, "a"), video=Codebook(3, "b"), text_size=10, num_gaps=2, num_numbers=2
)
F_WORD, (GAP0, GAP1) = FILLED.text_range.start, FILLED.gap_range


def read_filled(*token_ids: int) -> GrammarState:
    return read(FILLED.bos, *token_ids, grammar=Grammar(FILLED, (2, 2)))


@pytest.mark.parametrize(
    ("seen", "wrong", "said"),
    [
        ([], GAP1, "TEXT"),  # in order
        ([GAP0], GAP0, "TEXT"),
        ([], FILLED.infill, "TEXT"),  # no gap
        ([], FILLED.number(1), "TEXT"),
        ([FILLED.boi, 0], FILLED.number(2), "CODES"),  # beyond the row
        ([FILLED.boi, 0], GAP0, "CODES"),
        ([GAP0, FILLED.infill], F_WORD, "GAP"),
        ([GAP0, FILLED.infill, GAP0], GAP1, "TEXT"),  # no gap within a filling
        ([GAP0, FILLED.infill, GAP0, FILLED.boi], FILLED.number(1), "CODES"),
        ([GAP0, GAP1, FILLED.infill, GAP0, FILLED.eos], FILLED.eos, "GAP"),
        ([FILLED.boi, FILLED.number(2), 0, 1, FILLED.eoi, FILLED.infill], FILLED.number(1), "GAP"),
        (
            [FILLED.boi, FILLED.number(2), 0, 1, FILLED.eoi, FILLED.infill, FILLED.number(2), 0],
            FILLED.eos,
            "GAP_CODES",
        ),
    ],
)
def test_a_wrong_token_of_infilling_is_refused(seen: list[int], wrong: int, said: str) -> None:
    with pytest.raises(TokenError, match=rf"row 0: token {wrong} .*state {said}\)"):
        read_filled(*seen, wrong)


def test_sentinels_are_read_and_never_offered() -> None:
    given = {*FILLED.gap_range, *FILLED.number_range, FILLED.infill}
    for state in (read_filled(), read_filled(GAP0), read_filled(FILLED.boi, 1)):
        low, high = Grammar(FILLED, (2, 2)).allowed(state)[0].tolist()
        assert not given & set(range(low, high))


def test_fillings_come_in_order_and_end_the_document() -> None:
    body = [GAP0, FILLED.boi, 0, FILLED.number(1), FILLED.number(2), FILLED.eoi, FILLED.infill]
    expected = [
        (Mode.GAP, GAP0), (Mode.TEXT, F_WORD), (Mode.TEXT, FILLED.eos),
        (Mode.GAP, FILLED.number(1)), (Mode.GAP_CODES, 3),
        (Mode.GAP, FILLED.number(2)), (Mode.GAP_CODES, 1), (Mode.GAP_CODES, 2),
        (Mode.END, FILLED.eos), (Mode.DONE, FILLED.pad),
    ]  # fmt: skip
    grammar, state, positions = Grammar(FILLED, (2, 2)), read_filled(*body), []
    for mode, token_id in expected:
        assert Mode(int(state.mode)) == mode
        low, high = grammar.allowed(state)[0].tolist()
        assert low <= token_id < high
        if mode in (Mode.GAP, Mode.END):
            assert (low, high) == (token_id, token_id + 1)
        if mode == Mode.GAP_CODES:
            positions.append(grammar.placement(state).positions[0].tolist())
        state = grammar.step(state, torch.tensor([token_id]))
    assert positions == [[0, 0, 1], [0, 1, 0], [0, 1, 1]]


def test_a_filling_ends_while_the_others_still_fit() -> None:
    grammar = Grammar(FILLED, (2, 2))
    state = read_filled(GAP0, GAP1, FILLED.infill, GAP0, F_WORD)
    # EOS of this span, sentinel and EOS of the next: three tokens.
    tight, wide = (grammar.allowed(state, torch.tensor([r]))[0].tolist() for r in (3, 4))
    assert tight == [FILLED.eos, FILLED.eos + 1]
    assert wide == [FILLED.bov, FILLED.size]
    # An image of four codes with BOI and EOI goes before these.
    rooms = [grammar.over_budget(state, torch.tensor([r])) for r in (8, 9)]
    assert [no_image.item() for no_image, _ in rooms] == [True, False]


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("limit", range(12, 34, 3))
def test_random_walks_within_their_room_fill_every_gap(sized: bool, limit: int) -> None:
    """Text, images of any size, videos: whatever a row does, what it owes still fits."""
    v = Vocabulary(
        image=Codebook(4, "a"), video=Codebook(3, "b"), text_size=3, num_gaps=2, num_numbers=3,
        sized_images=sized,
    )  # fmt: skip
    grammar, generator = Grammar(v, (1, 2)), torch.Generator().manual_seed(limit)
    body = [v.bos, v.gap_range[0], v.gap_range[1], v.boi]
    body += [*([v.number(1), v.number(2)] if sized else []), v.number(1), 0, v.eoi, v.infill]
    limit = len(body) + limit
    for _ in range(12):
        state, length = read(*body, grammar=grammar), len(body)
        while length < limit and int(state.mode) != Mode.DONE:
            room = torch.tensor([limit - length])
            low, high = grammar.allowed(state, room)[0].tolist()
            no_image, no_video = grammar.over_budget(state, room)
            forbidden = {v.boi: no_image, v.bov: no_video}
            ids = [i for i in range(low, high) if not (i in forbidden and bool(forbidden[i]))]
            pick = ids[int(torch.randint(len(ids), (1,), generator=generator))]
            if v.bov in ids and int(torch.randint(3, (1,), generator=generator)) == 0:
                pick = v.bov
            state, length = grammar.step(state, torch.tensor([pick])), length + 1
        assert Mode(int(state.mode)) == Mode.DONE
