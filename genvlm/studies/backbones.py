"""A transformer and a diffusion model side by side on single drawings: who names what.

Scores are taken once and kept in a file; every number below is computed from such files. P images,
C classes, K samples.
"""

import json
import os
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import log_softmax

from genvlm.data.conflict import Conflict, cue_conflicts
from genvlm.data.emoji import TRAINING_VENDORS, UNSEEN_VENDOR, class_concepts
from genvlm.data.images import RGBImage
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmarks.emoji_classes import build_emoji_classes
from genvlm.evaluation.statistics import Undefined, mcnemar_exact
from genvlm.scoring.diffusion import DiffusionScorer, level_weights
from genvlm.scoring.diffusion_elimination import (
    Method,
    SequentialTest,
    confident_test,
    eliminate,
    published_schedule,
    replayed,
)
from genvlm.scoring.protocols import Grid, Scorer
from genvlm.scoring.timestep_weights import bin_of, fit_timestep_weights
from genvlm.scoring.zero_shot import Posterior
from genvlm.studies.classification import Classified, share_right, temper

VENDORS = (*TRAINING_VENDORS, UNSEEN_VENDOR)
CONFLICTS = "conflicts"
NUM_CONFLICTS = 100
THRESHOLDS = (2.0, 3.0, 4.0, 6.0)
"""Standard errors of sequential tests that are not derived from a confidence."""
_CLASS_COUNTS = (10, 20, 50, 100)
_ABOUT = ("name", "fingerprint", "device", "seconds_per_image")


@dataclass(frozen=True, kw_only=True)
class ScoredDrawings:
    """Scores of one model on every set; `samples` are there where scores are means of them."""

    name: str
    fingerprint: str
    device: str
    seconds_per_image: float
    values: Mapping[str, Float64[np.ndarray, "images classes"]]
    samples: Mapping[str, np.ndarray]
    """(P, C, K), of diffusion models."""
    levels: Mapping[str, Int64[np.ndarray, " samples"]]
    elbo_weights: Float64[np.ndarray, " levels"] | None = None
    """What turns a sample into nats, up to what all classes share."""

    def save(self, path: Path) -> None:
        """Write one NPZ file without pickles, whole or not at all."""
        named = {
            **{f"values-{k}": v for k, v in self.values.items()},
            **{f"samples-{k}": v.astype(np.float32) for k, v in self.samples.items()},
            **{f"levels-{k}": v for k, v in self.levels.items()},
        }
        if self.elbo_weights is not None:
            named["elbo_weights"] = self.elbo_weights
        about = {name: getattr(self, name) for name in _ABOUT}
        named["about"] = np.array(json.dumps(about))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with temporary.open("wb") as file:  # to a name NumPy would add its own suffix
            np.savez_compressed(file, **named)
        temporary.replace(path)


def load_scored(path: Path) -> ScoredDrawings:
    """Read what `save` wrote. Raises EvaluationError for another file."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays.pop("about")))
        if about.keys() != set(_ABOUT):
            raise ValueError
    except (
        OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile,
    ):  # fmt: skip
        raise EvaluationError(f"{path} holds no scores of drawings: write it anew") from None

    def of(prefix: str) -> dict[str, np.ndarray]:
        start = len(prefix) + 1
        return {k[start:]: v for k, v in arrays.items() if k.startswith(prefix + "-")}

    return ScoredDrawings(
        values=of("values"), samples=of("samples"), levels=of("levels"),
        elbo_weights=arrays.get("elbo_weights"), **about,
    )  # fmt: skip


def drawing_sets() -> dict[str, list[RGBImage]]:
    """The drawings of each vendor, those of training vendors moved, and the cue conflicts."""
    sets = {v: [item.grid.images[0] for item in build_emoji_classes((v,)).items] for v in VENDORS}
    return sets | {CONFLICTS: [c.image for c in conflicts()]}


def conflicts() -> list[Conflict]:
    """Drawings of the first training vendor in one another's colours."""
    return cue_conflicts(class_concepts(), TRAINING_VENDORS[0], NUM_CONFLICTS)


