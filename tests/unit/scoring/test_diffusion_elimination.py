"""Classes dropped on the way: the published schedule's counts, and our sequential test."""

import numpy as np
import pytest

from genvlm.errors import ConfigError
from genvlm.scoring.diffusion import DiffusionScorer
from genvlm.scoring.diffusion_elimination import (
    Method,
    PublishedSchedule,
    SequentialTest,
    classify_by_dropping,
    confident_test,
    eliminate,
    fit_threshold,
    published_schedule,
    replayed,
)
from genvlm.scoring.noise_pairs import even_levels, nested_levels
from genvlm.scoring.zero_shot import classify
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_diffusion import tiny_diffusion

PUBLISHED = {
    "CIFAR-10": (10, (50, 500), (5, 1), 2750, 2750, 5000),
    "Pets": (37, (25, 250), (5, 1), 2050, 2050, 9250),
    "100 classes": (100, (20, 50, 100, 500), (20, 10, 5, 1), 5550, 5100, 50_000),
    "ImageNet": (1000, (50, 100, 500, 1000), (500, 50, 10, 1), 124_500, 100_000, 1_000_000),
}
IMAGES = [image for _, image in tiny_pairs()][:3]
CLASSES = ["red bar", "blue bar", "green disc", "pale square"]


def synthetic_samples(num_images: int, num_classes: int, num_pairs: int, seed: int) -> np.ndarray:
    """Scores as of a network: noise that all classes share, and less that they do not.

    Both depend on the level; the best two classes of an image are near each other at times.
    """
    rng = np.random.default_rng(seed)
    level = nested_levels(num_pairs, 1000, seed) / 1000
    shape = np.sin(np.pi * level) ** 2  # at which levels the text matters
    gaps = 0.5 * np.exp(rng.normal(size=(num_images, num_classes, 1)))
    gaps[np.arange(num_images), rng.integers(num_classes, size=num_images)] = 0
    shared = rng.normal(size=(num_images, 1, num_pairs)) * 3
    own = rng.normal(size=(num_images, num_classes, num_pairs))
    return -(1 + 10 * level + shared + (gaps + 0.1 * own) * shape)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_schedule_has_the_published_counts(name: str) -> None:
    num_classes, samples, keep, as_published, nested, exhaustive = PUBLISHED[name]
    schedule = PublishedSchedule(samples=samples, keep=keep)
    assert published_schedule(num_classes, samples[-1]) == schedule
    levels = even_levels(samples[-1], 1000)
    values = np.random.default_rng(0).normal(size=(2, num_classes, samples[-1])).astype(np.float32)
    for method, expected in (
        (schedule, as_published),
        (PublishedSchedule(samples=samples, keep=keep, nested=True), nested),
    ):
        found = eliminate(replayed(values), (2, num_classes), levels, method)
        np.testing.assert_array_equal(found.evaluations, expected)
        np.testing.assert_array_equal(found.exhaustive, exhaustive)


