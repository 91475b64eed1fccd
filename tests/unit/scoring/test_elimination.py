"""Every way to drop classes, beside exhaustive scoring."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from genvlm.errors import ConfigError
from genvlm.models.build import build_transformer
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring import elimination
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.elimination import (
    Bound,
    Eliminated,
    Halving,
    Method,
    Race,
    classify_by_elimination,
    partial_scores,
    threshold_for,
)
from genvlm.scoring.zero_shot import Posterior, classify
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained, tiny_transformer_config

IMAGES = [image for _, image in tiny_pairs()]
CLASSES = [f"{colour} {shape}" for colour in ("red", "blue", "pale") for shape in ("bar", "disc")]
PRIOR = [1.0, 5.0, 2.0, 1.0, 0.1, 3.0]
TEMPLATES = ["{}", "a {} on a page"]


def pretrained(seed: int, std: float = 0.5) -> PretrainedModel:
    """Large weights: classes differ by nats, so that some can be dropped."""
    whole = tiny_pretrained(dtype=torch.float64)
    config = tiny_transformer_config(initializer_std=std)
    model = build_transformer(config, whole.vocabulary.size, seed=seed).double().eval()
    return replace(whole, model=model.requires_grad_(False))


def exhaustive(p: PretrainedModel, **settings: object) -> Posterior:
    return classify(LikelihoodScorer(p, "image_given_text"), IMAGES, CLASSES, **settings)


def eliminated(p: PretrainedModel, method: Method, **settings: object) -> Eliminated:
    return classify_by_elimination(p, IMAGES, CLASSES, method, **settings)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("parts", [1, 2, 5, 16, 40])
def test_the_bound_gives_the_best_class_of_exhaustive_scoring(seed: int, parts: int) -> None:
    p, settings = pretrained(seed), {"templates": TEMPLATES, "prior": PRIOR, "temperature": 0.7}
    whole, found = exhaustive(p, **settings), eliminated(p, Bound(parts), **settings)
    np.testing.assert_array_equal(found.ranking[:, 0], whole.log_probs.argmax(1))
    assert found.spent <= 1


def test_the_bound_drops_classes_where_they_differ_enough() -> None:
    found = eliminated(pretrained(0, std=2.0), Bound(16))
    assert found.spent < 0.95
    assert not found.finalists.all()


@pytest.mark.parametrize("method", [Bound(4), Race(1.0), Race(0.0, 3), Halving(3)], ids=str)
def test_scores_of_finalists_are_those_of_exhaustive_scoring(method: Method) -> None:
    p = pretrained(1)
    whole, found = exhaustive(p, templates=TEMPLATES), eliminated(p, method, templates=TEMPLATES)
    kept = found.finalists
    np.testing.assert_allclose(
        found.log_likelihoods[kept], whole.log_likelihoods[kept], atol=1e-9, rtol=0
    )
    # What was scored of a dropped class bounds it from above.
    assert (found.log_likelihoods >= whole.log_likelihoods - 1e-9).all()
    assert sorted(found.ranking[0]) == list(range(len(CLASSES)))
    for row, ranking, scores in zip(kept, found.ranking, whole.log_likelihoods, strict=True):
        finalists = np.flatnonzero(row)
        assert list(ranking[: len(finalists)]) == list(finalists[np.argsort(-scores[finalists])])


@pytest.mark.parametrize("method", [Bound(8), Race(0.5), Halving(4)], ids=str)
def test_the_posterior_of_finalists_is_bounded_on_both_sides(method: Method) -> None:
    p = pretrained(2, std=1.0)
    settings = {"prior": PRIOR, "temperature": 2.0}
    whole, found = exhaustive(p, **settings), eliminated(p, method, **settings)
    kept = found.finalists
    np.testing.assert_allclose(logsumexp(found.log_probs, axis=1), 0, atol=1e-9)
    assert (found.log_probs[kept] >= whole.log_probs[kept] - 1e-9).all()
    dropped = np.where(kept, 0, np.exp(whole.log_probs)).sum(1)
    assert (dropped <= found.most_left_out + 1e-9).all()
    low = np.exp(found.log_probs) * (1 - found.most_left_out)[:, None]
    assert (low[kept] <= np.exp(whole.log_probs)[kept] + 1e-9).all()


def test_one_part_or_a_wide_race_drops_nothing_and_is_exhaustive() -> None:
    p = pretrained(0)
    whole = exhaustive(p, prior=PRIOR)
    for method in (Bound(1), Race(np.inf), Halving(1)):
        found = eliminated(p, method, prior=PRIOR)
        np.testing.assert_allclose(found.log_probs, whole.log_probs, atol=1e-9)
        assert found.spent == 1
        assert (found.most_left_out == 0).all()


@pytest.mark.parametrize(
    ("parts", "per_image"),
    [
        (1, 6 * 16),
        (2, 6 * 8 + 3 * 8),
        (4, 6 * 4 + 3 * 4 + 2 * 4 + 1 * 4),
        (3, 6 * 5 + 3 * 6 + 2 * 5),
    ],
)
def test_halving_counts_the_positions_that_it_scores(parts: int, per_image: int) -> None:
    found = eliminated(pretrained(0), Halving(parts))
    np.testing.assert_array_equal(found.evaluations, per_image)
    np.testing.assert_array_equal(found.exhaustive, 6 * 16)
    both = eliminated(pretrained(0), Halving(parts), templates=TEMPLATES)
    np.testing.assert_array_equal(both.evaluations, 2 * per_image)


@pytest.mark.parametrize("method", [Bound(5), Race(1.0, 5), Halving(5)], ids=str)
def test_counted_positions_are_those_that_the_model_was_asked_for(method: Method) -> None:
    p, scored = pretrained(3, std=1.0), []
    p.model.head.register_forward_hook(lambda _, inputs, __: scored.append(len(inputs[0])))
    found = eliminated(p, method, templates=TEMPLATES)
    assert found.evaluations.sum() == sum(scored)


@pytest.mark.parametrize("method", [Bound(5), Race(1.0, 5), Halving(5)], ids=str)
def test_no_image_depends_on_those_beside_it(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = pretrained(4, std=1.0)
    together = eliminated(p, method)
    monkeypatch.setattr(elimination, "_CACHED_CODES", 1)
    alone = eliminated(p, method)
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)


def test_a_fitted_race_keeps_the_best_class_of_what_it_was_fitted_on() -> None:
    p, settings = pretrained(5), {"templates": TEMPLATES, "prior": PRIOR, "temperature": 0.5}
    partial = partial_scores(p, IMAGES, CLASSES, parts=6, **settings)
    best = exhaustive(p, **settings).log_probs.argmax(1)
    np.testing.assert_array_equal(partial[:, :, -1].argmax(1), best)
    for lost in (0.0, 0.1, 0.5):
        threshold, num_lost = threshold_for(partial, lost)
        found = eliminated(p, Race(threshold, 6), **settings)
        assert int((found.ranking[:, 0] != best).sum()) == num_lost <= lost * len(IMAGES)
    tight = threshold_for(partial, 0.0)[0] - 2 * elimination._SLACK
    assert (eliminated(p, Race(tight, 6), **settings).ranking[:, 0] != best).any()


def test_impossible_methods_are_refused() -> None:
    p = pretrained(0)
    for method, said in (
        (Halving(0), "at least 1 part"),
        (Race(-1.0), "0 nats or more"),
        (Race(np.nan), "0 nats or more"),
    ):
        with pytest.raises(ConfigError, match=said):
            eliminated(p, method)
    with pytest.raises(ConfigError, match="given twice: 'cat'"):
        classify_by_elimination(p, IMAGES, ["cat", "cat"], Bound())
    with pytest.raises(ConfigError, match="no picture"):
        classify_by_elimination(p, [], CLASSES, Bound())
    with pytest.raises(ConfigError, match="at least one image"):
        threshold_for(np.zeros((0, 2, 2)), 0.0)
