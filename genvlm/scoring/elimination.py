"""Zero-shot classification by log p(image | class) that drops classes on the way.

The codes of a picture are scored from left to right. Log-probabilities are at most 0, so that a
partial sum is an upper bound of the whole one. Every method here is an option: exhaustive scoring
(`zero_shot.classify`) is the reference, and only `Bound` always agrees with it.
P images, C classes, T templates.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, assert_never

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.special import expit, log_softmax, logsumexp

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import CodeCache, Codes, Normalization
from genvlm.scoring.image_scan import ImageScan
from genvlm.scoring.zero_shot import (
    check_temperature,
    class_texts,
    log_prior_of,
    mean_over_templates,
)

# Codes whose keys and values are kept at once, one image at least. More were not faster.
_CACHED_CODES = 2**13
# Nats added to a fitted threshold: in other batches float32 sums differ in their last digits, and
# the image that decided the threshold must not be lost to that.
_SLACK = 0.01


@dataclass(frozen=True)
class Bound:
    """Drop a class whose partial sum is below a total: its own total can only be lower still.

    The leader after the first part is scored to the end at once. The best class is that of
    exhaustive scoring; two classes nearer than the rounding of float32 may change places.
    """

    parts: int = 8
    """Runs into which the codes are cut; classes are dropped between two runs."""


@dataclass(frozen=True)
class Race:
    """Drop a class whose partial sum is more than `threshold` nats behind the leader's.

    The best class may be lost: fit the threshold, then measure how often, on other pictures.
    """

    threshold: float
    parts: int = 8
    """Runs into which the codes are cut."""


@dataclass(frozen=True)
class Halving:
    """Cut the codes into `parts` runs; after each but the last keep the better half of the classes.

    The best class may be lost: measure how often.
    """

    parts: int = 4


Method = Bound | Race | Halving


class Eliminated(NamedTuple):
    """What is known of each class of each image when classes were dropped on the way."""

    ranking: Int[np.ndarray, "images classes"]
    """Class numbers, best first: finalists by score, then dropped ones, the last dropped first."""
    log_probs: Float64[np.ndarray, "images classes"]
    """log p(class | image, the class is a finalist), -inf where dropped: never smaller than the
    posterior over all classes, and larger by the mass of those that were dropped."""
    log_likelihoods: Float64[np.ndarray, "images classes"]
    """log p(image | class) in nats; of a dropped class an upper bound, that of its codes so far.
    Of a diffusion model, scores in the scorer's unit; of a dropped class an estimate."""
    finalists: Bool[np.ndarray, "images classes"]
    """Classes that were never dropped."""
    most_left_out: Float64[np.ndarray, " images"]
    """An upper bound of the posterior probability of all dropped classes together; it holds for
    every method, and may be near 1. Of a diffusion model there is none: NaN."""
    evaluations: Int[np.ndarray, " images"]
    """Code positions scored, over classes and templates; tokens of texts are not counted. Of a
    diffusion model, passes of its network."""
    exhaustive: Int[np.ndarray, " images"]
    """Those of scoring every class to the end."""

    @property
    def spent(self) -> float:
        """Evaluations over those of exhaustive scoring, all images together."""
        return float(self.evaluations.sum() / max(1, self.exhaustive.sum()))


def classify_by_elimination(
    pretrained: PretrainedModel,
    images: Sequence[RGBImage],
    classes: Sequence[str],
    method: Method,
    *,
    templates: Sequence[str] = ("{}",),
    prior: Sequence[float] | None = None,
    temperature: float = 1.0,
    normalization: Normalization = "grammar",
) -> Eliminated:
    """Rank classes as `zero_shot.classify` does, spending less on those that fall behind.

    Scores are compared with the prior added. Keys and values of all classes that are still in the
    race are kept: memory grows with their number, at least those of one image.

    Raises:
        ConfigError: what `classify` refuses, fewer than 1 part, or a negative threshold.
    """
    _check_method(method)
    check_temperature(temperature)
    texts = class_texts(classes, templates)
    # Ranks as log-likelihood / temperature + log prior does, but stays in nats of likelihood.
    offsets = temperature * log_prior_of(classes, prior)
    if not images:
        raise ConfigError("no picture to classify: give at least one")
    results: dict[int, Eliminated] = {}
    for part, scan, rows in _scans(pretrained, images, texts, normalization):
        race = _Run(scan, rows, len(part), len(classes), offsets)
        found = race.run(method).finish(temperature)
        for k, i in enumerate(part):
            results[i] = Eliminated(*(column[k : k + 1] for column in found))
    columns = zip(*(results[i] for i in range(len(images))), strict=True)
    return Eliminated(*(np.concatenate(column) for column in columns))