def authors_choice(
    errors: np.ndarray, samples: tuple[int, ...], keep: tuple[int, ...]
) -> tuple[int, set[tuple[int, int]]]:
    """The loop of the authors' eval_prob_adaptive on errors [classes, 1000 levels]."""
    num_levels, most = 1000, max(samples)
    start = num_levels // most // 2
    t_to_eval = list(range(start, num_levels, num_levels // most))[:most]
    evaluated: set[int] = set()
    remaining, asked = list(range(len(errors))), set()
    for num, num_kept in zip(samples, keep, strict=True):
        current = t_to_eval[len(t_to_eval) // num // 2 :: len(t_to_eval) // num][:num]
        current = [t for t in current if t not in evaluated]
        evaluated.update(current)
        asked |= {(c, t) for c in remaining for t in current}
        means = [errors[c, sorted(evaluated)].mean() for c in remaining]
        remaining = [remaining[i] for i in np.argsort(means, kind="stable")[:num_kept]]
    return remaining[0], asked


@pytest.mark.parametrize("seed", range(5))
def test_the_published_schedule_asks_and_answers_as_the_authors_code(seed: int) -> None:
    errors = np.random.default_rng(seed).normal(size=(100, 1000)) + np.arange(100)[:, None] / 100
    samples, keep = (20, 50, 100, 500), (20, 10, 5, 1)
    levels, asked = even_levels(500, 1000), set()

    def score(images: np.ndarray, classes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        asked.update(zip(classes.tolist(), levels[pairs].tolist(), strict=True))
        return -errors[classes, levels[pairs]]

    schedule = PublishedSchedule(samples=samples, keep=keep)
    found = eliminate(score, (1, 100), levels, schedule)
    answer, by_authors = authors_choice(errors, samples, keep)
    assert found.ranking[0, 0] == answer
    assert asked == by_authors


METHODS = [
    published_schedule(12, 60),
    published_schedule(12, 60, nested=True),
    PublishedSchedule(samples=(3, 9, 30, 60), keep=(6, 4, 2, 1)),
    SequentialTest(threshold=2.0),
    SequentialTest(threshold=0.0, first=2, growth=3.0),
]


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_nothing_is_asked_twice_and_everything_is_counted(method: Method) -> None:
    samples = synthetic_samples(5, 12, 60, seed=0)
    counts = np.zeros(samples.shape, int)

    def score(images: np.ndarray, classes: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        np.add.at(counts, (images, classes, pairs), 1)
        return samples[images, classes, pairs]

    found = eliminate(score, (5, 12), nested_levels(60, 1000, 0), method)
    assert counts.max() == 1
    np.testing.assert_array_equal(found.evaluations, counts.sum((1, 2)))
    assert (found.evaluations < found.exhaustive).all()
    # Classes in order of when they left: those that stayed were asked most.
    by_rank = np.take_along_axis(counts.sum(2), found.ranking, 1)
    assert (np.diff(by_rank) <= 0).all()
    np.testing.assert_allclose(np.exp(found.log_probs).sum(1), 1)
    # No image depends on those beside it.
    alone = eliminate(replayed(samples[2:3]), (1, 12), nested_levels(60, 1000, 0), method)
    for a, b in zip(found, alone, strict=True):
        np.testing.assert_allclose(a[2:3], b)


def test_a_class_that_left_is_estimated_by_what_it_shares_with_the_winner() -> None:
    """Plain means of the first few pairs would be those of other noises."""
    samples = synthetic_samples(40, 12, 256, seed=1)
    levels = nested_levels(256, 1000, 1)
    found = eliminate(replayed(samples), (40, 12), levels, SequentialTest(threshold=1.5))
    left = ~found.finalists
    errors = (found.log_likelihoods - samples.mean(2))[left]
    few = np.abs(samples[:, :, :8].mean(2) - samples.mean(2))[left]
    assert found.spent < 0.5
    # An image whose leader won early is known as little as its noises; within one it is better.
    within = found.log_likelihoods - found.log_likelihoods.max(1, keepdims=True)
    exact = samples.mean(2) - samples.mean(2).max(1, keepdims=True)
    assert np.abs(within - exact)[left].mean() < 0.3 * few.mean()
    assert np.isfinite(errors).all()


def test_an_impossibly_wide_test_is_exhaustive() -> None:
    samples = synthetic_samples(6, 5, 32, seed=2)
    offsets = np.log([0.1, 0.2, 0.3, 0.3, 0.1])
    found = eliminate(
        replayed(samples), (6, 5), nested_levels(32, 1000, 2), SequentialTest(threshold=np.inf),
        offsets, temperature=0.5,
    )  # fmt: skip
    assert found.spent == 1
    np.testing.assert_allclose(found.log_likelihoods, samples.mean(2))
    expected = np.argsort(-(samples.mean(2) + offsets), axis=1, kind="stable")
    np.testing.assert_array_equal(found.ranking, expected)


def test_the_sequential_test_agrees_and_saves() -> None:
    """Equal answers for 99 %, with at least 1.5 times fewer evaluations than the schedule."""
    samples = synthetic_samples(200, 60, 128, seed=3)
    levels = nested_levels(128, 1000, 3)
    threshold, flips = fit_threshold(samples[:100], levels, 0.0)
    assert flips == 0
    others = samples[100:]
    best = others.mean(2).argmax(1)
    published = eliminate(replayed(others), (100, 60), levels, published_schedule(60, 128))
    ours = eliminate(replayed(others), (100, 60), levels, SequentialTest(threshold=threshold))
    assert (ours.ranking[:, 0] == best).mean() >= 0.99
    assert published.evaluations.sum() >= 1.5 * ours.evaluations.sum()
    sure = confident_test(0.99, 60, 128)
    found = eliminate(replayed(others), (100, 60), levels, sure)
    assert (found.ranking[:, 0] == best).all()
    assert ours.spent < found.spent < 0.5


def test_a_fitted_threshold_is_the_smallest_that_loses_no_more() -> None:
    samples = 0.5 * np.random.default_rng(4).normal(size=(60, 20, 64))
    samples[:, 0] += 0.3  # rarely far ahead
    levels = nested_levels(64, 1000, 4)
    best = samples.mean(2).argmax(1)
    thresholds = []
    for lost in (0.0, 0.05, 0.1):
        threshold, flips = fit_threshold(samples, levels, lost)
        for shift, kept in ((0, True), (-0.125, False)):
            test = SequentialTest(threshold=threshold + shift)
            found = eliminate(replayed(samples), samples.shape[:2], levels, test)
            changed = (found.ranking[:, 0] != best).sum()
            assert (changed <= lost * 60) == kept
            assert shift or changed == flips
        thresholds.append(threshold)
    assert thresholds[0] > thresholds[1] > thresholds[2] > 1
    # Never below 1 standard error, however easy the pictures were.
    easy = np.tile(np.arange(20.0)[:, None], (3, 1, 64))
    assert fit_threshold(easy, levels, 0.0) == (1.0, 0)


def test_a_stated_confidence_is_kept_where_two_classes_are_equal() -> None:
    """Noise alone, so that every early answer is a guess, and there are many tests."""
    rng = np.random.default_rng(5)
    samples, levels = rng.normal(size=(1000, 2, 128)), nested_levels(128, 1000, 5)
    wrong = []
    for confidence in (0.8, 0.9, 0.99):
        test = confident_test(confidence, 2, 128)
        found = eliminate(replayed(samples), (1000, 2), levels, test)
        wrong.append((found.ranking[:, 0] != samples.mean(2).argmax(1)).mean())
        assert wrong[-1] <= 1 - confidence
    assert wrong[0] > wrong[1]


def test_exhaustive_scoring_and_elimination_stand_on_the_same_samples() -> None:
    scorer = DiffusionScorer(tiny_diffusion(), num_samples=20)
    settings = {"templates": ["{}", "a {}"], "prior": [1, 2, 3, 4], "temperature": 1e-3}
    whole = classify(scorer, IMAGES, CLASSES, **settings)
    wide = SequentialTest(threshold=np.inf)
    found = classify_by_dropping(scorer, IMAGES, CLASSES, wide, **settings)
    np.testing.assert_allclose(found.log_probs, whole.log_probs, atol=1e-4)
    np.testing.assert_allclose(found.log_likelihoods, whole.log_likelihoods, atol=1e-7)
    np.testing.assert_array_equal(found.evaluations, 20 * 4 * 2)
    assert found.spent == 1
    found = classify_by_dropping(scorer, IMAGES, CLASSES, published_schedule(4, 20), **settings)
    best = whole.log_likelihoods[np.arange(3), found.ranking[:, 0]]
    of_best = found.log_likelihoods[np.arange(3), found.ranking[:, 0]]
    np.testing.assert_allclose(of_best, best, atol=1e-7)


def test_impossible_methods_are_refused() -> None:
    scorer = DiffusionScorer(tiny_diffusion(), "elbo", num_samples=8)
    for method, said in (
        (PublishedSchedule(samples=(8, 4), keep=(2, 1)), "more samples at each stage"),
        (PublishedSchedule(samples=(4, 8), keep=(1, 2)), "keeps fewer classes"),
        (PublishedSchedule(samples=(), keep=()), "keeps fewer classes"),
        (
            PublishedSchedule(samples=(4, 9), keep=(2, 1)),
            "ends with 9 samples and the scorer has 8",
        ),
        (SequentialTest(threshold=-1.0), "threshold of 0 or more"),
        (SequentialTest(threshold=np.nan), "threshold of 0 or more"),
        (SequentialTest(threshold=1.0, first=1), "at least 2 pairs"),
        (SequentialTest(threshold=1.0, growth=1.0), "growth above 1"),
    ):
        with pytest.raises(ConfigError, match=said):
            classify_by_dropping(scorer, IMAGES, CLASSES, method)
    test = SequentialTest(threshold=1.0)
    with pytest.raises(ConfigError, match="with one template"):
        classify_by_dropping(scorer, IMAGES, CLASSES, test, templates=["{}", "a {}"])
    with pytest.raises(ConfigError, match="no picture"):
        classify_by_dropping(scorer, [], CLASSES, test)
    with pytest.raises(ConfigError, match="given twice"):
        classify_by_dropping(scorer, IMAGES, ["cat", "cat"], test)
    with pytest.raises(ConfigError, match="at least one image"):
        fit_threshold(np.zeros((0, 2, 2)), np.arange(2), 0.0)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        confident_test(1.0, 2, 8)
