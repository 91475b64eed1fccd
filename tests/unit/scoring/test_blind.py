import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from genvlm.errors import EvaluationError
from genvlm.scoring.autoregressive import CodeCache, Likelihood, LikelihoodScorer
from genvlm.scoring.blind import BlindScorer, UnrelatedImagesScorer, blind_control
from genvlm.scoring.controls import ConstantScorer
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.testing.tiny import tiny_pretrained

TEXTS = ["a red square", "blue", "a green corner on a white page"]


@pytest.fixture(scope="module")
def grids() -> list[Grid]:
    noise = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    return [
        Grid(item_id="0", images=list(noise[:2]), texts=TEXTS[:2]),
        Grid(item_id="1", images=list(noise[2:3]), texts=TEXTS),
        Grid(item_id="2", images=list(noise[3:]), texts=TEXTS),
    ]


def test_a_model_that_learned_it_scores_the_text_alone(grids: list[Grid]) -> None:
    toy = tiny_pretrained(resolution=8, dtype=torch.float64)
    blind = blind_control(LikelihoodScorer(toy, "text_given_image"), [])
    first, second, third = (s.values for s in blind.score(grids))
    np.testing.assert_array_equal(first[0], first[1])
    alone = Likelihood(toy).score_text_given_image([(None, text) for text in TEXTS])
    np.testing.assert_allclose(second[0], [s.total for s in alone], rtol=1e-9)
    np.testing.assert_array_equal(second, third)
    mean = blind_control(LikelihoodScorer(toy, "text_given_image", reduction="mean"), [])
    expected = [s.total / len(s.log_probs) for s in alone]
    np.testing.assert_allclose(mean.score(grids)[1].values[0], expected, rtol=1e-9)
    assert mean.info.fingerprint != blind.info.fingerprint


def test_a_model_that_never_learned_it_averages_over_other_images(grids: list[Grid]) -> None:
    never = tiny_pretrained(resolution=8, dtype=torch.float64, condition_dropout=0.0)
    pool = [grid.images[0] for grid in grids]
    blind = blind_control(LikelihoodScorer(never, "text_given_image"), pool)
    assert not isinstance(blind, BlindScorer)
    assert "over 8 other images" in blind.info.name
    scores = blind.score(grids)[0].values
    others = CodeCache(never).encode([grids[1].images[0], grids[2].images[0]])
    by_image = [
        [s.total for s in Likelihood(never).score_text_given_image([(c, t) for t in TEXTS[:2]])]
        for c in others
    ]
    np.testing.assert_allclose(scores[0], logsumexp(by_image, axis=0) - np.log(2), rtol=1e-9)
    np.testing.assert_array_equal(scores[0], scores[1])
    # Whatever is scored beside it.
    np.testing.assert_allclose(blind.score(grids[:1])[0].values, scores, rtol=1e-9)
    lonely = UnrelatedImagesScorer(LikelihoodScorer(never, "text_given_image"), pool[:1])
    with pytest.raises(EvaluationError, match=r"item '0'.*was given none"):
        lonely.score(grids[:1])


def test_there_is_no_blind_control_where_the_pool_may_be_one_grid(grids: list[Grid]) -> None:
    first, second, third = (grid.images[0] for grid in grids)
    assert blind_control(ConstantScorer(), []) is None
    assert blind_control(ConstantScorer(), [first, first]) is None
    assert blind_control(ConstantScorer(), [first, second]) is not None
    assert blind_control(ConstantScorer(), [first, second], images_per_grid=2) is None
    assert blind_control(ConstantScorer(), [first, second, third], images_per_grid=2) is not None
    toy = tiny_pretrained(resolution=8)
    assert isinstance(blind_control(LikelihoodScorer(toy, "text_given_image"), []), BlindScorer)


class BrightScorer:
    """Mean brightness of the picture: cosine-like, no log-probability."""

    info = ScorerInfo(name="bright", unit="cosine")

    def __init__(self) -> None:
        self.num_scored = 0

    def score(self, grids: list[Grid]) -> list[Scores]:
        self.num_scored += sum(len(g.images) * len(g.texts) for g in grids)
        return [
            Scores(np.array([[float(image.mean())] * len(g.texts) for image in g.images]))
            for g in grids
        ]


def test_what_is_no_log_probability_is_averaged_as_it_is(grids: list[Grid]) -> None:
    pool = [grid.images[0] for grid in grids]
    blind = blind_control(BrightScorer(), pool)
    expected = np.mean([grids[1].images[0].mean(), grids[2].images[0].mean()])
    assert blind.score(grids)[0].values == pytest.approx(np.full((2, 2), expected))
    assert blind.info.unit == "cosine"
    assert blind.info.fingerprint != blind_control(ConstantScorer(), pool).info.fingerprint


def test_a_text_is_scored_once_with_each_other_picture(grids: list[Grid]) -> None:
    """Classes are the texts of every item: scored anew for each, they would cost 8 times more."""
    pool, scorer = [grid.images[0] for grid in grids], BrightScorer()
    blind = blind_control(scorer, pool)
    together = blind.score(grids)
    assert scorer.num_scored == 3 * len(TEXTS)
    again = blind.score(grids[1:])
    assert scorer.num_scored == 3 * len(TEXTS)
    for a, b in zip(together[1:], again, strict=True):
        np.testing.assert_array_equal(a.values, b.values)