def partial_scores(
    pretrained: PretrainedModel,
    images: Sequence[RGBImage],
    classes: Sequence[str],
    *,
    parts: int = 8,
    templates: Sequence[str] = ("{}",),
    prior: Sequence[float] | None = None,
    temperature: float = 1.0,
    normalization: Normalization = "grammar",
) -> Float64[np.ndarray, "images classes parts"]:
    """Sums of every class after each part, in nats, prior added: what a race is fitted on."""
    check_temperature(temperature)
    texts = class_texts(classes, templates)
    offsets = temperature * log_prior_of(classes, prior)
    scores = np.zeros((len(images), len(classes), parts))
    for part, scan, rows in _scans(pretrained, images, texts, normalization):
        race = _Run(scan, rows, len(part), len(classes), offsets)
        for k, stop in enumerate(_stops(scan.num_codes, parts)):
            race.read(stop)
            scores[part, :, k:] = race.scores()[:, :, None]
    return scores


def threshold_for(
    partial: Float64[np.ndarray, "images classes parts"], lost: float
) -> tuple[float, int]:
    """Smallest threshold of a race that loses the best class of at most a share `lost` of images.

    Returns:
        The threshold in nats, and how many of these very images it loses. On other images it may
        lose more: with `lost` 0 and n images, one in n + 1 is to be expected at most.

    Raises:
        ConfigError: no image, or a share outside [0, 1).
    """
    if not len(partial) or not 0 <= lost < 1:
        raise ConfigError(
            f"a threshold is fitted on at least one image for a lost share in [0, 1), got "
            f"{len(partial)} images and {lost:g}"
        )
    best = partial[:, :, -1].argmax(1)
    of_best = partial[np.arange(len(partial)), best]
    needed = np.sort((partial.max(1) - of_best)[:, :-1].max(1, initial=0.0))
    threshold = float(needed[len(needed) - 1 - math.floor(lost * len(needed))]) + _SLACK
    return threshold, int((needed > threshold).sum())


