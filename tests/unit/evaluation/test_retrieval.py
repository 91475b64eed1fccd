import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.retrieval import retrieval_hit_rate

from genvlm.errors import EvaluationError
from genvlm.evaluation.retrieval import CUTOFFS, Retrieval, rank_gallery
from genvlm.evaluation.statistics import Interval, Undefined, wilson_interval


def rank(
    scores: np.ndarray, relevant: np.ndarray | None = None, other: np.ndarray | None = None
) -> Retrieval:
    scores = np.asarray(scores, np.float64)
    images, texts = scores.shape
    relevant = np.eye(images, texts, dtype=np.bool_) if relevant is None else relevant
    names = [f"i{k}" for k in range(images)], [f"t{k}" for k in range(texts)]
    return rank_gallery(scores, relevant, *names, text_to_image=other)


@st.composite
def galleries(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores of few values, so that ties are common, and what belongs together."""
    images, texts = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    relevant = rng.random((images, texts)) < 0.3
    relevant[np.arange(images), rng.integers(0, texts, images)] = True
    relevant[rng.integers(0, images, texts), np.arange(texts)] = True
    return rng.integers(-3, 4, (images, texts)).astype(np.float64), relevant


def test_ranks_of_a_small_case_by_hand() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [5.0, 4.0, 6.0], [9.0, 8.0, 7.0]])
    found = rank(scores)
    assert found.image_to_text.ranks.tolist() == [1, 3, 3]
    assert found.text_to_image.ranks.tolist() == [3, 2, 1]
    assert found.image_to_text.median_rank == 3
    assert found.text_to_image.hits(2) == {"t0": False, "t1": True, "t2": True}
    assert found.image_to_text.recall(1).value == pytest.approx(100 / 3)


def test_the_best_of_several_texts_of_an_image_counts_and_the_others_do_not_stand_before_it() -> (
    None
):
    relevant = np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.bool_)
    found = rank(np.array([[5.0, 1.0, 4.0, 0.0], [3.0, 2.0, 1.0, 1.5]]), relevant)
    assert found.image_to_text.ranks.tolist() == [1, 3]
    assert found.text_to_image.ranks.tolist() == [1, 2, 2, 1]
    assert found.image_to_text.num_relevant.tolist() == [2, 2]


def test_a_text_of_several_images_is_found_by_any_of_them() -> None:
    relevant = np.array([[1, 0], [1, 0], [0, 1]], np.bool_)
    found = rank(np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]]), relevant)
    assert found.text_to_image.ranks.tolist() == [1, 1]
    assert found.image_to_text.groups == ("0", "0", "1")


def test_a_wrong_candidate_that_scores_alike_stands_first() -> None:
    found = rank(np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0], [0.0, 0.0, 1.0]]))
    assert found.image_to_text.ranks.tolist() == [2, 2, 1]
    constant = rank(np.zeros((12, 12)))
    for direction in constant:
        assert direction.ranks.tolist() == [12] * 12
        assert [direction.recall(k).value for k in CUTOFFS] == [0, 0, 0]


@pytest.mark.parametrize("cutoff", CUTOFFS)
def test_recall_is_the_hit_rate_of_torchmetrics(cutoff: int) -> None:
    rng = np.random.default_rng(cutoff)
    scores, relevant = rng.normal(size=(30, 40)), rng.random((30, 40)) < 0.1
    relevant[np.arange(30), np.arange(30)] = True
    relevant[0] = True
    expected = [
        retrieval_hit_rate(torch.from_numpy(s), torch.from_numpy(r), top_k=cutoff).item()
        for s, r in zip(scores, relevant, strict=True)
    ]
    found = rank(scores, relevant).image_to_text
    assert 0 < found.recall(cutoff).value < 100
    assert list(found.hits(cutoff).values()) == [bool(hit) for hit in expected]


@settings(max_examples=40)
@given(galleries())
def test_what_keeps_the_order_of_scores_keeps_ranks(
    gallery: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, relevant = gallery
    for one, other in zip(rank(scores, relevant), rank(np.exp(scores) - 7, relevant), strict=True):
        np.testing.assert_array_equal(one.ranks, other.ranks)


@settings(max_examples=40)
@given(galleries(), st.integers(0, 2**16))
def test_the_order_of_the_gallery_changes_nothing(
    gallery: tuple[np.ndarray, np.ndarray], seed: int
) -> None:
    scores, relevant = gallery
    rng = np.random.default_rng(seed)
    images, texts = (rng.permutation(n) for n in scores.shape)
    found = rank(scores, relevant)
    moved = rank(scores[images][:, texts], relevant[images][:, texts])
    np.testing.assert_array_equal(moved.image_to_text.ranks, found.image_to_text.ranks[images])
    np.testing.assert_array_equal(moved.text_to_image.ranks, found.text_to_image.ranks[texts])


@settings(max_examples=40)
@given(galleries())
def test_ties_only_lower_recall(gallery: tuple[np.ndarray, np.ndarray]) -> None:
    scores, relevant = gallery
    for one, coarse in zip(
        rank(scores, relevant), rank(np.floor(scores / 2), relevant), strict=True
    ):
        assert (coarse.ranks >= one.ranks).all()


def test_chance_is_the_recall_of_random_scores() -> None:
    rng = np.random.default_rng(0)
    relevant = np.repeat(np.eye(6, dtype=np.bool_), [1, 1, 1, 2, 3, 4], axis=1)
    draws = [rank(rng.random(relevant.shape), relevant) for _ in range(400)]
    for direction in range(2):
        for cutoff in (1, 5):
            mean = 100 * np.mean([draw[direction].ranks <= cutoff for draw in draws])
            # Six queries at least, 400 draws: one standard error is at most 1.
            assert mean == pytest.approx(draws[0][direction].recall(cutoff).chance, abs=3)
    assert draws[0].text_to_image.recall(6).chance == 100


def test_directions_may_have_scores_of_their_own() -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = rank(scores, other=-scores)
    assert found.image_to_text.ranks.tolist() == [1, 1]
    assert found.text_to_image.ranks.tolist() == [2, 2]


def test_intervals_count_captions_of_one_picture_as_one() -> None:
    found = rank(np.diag([1.0, 1.0, -1.0, -1.0])).image_to_text.recall(1)
    alone = wilson_interval(2, 4)
    assert isinstance(alone, Interval)
    assert found.interval == (100 * alone.low, 100 * alone.high)
    # Five captions of each of 20 pictures, all five found or none of them.
    relevant = np.repeat(np.eye(20, dtype=np.bool_), 5, axis=1)
    easy = np.arange(20) % 2 == 0
    clustered = rank(np.where(easy, 2, -1)[:, None] * relevant, relevant).text_to_image
    interval, naive = clustered.recall(1).interval, wilson_interval(50, 100)
    assert not isinstance(interval, Undefined)
    assert not isinstance(naive, Undefined)
    assert interval.high - interval.low > 1.8 * 100 * (naive.high - naive.low)
    # Where all are found resampling has no doubt, and 20 pictures leave some.
    whole = rank(relevant.astype(np.float64), relevant).text_to_image.recall(1).interval
    assert whole == (pytest.approx(83.9, abs=0.1), 100)


def test_images_that_are_missed_together_are_one_group_with_their_texts() -> None:
    eye = np.eye(4, dtype=np.bool_)
    names = list("abcd"), list("efgh")
    found = rank_gallery(np.diag([1.0, 1, -1, -1]), eye, *names, clusters=["x", "x", "y", "y"])
    assert found.image_to_text.groups == found.text_to_image.groups == ("0", "0", "1", "1")
    alone = rank_gallery(np.diag([1.0, 1, -1, -1]), eye, *names)
    assert len(set(alone.text_to_image.groups)) == 4
    assert found.image_to_text.recall(1).interval == (0, 100)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_means_nothing_is_an_error_that_names_the_query(bad: float) -> None:
    scores = np.eye(3)
    scores[1, 2] = bad
    with pytest.raises(EvaluationError, match="the image 'i1' has a score of"):
        rank(scores)
    with pytest.raises(EvaluationError, match="the text 't2' has a score of"):
        rank(np.eye(3), other=scores)


def test_a_gallery_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(EvaluationError, match="nothing in the gallery belongs to the text 't2'"):
        rank(np.zeros((2, 3)))
    with pytest.raises(EvaluationError, match="nothing in the gallery belongs to the image 'i2'"):
        rank(np.zeros((3, 2)))
    with pytest.raises(EvaluationError, match="scores has"):
        rank_gallery(np.zeros((2, 3)), np.eye(2, dtype=np.bool_), ["a", "b"], ["c", "d"])
    with pytest.raises(EvaluationError, match="the text 'c' stands twice"):
        rank_gallery(np.eye(2), np.eye(2, dtype=np.bool_), ["a", "b"], ["c", "c"])
    with pytest.raises(EvaluationError, match="is empty"):
        rank_gallery(np.zeros((0, 0)), np.zeros((0, 0), np.bool_), [], [])
