import numpy as np
import pytest

from genvlm.errors import ConfigError
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.scoring.zero_shot import classify
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained

IMAGES = [image for _, image in tiny_pairs(8)][:2]
LIKELIHOODS = {"a cat": 0.2, "a dog": 0.1, "the cat": 0.4, "the dog": 0.05, "cat": 0.6, "dog": 0.3}


class TableScorer:
    """log of a table of probabilities, a hundredth of it for the second image."""

    info = ScorerInfo(name="table", unit="nats")

    def score(self, grids: list[Grid]) -> list[Scores]:
        return [
            Scores(
                np.log([[LIKELIHOODS[t] for t in g.texts]])
                - (IMAGES[1] is g.images[0]) * np.log(100)
            )
            for g in grids
        ]


def test_a_uniform_prior_normalises_the_likelihoods() -> None:
    posterior = classify(TableScorer(), IMAGES, ["cat", "dog"])
    np.testing.assert_allclose(np.exp(posterior.log_probs), [[2 / 3, 1 / 3]] * 2, rtol=1e-12)
    np.testing.assert_allclose(np.exp(posterior.log_likelihoods), [[0.6, 0.3], [0.006, 0.003]])


def test_a_prior_multiplies_and_need_not_sum_to_one() -> None:
    posterior = classify(TableScorer(), IMAGES[:1], ["cat", "dog"], prior=[1, 6])
    np.testing.assert_allclose(np.exp(posterior.log_probs), [[0.25, 0.75]], rtol=1e-12)


def test_templates_are_averaged_as_probabilities() -> None:
    posterior = classify(TableScorer(), IMAGES[:1], ["cat", "dog"], templates=["a {}", "the {}"])
    np.testing.assert_allclose(np.exp(posterior.log_likelihoods), [[0.3, 0.075]], rtol=1e-12)
    np.testing.assert_allclose(np.exp(posterior.log_probs), [[0.8, 0.2]], rtol=1e-12)


def test_very_unlikely_classes_do_not_underflow() -> None:
    class Far(TableScorer):
        def score(self, grids: list[Grid]) -> list[Scores]:
            return [Scores(s.values - 5000) for s in super().score(grids)]

    posterior = classify(Far(), IMAGES[:1], ["cat", "dog"], templates=["a {}", "the {}"])
    np.testing.assert_allclose(np.exp(posterior.log_probs), [[0.8, 0.2]], rtol=1e-9)


@pytest.mark.parametrize("template", ["a cat", "{} or {}"])
def test_a_template_without_one_place_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match=r"must hold \{\} once"):
        classify(TableScorer(), IMAGES, ["cat"], templates=[template])


def test_a_class_given_twice_is_named() -> None:
    with pytest.raises(ConfigError, match="given twice: 'cat', 'dog'"):
        classify(TableScorer(), IMAGES, ["dog", "cat", "dog", "bird", "cat"])


def test_a_temperature_divides_the_likelihoods_and_not_the_prior() -> None:
    posterior = classify(TableScorer(), IMAGES[:1], ["cat", "dog"], prior=[1, 3], temperature=0.5)
    np.testing.assert_allclose(
        np.exp(posterior.log_probs), [[0.36 / 0.63, 0.27 / 0.63]], rtol=1e-12
    )
    np.testing.assert_allclose(np.exp(posterior.log_likelihoods), [[0.6, 0.3]], rtol=1e-12)
    for temperature in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ConfigError, match="must be positive"):
            classify(TableScorer(), IMAGES[:1], ["cat", "dog"], temperature=temperature)


def test_no_picture_gives_an_empty_posterior() -> None:
    assert classify(TableScorer(), [], ["cat", "dog"]).log_probs.shape == (0, 2)


@pytest.mark.parametrize("prior", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, np.nan]])
def test_a_prior_that_is_none_is_refused(prior: list[float]) -> None:
    with pytest.raises(ConfigError, match="the prior must hold 2 positive numbers"):
        classify(TableScorer(), IMAGES, ["cat", "dog"], prior=prior)


def test_alpha_cannot_change_the_posterior_of_image_given_text() -> None:
    pretrained = tiny_pretrained(resolution=8, codebook_size=3)
    classes = ["red square", "blue bar", "green corner"]
    plain, debiased = (
        classify(LikelihoodScorer(pretrained, "image_given_text", alpha=a), IMAGES, classes)
        for a in (0.0, 1.0)
    )
    np.testing.assert_allclose(plain.log_probs, debiased.log_probs, atol=1e-6)
    np.testing.assert_allclose(np.exp(plain.log_probs).sum(-1), 1, rtol=1e-12)