class _Run:
    """Sums of all rows of a few images while classes are dropped.

    Row (p C + c) T + t is image p with template t of class c.
    """

    def __init__(
        self,
        scan: ImageScan,
        rows: Int[np.ndarray, " rows"],
        num_images: int,
        num_classes: int,
        offsets: Float64[np.ndarray, " classes"],
    ) -> None:
        self._scan, self._rows, self._offsets = scan, rows, offsets
        self._sums = np.zeros((num_images, num_classes, len(rows) // (num_images * num_classes)))
        self._spent = np.zeros(num_images, int)
        self._left_at = np.full((num_images, num_classes), np.iinfo(int).max)

    @property
    def _alive(self) -> Bool[np.ndarray, "images classes"]:
        return self._left_at == np.iinfo(int).max

    def run(self, method: Method) -> "_Run":
        """Read all codes of the classes that stay."""
        totals = None
        *stops, end = _stops(self._scan.num_codes, method.parts)
        for stop in stops:
            self.read(stop)
            if isinstance(method, Bound) and totals is None:
                totals = self._finish_leaders()
            kept = _keep(method, np.where(self._alive, self.scores(), -np.inf), totals)
            self._left_at[self._alive & ~kept] = stop
            self._go_on_with(self._alive.ravel()[self._rows // self._sums.shape[2]])
        self.read(end)
        return self

    def read(self, stop: int) -> None:
        """Read all rows that are left as far as `stop`."""
        self._add(self._scan, self._rows, stop)

    def scores(self) -> Float64[np.ndarray, "images classes"]:
        """Sums so far of each class, in nats, prior added."""
        num_templates = self._sums.shape[2]
        means = mean_over_templates(self._sums.reshape(len(self._sums), -1), num_templates)
        return means + self._offsets

    def finish(self, temperature: float) -> Eliminated:
        """What was found."""
        alive, scores = self._alive, self.scores()
        scaled = scores / temperature
        of_finalists = logsumexp(np.where(alive, scaled, -np.inf), axis=1)
        of_dropped = logsumexp(np.where(alive, -np.inf, scaled), axis=1)
        num_rows = self._sums[0].size
        return Eliminated(
            ranking=np.lexsort((-scores, -self._left_at), axis=-1),
            log_probs=log_softmax(np.where(alive, scaled, -np.inf), axis=-1),
            log_likelihoods=scores - self._offsets,
            finalists=alive,
            most_left_out=expit(of_dropped - of_finalists),
            evaluations=self._spent,
            exhaustive=np.full(len(alive), num_rows * self._scan.num_codes),
        )

    def _finish_leaders(self) -> Float64[np.ndarray, " images"]:
        """Read the best class of each image to its end; its score."""
        best = self.scores().argmax(1)
        leads = np.zeros(self._alive.shape, bool)
        leads[np.arange(len(best)), best] = True
        of_leader = leads.ravel()[self._rows // self._sums.shape[2]]
        self._add(self._scan.take(of_leader), self._rows[of_leader], self._scan.num_codes)
        self._go_on_with(~of_leader)
        totals: Float64[np.ndarray, " images"] = self.scores()[leads]
        return totals

    def _add(self, scan: ImageScan, rows: Int[np.ndarray, " rows"], stop: int) -> None:
        num = stop - scan.num_read
        self._sums.reshape(-1)[rows] += scan.read(stop)
        images = rows // self._sums[0].size
        self._spent += num * np.bincount(images, minlength=len(self._spent))

    def _go_on_with(self, kept: Bool[np.ndarray, " rows"]) -> None:
        if not kept.all():
            self._scan, self._rows = self._scan.take(kept), self._rows[kept]


def _keep(
    method: Method,
    scores: Float[np.ndarray, "images classes"],
    totals: Float[np.ndarray, " images"] | None,
) -> Bool[np.ndarray, "images classes"]:
    """Classes that stay; `scores` are -inf of those that left before."""
    match method:
        case Bound():
            assert totals is not None
            return scores >= totals[:, None]
        case Race(threshold):
            return scores >= scores.max(1, keepdims=True) - threshold
        case Halving():
            num = math.ceil(int(np.isfinite(scores[0]).sum()) / 2)
            order = np.argsort(-scores, axis=1, kind="stable")
            kept = np.zeros(scores.shape, bool)
            np.put_along_axis(kept, order[:, :num], True, axis=1)
            return kept
    assert_never(method)


def _scans(
    pretrained: PretrainedModel,
    images: Sequence[RGBImage],
    texts: Sequence[str],
    normalization: Normalization,
) -> Iterator[tuple[list[int], ImageScan, Int[np.ndarray, " rows"]]]:
    """Numbers of a few images of one number of codes, and all their rows, ready to be read."""
    codes = CodeCache(pretrained).encode(images)
    # Texts of like length share a batch; characters tell well enough which.
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    by_size: dict[int, list[int]] = {}
    for i, of_image in enumerate(codes):
        by_size.setdefault(of_image.size, []).append(i)
    for size, numbers in by_size.items():
        at_once = max(1, _CACHED_CODES // (len(texts) * size))
        for start in range(0, len(numbers), at_once):
            part = numbers[start : start + at_once]
            rows = [(t, k) for t in by_length for k in range(len(part))]
            pairs: list[tuple[Codes, str]] = [(codes[part[k]], texts[t]) for t, k in rows]
            scan = ImageScan(pretrained, pairs, normalization=normalization)
            yield part, scan, np.array([k * len(texts) + t for t, k in rows])


def _stops(num_codes: int, parts: int) -> list[int]:
    """Ends of parts of nearly equal length; fewer parts where there are fewer codes."""
    return np.unique(np.linspace(0, num_codes, parts + 1).round().astype(int))[1:].tolist()


def _check_method(method: Method) -> None:
    if method.parts < 1:
        raise ConfigError(f"elimination takes at least 1 part, got {method.parts}")
    if isinstance(method, Race) and not method.threshold >= 0:
        raise ConfigError(f"the threshold of a race must be 0 nats or more, got {method.threshold}")
