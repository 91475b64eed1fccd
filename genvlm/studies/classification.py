"""Zero-shot classification of labelled pictures: how often right, how well calibrated, what is
confused with what.

The temperature is fitted on one half of the pictures and reported on the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import log_softmax

from genvlm.errors import ConfigError
from genvlm.evaluation.calibration import (
    area_under_risk_coverage,
    expected_calibration_error,
    fit_temperature,
    risk_coverage,
)
from genvlm.evaluation.statistics import Undefined, wilson_interval
from genvlm.scoring.zero_shot import Posterior
from genvlm.studies.halves import split_in_halves

NUM_BINS = 15
_COVERAGES = (0.2, 0.5, 0.8, 1.0)
_MAX_PAIRS = 20


@dataclass(frozen=True, kw_only=True)
class Classified:
    """Labelled pictures with the posterior of a classifier."""

    keys: Sequence[str]
    """One for each picture, such as its path below its folder: the hash tells its half."""
    right: Int64[np.ndarray, " pictures"]
    """Numbers of the right classes."""
    classes: Sequence[str]
    posterior: Posterior
    log_prior: Float64[np.ndarray, " classes"]
    settings: Mapping[str, object] = field(default_factory=dict)
    """What was run, for results.json: scorer, templates, prior, temperature, copies."""

    @property
    def confidences(self) -> Float64[np.ndarray, " pictures"]:
        """Probability of each picture's best class."""
        return np.minimum(np.exp(self.posterior.log_probs.max(1)), 1.0)

    @property
    def hits(self) -> Bool[np.ndarray, " pictures"]:
        """Whether the best class is the right one."""
        return self.posterior.log_probs.argmax(1) == self.right

    def confusions(self) -> Int64[np.ndarray, "classes classes"]:
        """Counts of right class (rows) and answer (columns)."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(counts, (self.right, self.posterior.log_probs.argmax(1)), 1)
        return counts


@dataclass(frozen=True, kw_only=True)
class Tempered:
    """Calibration of the reporting half before and after a temperature."""

    num_fitted: int
    temperature: float | Undefined
    """Fitted; `Undefined` says why there is none."""
    before: Classified
    after: Classified | None

    def errors(self) -> list[float | None]:
        """Expected calibration errors before and after."""
        halves = [h for h in (self.before, self.after) if h is not None]
        found = [
            expected_calibration_error(h.posterior.log_probs, h.right, NUM_BINS) for h in halves
        ]
        values = [None if isinstance(e, Undefined) else e for e in found]
        return values if self.after is not None else [*values, None]


def right_classes(labels: Sequence[str], classes: Sequence[str]) -> Int64[np.ndarray, " labels"]:
    """Number of each label. Raises ConfigError naming labels that are no class."""
    numbers = {name: i for i, name in enumerate(classes)}
    unknown = sorted(set(labels) - numbers.keys())
    if unknown:
        raise ConfigError(
            f"{len(unknown)} labels are not in the list of classes, such as {unknown[0]!r}: add "
            "them to --classes or mend the labels"
        )
    return np.array([numbers[label] for label in labels], np.int64)


def share_right(num_right: int, num: int) -> dict[str, Any]:
    """Percent with its Wilson interval, as results.json has it."""
    interval = wilson_interval(num_right, num)
    known = not isinstance(interval, Undefined)
    return {
        "value": 100 * num_right / num if known else None,
        "interval": [100 * x for x in interval] if known else None,
        "right": num_right,
        "n": num,
    }


def temper(classified: Classified) -> Tempered:
    """Fit a temperature of the likelihoods on one half and apply it to the other.

    It is fitted under a uniform prior, so that it says how far log p(image | class) is to be
    trusted; the prior is put back before the error is measured.

    Raises:
        ConfigError: a half without pictures.
    """
    first = split_in_halves(classified.keys, fitted="a temperature")
    likelihoods = classified.posterior.log_likelihoods
    uniform = log_softmax(likelihoods[first], axis=1)
    temperature = fit_temperature(uniform, classified.right[first])
    before = _part(classified, ~first, classified.posterior.log_probs[~first])
    after = None
    if not isinstance(temperature, Undefined):
        scaled = likelihoods[~first] / temperature + classified.log_prior
        after = _part(classified, ~first, log_softmax(scaled, axis=1))
    return Tempered(
        num_fitted=int(first.sum()), temperature=temperature, before=before, after=after
    )


def summarize(
    classified: Classified, *, top: int = 5, tempered: Tempered | None = None
) -> dict[str, Any]:
    """Numbers of results.json: accuracy, top-k, calibration, risk at some coverages, confusions."""
    num = len(classified.keys)
    top = min(top, len(classified.classes))
    ranks = np.argsort(-classified.posterior.log_probs, axis=1, kind="stable")
    within = (ranks[:, :top] == classified.right[:, None]).any(1)
    summary: dict[str, Any] = {
        "schema": 1,
        "num_pictures": num,
        "num_classes": len(classified.classes),
        "accuracy": share_right(int(classified.hits.sum()), num),
        "top_k": {"k": top, **share_right(int(within.sum()), num)},
        "confusions": [
            {"right": a, "answer": b, "count": n} for a, b, n in most_confused(classified)
        ],
        "settings": dict(classified.settings),
    }
    curve = risk_coverage(classified.posterior.log_probs, classified.right)
    if not isinstance(curve, Undefined):
        at = [max(1, round(c * num)) - 1 for c in _COVERAGES]
        summary["selective"] = {
            "area_under_risk_coverage": area_under_risk_coverage(curve),
            "risk_at_coverage": {
                f"{c:g}": float(curve.risk[i]) for c, i in zip(_COVERAGES, at, strict=True)
            },
        }
    if tempered is not None:
        before, after = tempered.errors()
        unfit = isinstance(tempered.temperature, Undefined)
        summary["calibration"] = {
            "num_bins": NUM_BINS,
            "num_fitted": tempered.num_fitted,
            "num_reported": len(tempered.before.keys),
            "temperature": None if unfit else tempered.temperature,
            "reason": tempered.temperature.reason
            if isinstance(tempered.temperature, Undefined)
            else None,
            "ece_before": before,
            "ece_after": after,
        }
    return summary


def most_confused(classified: Classified, limit: int = _MAX_PAIRS) -> list[tuple[str, str, int]]:
    """(right class, answer, count) of the most frequent mistakes."""
    counts = classified.confusions()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:limit]
    pairs = [np.unravel_index(i, counts.shape) for i in order if counts.flat[i]]
    names = classified.classes
    return [(names[a], names[b], int(counts[a, b])) for a, b in pairs]


def _part(
    whole: Classified, rows: Bool[np.ndarray, " pictures"], log_probs: np.ndarray
) -> Classified:
    return Classified(
        keys=[whole.keys[i] for i in rows.nonzero()[0]],
        right=whole.right[rows],
        classes=whole.classes,
        posterior=Posterior(log_probs, whole.posterior.log_likelihoods[rows]),
        log_prior=whole.log_prior,
        settings=whole.settings,
    )


def list_items(classified: Classified, top: int) -> list[dict[str, object]]:
    """Rank of the right class and the best answers of each picture, for results.json."""
    rows = []
    for key, right, row in zip(
        classified.keys, classified.right, classified.posterior.log_probs, strict=True
    ):
        ranked = np.argsort(-row, kind="stable")
        rows.append(
            {
                "image": key,
                "right": classified.classes[right],
                "rank_of_right": 1 + int(np.flatnonzero(ranked == right)[0]),
                "log_posterior_of_right": float(row[right]),
                "answers": [
                    {"class": classified.classes[i], "log_posterior": float(row[i])}
                    for i in ranked[:top]
                ],
            }
        )
    return rows
