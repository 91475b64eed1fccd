import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.errors import EvaluationError
from genvlm.evaluation.decisions import build_rule
from genvlm.evaluation.rules import choice_credit, grid2x2_credit, options_credit

# Few distinct values, so that ties are common.
SCORES = st.integers(-2, 2).map(float)
ROWS = st.lists(SCORES, min_size=2, max_size=6)
GRIDS = st.lists(SCORES, min_size=4, max_size=4).map(lambda v: np.array(v).reshape(2, 2))


def test_a_constant_scorer_gets_nothing_half_and_everything_on_a_pair() -> None:
    assert choice_credit(np.zeros(2), 0) == (0.0, 0.5, 1.0, True)
    assert choice_credit(np.zeros(100), 42) == (0.0, 0.01, 1.0, True)


def test_a_choice_is_right_only_at_the_top() -> None:
    assert choice_credit(np.array([3.0, 1.0, 2.0]), 0) == (1.0, 1.0, 1.0, False)
    assert choice_credit(np.array([3.0, 1.0, 2.0]), 2) == (0.0, 0.0, 0.0, False)
    assert choice_credit(np.array([3.0, 3.0, 2.0]), 1) == (0.0, 0.5, 1.0, True)
    # A tie among losers changes nothing.
    assert choice_credit(np.array([3.0, 1.0, 1.0]), 0) == (1.0, 1.0, 1.0, False)


def test_a_right_grid_wins_all_three_metrics() -> None:
    credit = grid2x2_credit(np.array([[2.0, 1.0], [1.0, 2.0]]))
    assert {name: c.strict for name, c in credit.items()} == {"text": 1, "image": 1, "group": 1}


def test_text_compares_captions_of_one_picture_and_image_pictures_of_one_caption() -> None:
    # Picture 0 gets higher scores throughout; each picture prefers its own caption.
    credit = grid2x2_credit(np.array([[9.0, 8.0], [1.0, 2.0]]))
    assert (credit["text"].strict, credit["image"].strict, credit["group"].strict) == (1, 0, 0)
    # Caption 0 gets higher scores throughout; each caption prefers its own picture.
    credit = grid2x2_credit(np.array([[9.0, 1.0], [8.0, 2.0]]))
    assert (credit["text"].strict, credit["image"].strict, credit["group"].strict) == (0, 1, 0)


def test_a_blind_scorer_gets_nothing_on_a_grid() -> None:
    credit = grid2x2_credit(np.array([[3.0, 1.0], [3.0, 1.0]]))
    assert credit["text"] == (0.0, 0.0, 0.0, False)
    assert credit["image"] == (0.0, 0.25, 1.0, True)
    assert credit["group"] == (0.0, 0.0, 0.0, False)


def test_a_constant_scorer_gets_a_coin_for_each_comparison_of_a_grid() -> None:
    credit = grid2x2_credit(np.ones((2, 2)))
    assert [credit[name].half for name in ("text", "image", "group")] == [0.25, 0.25, 0.0625]
    assert all(c.strict == 0 and c.win == 1 and c.tied for c in credit.values())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_mean_nothing_name_their_item(bad: float) -> None:
    with pytest.raises(EvaluationError, match="red-heart"):
        choice_credit(np.array([0.0, bad]), 0, "red-heart")
    with pytest.raises(EvaluationError, match="swapped-0007"):
        grid2x2_credit(np.array([[0.0, 1.0], [bad, 0.0]]), "swapped-0007")


def test_wrong_shapes_and_targets_are_errors() -> None:
    with pytest.raises(EvaluationError, match="2 images x 2 texts"):
        build_rule("grid2x2").credit(np.zeros((1, 2)), None, "a")
    with pytest.raises(EvaluationError, match="1 image and the index"):
        build_rule("choice").credit(np.zeros((2, 2)), 0, "a")
    with pytest.raises(EvaluationError, match="1 image and the index"):
        build_rule("choice").credit(np.zeros((1, 2)), None, "a")
    with pytest.raises(EvaluationError, match="number 5"):
        choice_credit(np.zeros(2), 5)


@given(ROWS, st.data())
@settings(max_examples=100, deadline=None)
def test_half_credits_of_all_candidates_of_a_choice_add_to_one(
    row: list[float], data: st.DataObject
) -> None:
    credits = [choice_credit(np.array(row), k) for k in range(len(row))]
    assert sum(c.half for c in credits) == pytest.approx(1)
    assert all(c.strict <= c.half <= c.win for c in credits)
    assert all((c.strict != c.win) == c.tied for c in credits)
    order = data.draw(st.permutations(range(len(row))))
    shuffled = np.array(row)[list(order)]
    assert [choice_credit(shuffled, k) for k in range(len(row))] == [credits[i] for i in order]


@given(GRIDS)
@settings(max_examples=200, deadline=None)
def test_a_group_is_won_exactly_when_text_and_image_are(grid: np.ndarray) -> None:
    credit = grid2x2_credit(grid)
    for rule in ("strict", "half", "win"):
        text, image, group = (getattr(credit[n], rule) for n in ("text", "image", "group"))
        assert group == text * image
    assert all(c.strict <= c.half <= c.win for c in credit.values())
    # Exchanging both pictures and both captions is the same item; transposing exchanges metrics.
    assert grid2x2_credit(grid[::-1, ::-1]) == credit
    assert grid2x2_credit(grid.T)["text"] == credit["image"]


@given(GRIDS)
@settings(max_examples=200, deadline=None)
def test_a_caption_order_wins_text_at_most_once(grid: np.ndarray) -> None:
    own, other = grid2x2_credit(grid)["text"], grid2x2_credit(grid[:, ::-1])["text"]
    assert own.strict + other.strict <= 1


def test_of_three_options_an_unread_answer_is_one_guess_in_three() -> None:
    credit = options_credit({"given": "B", "rotated 1": None, "rotated 2": "B"}, "B", 3)
    assert credit["accuracy"].strict == pytest.approx(2 / 3)
    assert credit["accuracy"].half == pytest.approx((2 + 1 / 3) / 3)
    assert credit["agreement"] == pytest.approx((0, 1 / 3, 1, True))
    assert credit["all orders"] == pytest.approx((0, 1 / 3, 1, True))
    nothing = options_credit({"given": None, "rotated 1": None, "rotated 2": None}, "B", 3)
    assert nothing["agreement"].half == pytest.approx(1 / 9)
