"""Zero-shot classification by a diffusion model that drops classes on the way.

Scores of samples come from a callable, so that the same code runs on a network and on the samples
of an exhaustive run (`replayed`). The answer of exhaustive scoring, the mean over all pairs, is the
reference; how often a method gives another one is to be measured. P images, C classes, K pairs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int64
from scipy.special import log_softmax

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError
from genvlm.scoring.diffusion import DiffusionScorer, SampleScores
from genvlm.scoring.elimination import Eliminated
from genvlm.scoring.paired_test import surely_behind, threshold_of_confidence
from genvlm.scoring.zero_shot import check_temperature, class_texts, log_prior_of

# Samples of the images that are classified together, in memory at once.
_SAMPLES_TOGETHER = 2**22


@dataclass(frozen=True, kw_only=True)
class PublishedSchedule:
    """Of the classes that are left keep the best k after each stage (Li et al. 2023, Algorithm 2).

    Stage n takes n evenly spaced levels of the whole grid, of which those that an earlier stage
    took are not asked again: the stages' grids are not nested, so that more than n come together.
    """

    samples: tuple[int, ...]
    """Of each stage; the last one takes all pairs."""
    keep: tuple[int, ...]
    """Classes after each stage; the last is 1."""
    nested: bool = False
    """Let each stage add to the pairs of those before, up to n: fewer evaluations."""


@dataclass(frozen=True, kw_only=True)
class SequentialTest:
    """Drop a class as soon as it is surely behind the leader; stop when one class is left.

    A class goes when its mean is more than `threshold` standard errors behind, by a one-sided test
    of differences at the same pairs (`paired_test.surely_behind`).
    """

    threshold: float
    """In standard errors: of `confident_test`, or fitted by `fit_threshold`."""
    first: int = 4
    """Pairs before the first test."""
    growth: float = 1.25
    """Of the number of pairs from one test to the next."""


Method = PublishedSchedule | SequentialTest


def published_schedule(
    num_classes: int, num_samples: int, *, nested: bool = False
) -> PublishedSchedule:
    """The schedule that was published for about so many classes, scaled to so many samples.

    CIFAR-10: 50, 500; Pets (37 classes): 25, 250; sets of about 100 classes: 20, 50, 100, 500;
    ImageNet: 50, 100, 500, 1000.
    """
    shares: tuple[float, ...] = (0.1, 1)
    keep: tuple[int, ...] = (5, 1)
    if num_classes > 300:
        shares, keep = (0.05, 0.1, 0.5, 1), (500, 50, 10, 1)
    elif num_classes > 50:
        shares, keep = (0.04, 0.1, 0.2, 1), (20, 10, 5, 1)
    samples = [max(1, round(num_samples * share)) for share in shares]
    return PublishedSchedule(samples=tuple(samples), keep=keep, nested=nested)


def confident_test(confidence: float, num_classes: int, num_pairs: int) -> SequentialTest:
    """A test that gives another answer than exhaustive scoring with at most 1 - `confidence`.

    This holds even where two classes are equal, by Bonferroni's correction for all rivals and for
    all tests that are taken; with classes as they are it is wrong far less often.

    Raises:
        ConfigError: a confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"a confidence lies between 0 and 1, got {confidence:g}")
    wide = SequentialTest(threshold=0.0)
    num_comparisons = (num_classes - 1) * len(_tested_at(wide, num_pairs))
    return replace(wide, threshold=threshold_of_confidence(confidence, num_comparisons))


def replayed(samples: Float[np.ndarray, "images classes pairs"]) -> SampleScores:
    """Sample scores that are known already, such as those of an exhaustive run."""
    return lambda images, classes, pairs: samples[images, classes, pairs].astype(np.float64)


