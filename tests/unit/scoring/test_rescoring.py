"""Fast scores with exact ones where they decide."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import logsumexp

from genvlm.errors import ConfigError
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.scoring.rescoring import NearTieScorer, in_bfloat16, rescore_near_ties
from genvlm.scoring.zero_shot import classify
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained

IMAGES = [image for _, image in tiny_pairs()]


def chooser(exact: np.ndarray, asked: list) -> object:
    def exactly(chosen: Sequence[Sequence[int]]) -> list[np.ndarray]:
        asked.extend(i for row in chosen for i in row)
        return [exact[row, list(c)] for row, c in enumerate(chosen)]

    return exactly


@pytest.mark.parametrize("seed", range(20))
def test_a_margin_that_bounds_the_error_gives_the_exact_best(seed: int) -> None:
    rng = np.random.default_rng(seed)
    exact, error = rng.normal(0, 3, (5, 40)), rng.uniform(-1, 1, (5, 40))
    asked: list[int] = []
    found = rescore_near_ties(exact + error, chooser(exact, asked), margin=1.0)
    np.testing.assert_array_equal(found.scores.argmax(1), exact.argmax(1))
    assert found.exact.sum() == len(asked) < exact.size
    np.testing.assert_array_equal(found.scores[found.exact], exact[found.exact])
    # Whatever was left out could not have won.
    left = np.where(found.exact, -np.inf, exact + error + 1.0)
    assert (left.max(1) < exact.max(1)).all()


def test_a_measured_margin_is_three_times_the_largest_error_of_a_row() -> None:
    exact = np.array([[-10.0, -9.0, -9.4, -30.0, -9.1, -31.0]] * 2)
    noise = np.array([[1.6, -0.4, 0.4, 0.3, -0.2, 0.1], [0.0] * 6])
    found = rescore_near_ties(exact + noise, chooser(exact, []))
    assert found.exact.sum(1).tolist() == [4, 3]
    assert found.margin == pytest.approx([4.8, 0.0])
    assert found.scores.argmax(1).tolist() == [1, 1]


def test_a_margin_of_nothing_rescores_the_best_alone() -> None:
    exact = np.array([[-3.0, -1.0, -2.0]])
    assert rescore_near_ties(exact, chooser(exact, []), margin=0.0).exact.sum() == 1
    with pytest.raises(ConfigError, match="0 or more"):
        rescore_near_ties(exact, chooser(exact, []), margin=-1.0)


def test_rescored_bfloat16_finds_the_classes_of_float32() -> None:
    pretrained = tiny_pretrained()
    classes = [f"{c} {s}" for c in ("red", "green", "blue", "odd") for s in ("bar", "disc", "dot")]
    exact = LikelihoodScorer(pretrained, "image_given_text")
    rough = LikelihoodScorer(in_bfloat16(pretrained), "image_given_text")
    templates, prior = ["{}", "a {} here"], np.arange(1.0, 13.0)
    log_prior = np.log(prior / prior.sum())
    scorer = NearTieScorer(rough, exact, texts_per_class=2, log_prior=log_prior)
    settings = {"templates": templates, "prior": prior.tolist()}
    found = classify(scorer, IMAGES, classes, **settings)
    whole = classify(exact, IMAGES, classes, **settings)
    np.testing.assert_array_equal(found.log_probs.argmax(1), whole.log_probs.argmax(1))
    best = whole.log_probs.argmax(1)
    rows = np.arange(len(IMAGES))
    np.testing.assert_allclose(
        found.log_likelihoods[rows, best], whole.log_likelihoods[rows, best], atol=1e-4
    )
    assert 0 < scorer.num_rescored <= scorer.num_scored == 24 * len(IMAGES)


def test_the_fingerprint_tells_dtype_and_margin() -> None:
    pretrained = tiny_pretrained()
    exact = LikelihoodScorer(pretrained, "image_given_text")
    rough = LikelihoodScorer(in_bfloat16(pretrained), "image_given_text")
    infos = [exact.info, rough.info, NearTieScorer(rough, exact).info]
    infos.append(NearTieScorer(rough, exact, margin=2.0).info)
    assert len({info.fingerprint for info in infos}) == 4
    assert infos[2].settings["rough_dtype"] == "torch.bfloat16"
    assert infos[2].settings["dtype"] == "torch.float32"


def test_a_class_counts_by_all_its_templates() -> None:
    """The best text is of class b, the best class is a: both templates of a must be rescored."""
    exact_values = np.array([[-2.0, -2.0, -1.7, -9.0, -8.0, -8.0]])

    class Table:
        info = ScorerInfo(name="table", unit="nats")

        def __init__(self, noise: float) -> None:
            self.noise = noise

        def score(self, grids: Sequence[Grid]) -> list[Scores]:
            places = [["a1", "a2", "b1", "b2", "c1", "c2"].index(t) for t in grids[0].texts]
            return [Scores(exact_values[:, places] + self.noise) for _ in grids]

    scorer = NearTieScorer(Table(-0.05), Table(0.0), margin=0.1, texts_per_class=2)
    grid = Grid(item_id="x", images=IMAGES[:1], texts=["a1", "a2", "b1", "b2", "c1", "c2"])
    (scores,) = scorer.score([grid])
    assert scores.values[0, :2].tolist() == [-2.0, -2.0]
    by_class = logsumexp(scores.values.reshape(1, 3, 2), axis=-1)
    assert by_class.argmax() == 0
    assert scorer.num_rescored == 2


def test_scores_in_other_units_are_refused() -> None:
    class Cosine:
        info = ScorerInfo(name="cosine", unit="cosine")

        def score(self, grids: Sequence[Grid]) -> list[Scores]:
            return []

    with pytest.raises(ConfigError, match="in nats"):
        NearTieScorer(Cosine(), Cosine())