def score_drawings(
    scorer: Scorer,
    *,
    name: str,
    device: str,
    sets: Mapping[str, Sequence[RGBImage]] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ScoredDrawings:
    """Score every drawing against the labels of the 100 classes, exhaustively.

    Raises:
        EvaluationError: a diffusion model by another method than squared_error, of whose samples
            other weights could not be computed.
        ConfigError: a diffusion model without a bound.
    """
    diffusion = scorer if isinstance(scorer, DiffusionScorer) else None
    if diffusion is not None and diffusion.method != "squared_error":
        raise EvaluationError(f"scores by {diffusion.method}: take squared_error")
    elbo_weights = level_weights(diffusion.model, "elbo") if diffusion else None
    sets = drawing_sets() if sets is None else sets
    labels = [concept.label for concept in class_concepts()]
    values: dict[str, np.ndarray] = {}
    samples: dict[str, np.ndarray] = {}
    total, done, began = sum(map(len, sets.values())), 0, time.perf_counter()
    for of_set, images in sets.items():
        rows, drawn = [], []
        for image in images:
            [scores] = scorer.score([Grid(item_id=of_set, images=[image], texts=labels)])
            rows.append(scores.values[0])
            if scores.samples is not None:
                drawn.append(scores.samples[0])
            done += 1
            progress(done, total)
        values[of_set] = np.stack(rows)
        if drawn:
            samples[of_set] = np.stack(drawn)
    return ScoredDrawings(
        name=name,
        fingerprint=scorer.info.fingerprint,
        device=device,
        seconds_per_image=(time.perf_counter() - began) / total,
        values=values,
        samples=samples,
        levels=dict.fromkeys(samples, diffusion.pairs.levels) if diffusion else {},
        elbo_weights=elbo_weights,
    )


def accuracies(scored: ScoredDrawings) -> dict[str, Any]:
    """Percent right of each vendor's drawings, with Wilson intervals."""
    return {v: share_right(int(_hits(scored, v).sum()), len(scored.values[v])) for v in VENDORS}


def calibration(scored: ScoredDrawings) -> dict[str, float | None]:
    """Expected calibration error of Fluent after a temperature fitted on one half of it.

    Scores that are no log-probabilities have no error before.
    """
    values = scored.values[UNSEEN_VENDOR]
    classified = Classified(
        keys=[c.id for c in class_concepts()],
        right=np.arange(len(values)),
        classes=[c.label for c in class_concepts()],
        posterior=Posterior(log_softmax(values, axis=1), values),
        log_prior=np.zeros(values.shape[1]),
    )
    before, after = temper(classified).errors()
    return {"before": None if scored.samples else before, "after": after}


def shape_or_colour(scored: ScoredDrawings) -> dict[str, Any]:
    """What is named of a conflict: its shape, its colours, neither; and which of both scores more.

    Shape bias is the share of shapes among the answers that are either (Geirhos et al. 2019).
    """
    numbers = {c.id: i for i, c in enumerate(class_concepts())}
    values = scored.values[CONFLICTS]
    shape = np.array([numbers[c.shape.id] for c in conflicts()][: len(values)])
    colour = np.array([numbers[c.colour.id] for c in conflicts()][: len(values)])
    best, rows = values.argmax(1), np.arange(len(values))
    named = int((best == shape).sum()), int((best == colour).sum())
    preferred = int((values[rows, shape] > values[rows, colour]).sum())
    return {
        "shape": share_right(named[0], len(rows)),
        "colour": share_right(named[1], len(rows)),
        "shape_bias": share_right(named[0], sum(named)),
        "shape_of_two": share_right(preferred, len(rows)),
    }


def paired(first: ScoredDrawings, second: ScoredDrawings, vendor: str) -> dict[str, float]:
    """Drawings that only one of two models names, and McNemar's exact p."""
    ids = [c.id for c in class_concepts()]
    hits = [dict(zip(ids, _hits(s, vendor).tolist(), strict=True)) for s in (first, second)]
    found = mcnemar_exact(*hits)
    if isinstance(found, Undefined):
        return {"only_first": 0, "only_second": 0, "p": 1.0}
    return {"only_first": found.first_only, "only_second": found.second_only, "p": found.p_value}


def by_weights(scored: ScoredDrawings) -> dict[str, Any]:
    """Right of the unseen vendor under each weighting of levels, and over the number of samples.

    Learned weights are fitted on the training vendors' drawings, never on the unseen one's.
    """
    samples, levels = scored.samples[UNSEEN_VENDOR], scored.levels[UNSEEN_VENDOR]
    assert scored.elbo_weights is not None
    num_levels = len(scored.elbo_weights)
    num_fitted = min(scored.samples[v].shape[2] for v in TRAINING_VENDORS)
    errors = [-scored.samples[v][:, :, :num_fitted] for v in TRAINING_VENDORS]
    fitted = fit_timestep_weights(
        np.concatenate(errors), np.tile(np.arange(len(samples)), len(errors)),
        scored.levels[TRAINING_VENDORS[0]][:num_fitted], num_levels, model=scored.fingerprint,
        num_bins=_num_bins(scored.levels[TRAINING_VENDORS[0]][:num_fitted], num_levels),
    )  # fmt: skip
    weights = {
        "squared_error": np.ones(num_levels),
        "elbo": scored.elbo_weights,
        "learned": fitted.by_level(num_levels),
    }

    def right(chosen: np.ndarray) -> int:
        return int((chosen.mean(2).argmax(1) == np.arange(len(chosen))).sum())

    doubled = [2**k for k in range(samples.shape[2].bit_length())]
    counts = sorted({*doubled, samples.shape[2]})
    return {
        "right": {
            name: share_right(right(samples * w[levels]), len(samples))
            for name, w in weights.items()
        },
        "right_by_num_samples": {n: right(samples[:, :, :n]) for n in counts},
        "learned_weights": list(fitted.weights),
    }


def elimination(scored: ScoredDrawings) -> list[dict[str, Any]]:
    """Evaluations and changed answers of each way to drop classes, by vendor and of all.

    Replayed on the vendors with the most samples.
    """
    samples, levels = _all_samples(scored)
    vendors = np.repeat(_most_sampled(scored), len(class_concepts()))
    num_classes, num_pairs = samples.shape[1:]
    ways: dict[str, Method | None] = {
        "exhaustive": None,
        "published schedule": published_schedule(num_classes, num_pairs),
        "published schedule, nested": published_schedule(num_classes, num_pairs, nested=True),
        "sequential test, confidence 0.99": confident_test(0.99, num_classes, num_pairs),
        **{
            f"sequential test, {t:g} standard errors": SequentialTest(threshold=t)
            for t in THRESHOLDS
        },
    }
    best = samples.mean(2, dtype=np.float64).argmax(1)
    rows = []
    for name, way in ways.items():
        spent, changed = np.full(len(samples), num_classes * num_pairs), np.zeros_like(best, bool)
        if way is not None:
            found = eliminate(replayed(samples), samples.shape[:2], levels, way)
            spent, changed = found.evaluations, found.ranking[:, 0] != best
        by_vendor = {
            vendor: {
                "evaluations": float(spent[vendors == vendor].mean()),
                "changed": int(changed[vendors == vendor].sum()),
            }
            for vendor in _most_sampled(scored)
        }
        rows.append(
            {
                "way": name, "evaluations": float(spent.mean()), "changed": int(changed.sum()),
                "n": len(samples), "by_vendor": by_vendor,
            }
        )  # fmt: skip
    return rows


def cost_by_classes(scored: ScoredDrawings) -> dict[str, list[tuple[float, float]]]:
    """Evaluations of an image over the number of classes: the first ones and their drawings."""
    samples, levels = _all_samples(scored)
    num_pairs, num_concepts = samples.shape[2], len(class_concepts())
    curves: dict[str, list[tuple[float, float]]] = {}
    for num in _CLASS_COUNTS:
        rows = np.flatnonzero(np.arange(len(samples)) % num_concepts < num)
        part = samples[rows][:, :num]
        ways: dict[str, Method] = {
            "published schedule": published_schedule(num, num_pairs),
            "sequential, 0.99": confident_test(0.99, num, num_pairs),
            "sequential, 3 s.e.": SequentialTest(threshold=3.0),
        }
        curves.setdefault("exhaustive", []).append((num, num * num_pairs))
        for name, way in ways.items():
            found = eliminate(replayed(part), part.shape[:2], levels, way)
            curves.setdefault(name, []).append((num, float(found.evaluations.mean())))
    return curves


def summary_of(scored: ScoredDrawings) -> dict[str, Any]:
    """All numbers of one model."""
    found: dict[str, Any] = {
        **{name: getattr(scored, name) for name in _ABOUT},
        "accuracy": accuracies(scored),
        "calibration": calibration(scored),
        "conflicts": shape_or_colour(scored),
    }
    if scored.samples:
        found |= {
            "num_samples": {k: v.shape[2] for k, v in scored.samples.items()},
            "weights": by_weights(scored),
            "elimination": elimination(scored),
            "evaluations_by_classes": cost_by_classes(scored),
        }
    return found


def _hits(scored: ScoredDrawings, vendor: str) -> np.ndarray:
    values = scored.values[vendor]
    hits: np.ndarray = values.argmax(1) == np.arange(len(values))
    return hits


def _num_bins(levels: np.ndarray, num_levels: int) -> int:
    """The most bins, up to 20, that all hold a sample."""
    return max(
        n for n in range(1, 21) if len(np.unique(bin_of(np.asarray(levels), num_levels, n))) == n
    )


def _most_sampled(scored: ScoredDrawings) -> list[str]:
    most = max(s.shape[2] for s in scored.samples.values())
    return [v for v in VENDORS if scored.samples[v].shape[2] == most]


def _all_samples(scored: ScoredDrawings) -> tuple[np.ndarray, np.ndarray]:
    """Of the vendors with the most samples, one below the other, and their levels."""
    vendors = _most_sampled(scored)
    return np.concatenate([scored.samples[v] for v in vendors]), scored.levels[vendors[0]]