def classify_by_dropping(
    scorer: DiffusionScorer,
    images: Sequence[RGBImage],
    classes: Sequence[str],
    method: Method,
    *,
    templates: Sequence[str] = ("{}",),
    prior: Sequence[float] | None = None,
    temperature: float = 1.0,
) -> Eliminated:
    """Rank classes as `zero_shot.classify` does, asking less of those that fall behind.

    Raises:
        ConfigError: what `classify` refuses, no picture, several templates with the bound (whose
            probabilities are averaged, which no single sample can be), or an impossible method.
    """
    check_temperature(temperature)
    texts = class_texts(classes, templates)
    offsets = temperature * log_prior_of(classes, prior)
    if not images:
        raise ConfigError("no picture to classify: give at least one")
    check_templates(scorer, templates)
    at_once = max(1, _SAMPLES_TOGETHER // (len(classes) * len(scorer.pairs)))
    found = []
    for start in range(0, len(images), at_once):
        part = images[start : start + at_once]
        scores = _mean_over_templates(scorer.sample_scores(part, texts), len(templates))
        shape = (len(part), len(classes))
        found.append(
            eliminate(scores, shape, scorer.pairs.levels, method, offsets, temperature=temperature)
        )
    whole = Eliminated(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
    return whole._replace(
        evaluations=whole.evaluations * len(templates), exhaustive=whole.exhaustive * len(templates)
    )


def check_templates(scorer: DiffusionScorer, templates: Sequence[str]) -> None:
    """Raises ConfigError: several with the bound."""
    if scorer.info.unit == "bound_nats" and len(templates) > 1:
        raise ConfigError(
            "classes are dropped by the bound with one template: leave out the others"
        )


def eliminate(
    sample_scores: SampleScores,
    shape: tuple[int, int],
    levels: Int[np.ndarray, " pairs"],
    method: Method,
    offsets: Float64[np.ndarray, " classes"] | None = None,
    *,
    temperature: float = 1.0,
) -> Eliminated:
    """Score stage by stage, all images in step, so that batches stay full.

    Args:
        shape: numbers of images and classes.
        levels: of all pairs.
        offsets: added to the mean scores of classes, such as a prior.

    Raises:
        ConfigError: an impossible method.
    """
    race = _Race(sample_scores, shape, levels, np.zeros(shape[1]) if offsets is None else offsets)
    *stages, last = _stages(method, levels)
    for number, pairs in enumerate(stages):
        race.score(pairs)
        if isinstance(method, PublishedSchedule):
            race.keep_best(method.keep[number], number)
        else:
            race.drop_behind(method.threshold, number)
    race.score(last)
    return race.finish(temperature)


def fit_threshold(
    samples: Float[np.ndarray, "images classes pairs"],
    levels: Int[np.ndarray, " pairs"],
    lost: float,
    offsets: Float64[np.ndarray, " classes"] | None = None,
) -> tuple[float, int]:
    """Smallest threshold of a sequential test that changes at most a share `lost` of answers.

    It is sought in steps of an eighth from 1 to 8 standard errors, as if a larger threshold never
    changed more; it is 8 where none is large enough.

    Returns:
        The threshold, and how many of these very images it changes. On others it may be more: with
        `lost` 0 and n images, one in n + 1 is to be expected.

    Raises:
        ConfigError: no image, or a share outside [0, 1).
    """
    if not len(samples) or not 0 <= lost < 1:
        raise ConfigError(
            f"a threshold is fitted on at least one image for a lost share in [0, 1), got "
            f"{len(samples)} images and {lost:g}"
        )
    shift = 0 if offsets is None else offsets
    best = (samples.mean(2, dtype=np.float64) + shift).argmax(1)

    def changed(eighths: int) -> int:
        test = SequentialTest(threshold=eighths / 8)
        found = eliminate(replayed(samples), samples.shape[:2], levels, test, offsets)
        return int((found.ranking[:, 0] != best).sum())

    low, high = 8, 64
    while low < high:
        tried = (low + high) // 2
        if changed(tried) > math.floor(lost * len(samples)):
            low = tried + 1
        else:
            high = tried
    return high / 8, changed(high)


class _Race:
    """Scores of all samples so far, in the order in which they were asked, and who is left."""

    def __init__(
        self,
        sample_scores: SampleScores,
        shape: tuple[int, int],
        levels: Int[np.ndarray, " pairs"],
        offsets: Float64[np.ndarray, " classes"],
    ) -> None:
        self._sample_scores, self._levels, self._offsets = sample_scores, levels, offsets
        self._scores = np.zeros((*shape, len(levels)))
        self._asked = np.zeros(0, np.int64)
        self._counts = np.zeros(shape, np.int64)
        self._left_at = np.full(shape, np.iinfo(int).max)

    @property
    def _alive(self) -> Bool[np.ndarray, "images classes"]:
        return self._left_at == np.iinfo(int).max

    def score(self, pairs: Int[np.ndarray, " stage"]) -> None:
        """Ask every class that is left at these pairs; an image with one class is done."""
        alive = self._alive
        alive &= alive.sum(1, keepdims=True) > 1
        # Classes last: those of one image and pair stand together and share its x_t.
        images, places, classes = np.nonzero(np.repeat(alive[:, None], len(pairs), axis=1))
        if len(images):
            found = self._sample_scores(images, classes, pairs[places])
            self._scores[images, classes, len(self._asked) + places] = found
        self._counts += len(pairs) * alive
        self._asked = np.concatenate([self._asked, pairs])

    def keep_best(self, num: int, stage: int) -> None:
        """Drop all but the best of each image, by the mean over all their samples."""
        for image, classes, scores in self._undecided():
            order = np.argsort(-(scores.mean(1) + self._offsets[classes]), kind="stable")
            self._left_at[image, classes[order[num:]]] = stage

    def drop_behind(self, threshold: float, stage: int) -> None:
        """Drop those that are more than so many standard errors behind."""
        levels, num_pairs = self._levels[self._asked], len(self._levels)
        for image, classes, scores in self._undecided():
            offsets = self._offsets[classes]
            behind = surely_behind(scores, levels, num_pairs, threshold, offsets)
            self._left_at[image, classes[behind]] = stage

    def _undecided(
        self,
    ) -> Iterator[tuple[int, Int64[np.ndarray, " left"], Float64[np.ndarray, "left asked"]]]:
        """Images of which several classes are left, these, and their scores so far."""
        alive = self._alive
        for image in np.flatnonzero(alive.sum(1) > 1).tolist():
            classes = np.flatnonzero(alive[image])
            yield image, classes, self._scores[image, classes, : len(self._asked)]

    def finish(self, temperature: float) -> Eliminated:
        """What was found."""
        alive, scores = self._alive, self._estimates() + self._offsets
        finalists = np.where(alive, scores / temperature, -np.inf)
        return Eliminated(
            ranking=np.lexsort((-scores, -self._left_at), axis=-1),
            log_probs=log_softmax(finalists, axis=-1),
            log_likelihoods=scores - self._offsets,
            finalists=alive,
            most_left_out=np.full(len(alive), np.nan),
            evaluations=self._counts.sum(1),
            exhaustive=np.full(len(alive), self._scores[0].size),
        )

    def _estimates(self) -> Float64[np.ndarray, "images classes"]:
        """Means of all classes, as if each had been asked as often as the winner.

        What the winner scored at the pairs that it shares with a class tells how far these are from
        its own mean.
        """
        rows, last = np.arange(len(self._scores)), self._counts - 1
        sums = self._scores.cumsum(2)
        means = np.take_along_axis(sums, last[..., None], 2)[..., 0] / self._counts
        best = np.where(self._alive, means + self._offsets, -np.inf).argmax(1)
        shared = np.take_along_axis(sums[rows, best], last, 1) / self._counts
        estimates: Float64[np.ndarray, "images classes"] = (
            means[rows, best][:, None] + means - shared
        )
        return estimates


def _stages(method: Method, levels: Int[np.ndarray, " pairs"]) -> list[Int64[np.ndarray, " stage"]]:
    """Pairs that each stage adds. Raises ConfigError: an impossible method."""
    num_pairs = len(levels)
    match method:
        case PublishedSchedule(samples=samples, keep=keep, nested=nested):
            rising = list(samples) == sorted(samples) and samples[:1] > (0,)
            falling = list(keep) == sorted(keep, reverse=True) and keep[-1:] == (1,)
            if not (rising and falling and len(samples) == len(keep)):
                raise ConfigError(
                    f"a schedule takes more samples at each stage and keeps fewer classes, at last "
                    f"1; got samples {samples} and keep {keep}"
                )
            if samples[-1] != num_pairs:
                raise ConfigError(
                    f"the schedule ends with {samples[-1]} samples and the scorer has {num_pairs}: "
                    "let both be equal"
                )
            if nested:
                return np.split(np.arange(num_pairs), samples[:-1])
            return _published_stages(samples, levels)
        case SequentialTest(threshold=threshold, first=first, growth=growth):
            if not (threshold >= 0 and first >= 2 and growth > 1):
                raise ConfigError(
                    "a sequential test has a threshold of 0 or more, at least 2 pairs before its "
                    f"first test and a growth above 1; got {threshold:g}, {first} and {growth:g}"
                )
            return np.split(np.arange(num_pairs), _tested_at(method, num_pairs))
    assert_never(method)


def _tested_at(test: SequentialTest, num_pairs: int) -> list[int]:
    """Numbers of pairs after which there is a test."""
    numbers = []
    num = test.first
    while num < num_pairs:
        numbers.append(num)
        num = math.ceil(num * test.growth)
    return numbers


def _published_stages(
    samples: Sequence[int], levels: Int[np.ndarray, " pairs"]
) -> list[Int64[np.ndarray, " stage"]]:
    """The authors' choice among the pairs in the order of their levels."""
    grid = np.argsort(levels, kind="stable")
    stages, asked = [], np.zeros(len(grid), bool)
    for num in samples:
        step = len(grid) // num
        chosen = grid[step // 2 :: step][:num]
        stages.append(chosen[~asked[chosen]])
        asked[chosen] = True
    return stages


def _mean_over_templates(scores: SampleScores, num_templates: int) -> SampleScores:
    """Scores of classes, each the mean of its texts' as `class_texts` orders them."""
    if num_templates == 1:
        return scores

    def mean(
        images: Int[np.ndarray, " rows"],
        classes: Int[np.ndarray, " rows"],
        pairs: Int[np.ndarray, " rows"],
    ) -> Float64[np.ndarray, " rows"]:
        texts = classes[:, None] * num_templates + np.arange(num_templates)
        found = scores(
            np.repeat(images, num_templates), texts.ravel(), np.repeat(pairs, num_templates)
        )
        means: Float64[np.ndarray, " rows"] = found.reshape(-1, num_templates).mean(1)
        return means

    return mean
