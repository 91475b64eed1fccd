"""Few-shot probes: how many drawings of a new concept a frozen model needs to know it again.

Classes are concepts of families that no training has seen; shots are drawings of the training
vendors, and the test is the drawing of the unseen one. Concepts, vendors and pictures are data: any
features can be probed by them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from genvlm.data.augment import affine
from genvlm.data.emoji import (
    TRAINING_VENDORS,
    UNSEEN_VENDOR,
    Concept,
    drawn_alike,
    id_rank,
    load_drawings,
    split_concepts,
)
from genvlm.data.images import RGBImage
from genvlm.errors import EvaluationError
from genvlm.evaluation.probes import choose_strength, fit_probe, probe_hits
from genvlm.evaluation.statistics import Interval, Undefined, mcnemar_exact, wilson_interval
from genvlm.scoring.features import ImageFeatures, pixel_features
from genvlm.tokenization.image import to_pixels, to_uint8

SHOTS = (1, 2, 4, 8)
MAX_CLASSES = 100
SCHEMA = 1

FeaturesOf = Callable[[Sequence[RGBImage]], Float32[np.ndarray, "images dims"]]


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """A probe of so many shots a class."""

    num_shots: int
    hits: Mapping[str, bool]
    """By concept, whether its drawing of the unseen vendor is told right; for paired tests."""
    strength: float
    """Of the penalty, chosen among the shots alone."""

    @property
    def accuracy(self) -> float:
        """In percent."""
        return 100 * sum(self.hits.values()) / len(self.hits)

    @property
    def interval(self) -> Interval | Undefined:
        """95 % in percent, over concepts."""
        found = wilson_interval(sum(self.hits.values()), len(self.hits))
        return found if isinstance(found, Undefined) else Interval(*(100 * end for end in found))

    @property
    def chance(self) -> float:
        """In percent."""
        return 100 / len(self.hits)


@dataclass(frozen=True, kw_only=True)
class ProbedModel:
    """A model's probes beside those of pixels."""

    features: ImageFeatures
    probes: Sequence[FewShot]
    baseline: ImageFeatures
    baseline_probes: Sequence[FewShot]


def probe_concepts(num: int = MAX_CLASSES) -> list[Concept]:
    """Concepts of held-out families with the smallest hash of id, drawn nearly like no other.

    Raises:
        EvaluationError: there are fewer, or one alone was asked for.
    """
    held_out = split_concepts(held_out=True)
    vendors = (*TRAINING_VENDORS, UNSEEN_VENDOR)
    alike = {index for v in vendors for pair in drawn_alike(v) for index in pair}
    distinct = sorted((c for c in held_out if c.index not in alike), key=id_rank)
    if not 2 <= num <= len(distinct):
        raise EvaluationError(f"a probe tells 2 to {len(distinct)} concepts apart, not {num}")
    return distinct[:num]


def draw_shots(
    concepts: Sequence[Concept], num_shots: int, seed: int = 0
) -> list[UInt8[np.ndarray, "concepts side side 3"]]:
    """One drawing of every concept a shot: of the vendors in turn, later ones moved and turned.

    The first shots are the same however many there are.
    """
    index = [concept.index for concept in concepts]
    shots = []
    for shot in range(num_shots):
        drawings = load_drawings(_vendor_of(shot))[index]
        if shot >= len(TRAINING_VENDORS):
            generator = torch.Generator().manual_seed(1000 * seed + shot)
            drawings = to_uint8(affine(to_pixels(drawings), generator))
        shots.append(drawings)
    return shots


def few_shot(
    features_of: FeaturesOf,
    concepts: Sequence[Concept],
    shots: Sequence[int] = SHOTS,
    *,
    seed: int = 0,
) -> list[FewShot]:
    """Probes of features, for each number of shots.

    The strength of the penalty is the one that serves the drawings of one training vendor best
    after a fit on the other's; of a single shot, a moved copy of it.

    Args:
        seed: of how copies are moved.

    Raises:
        EvaluationError: no shot, or as `fit_probe`.
    """
    if not shots or min(shots) < 1:
        raise EvaluationError(f"a probe needs at least one shot of each class, got {list(shots)}")
    moved = len(TRAINING_VENDORS)  # the first copy, of the first shot
    pictures = draw_shots(concepts, max(*shots, moved + 1), seed)
    features = np.stack([features_of(list(drawings)) for drawings in pictures])
    test = features_of(list(load_drawings(UNSEEN_VENDOR)[[c.index for c in concepts]]))
    labels = np.arange(len(concepts))
    found = []
    for num_shots in shots:
        rows, of_rows = _stack(features[:num_shots], labels)
        vendors = np.repeat([_vendor_of(shot) for shot in range(num_shots)], len(labels))
        folds = [(vendors != vendor, vendors == vendor) for vendor in TRAINING_VENDORS]
        if num_shots == 1:
            pair, of_pair = _stack(features[[0, moved]], labels)
            first = np.arange(len(pair)) < len(labels)
            strength = choose_strength(pair, of_pair, [(first, ~first)], len(labels))
        else:
            strength = choose_strength(rows, of_rows, folds, len(labels))
        hits = probe_hits(fit_probe(rows, of_rows, len(labels), strength), test, labels)
        by_concept = {c.id: bool(hit) for c, hit in zip(concepts, hits, strict=True)}
        found.append(FewShot(num_shots=num_shots, hits=by_concept, strength=strength))
    return found


def probe_model(
    features: ImageFeatures,
    concepts: Sequence[Concept],
    shots: Sequence[int] = SHOTS,
    *,
    seed: int = 0,
) -> ProbedModel:
    """A model's probes and those of the pixels themselves. Raises as `few_shot`."""
    baseline = pixel_features()
    return ProbedModel(
        features=features,
        probes=few_shot(features.features, concepts, shots, seed=seed),
        baseline=baseline,
        baseline_probes=few_shot(baseline.features, concepts, shots, seed=seed),
    )


def probes_json(probed: ProbedModel) -> dict[str, Any]:
    """`results.json`: every number of the table, and what was told right."""
    return {
        "schema": SCHEMA,
        "test_vendor": UNSEEN_VENDOR,
        "training_vendors": list(TRAINING_VENDORS),
        "num_classes": len(probed.probes[0].hits),
        "features": {
            name: {
                "name": features.name,
                "fingerprint": features.fingerprint,
                "probes": [_probe_json(probe) for probe in probes],
            }
            for name, features, probes in (
                ("model", probed.features, probed.probes),
                ("pixels", probed.baseline, probed.baseline_probes),
            )
        },
        "model_against_pixels": [
            _comparison_json(one, other)
            for one, other in zip(probed.probes, probed.baseline_probes, strict=True)
        ],
    }


def _probe_json(probe: FewShot) -> dict[str, Any]:
    return {
        "shots": probe.num_shots,
        "accuracy": probe.accuracy,
        "interval": None if isinstance(probe.interval, Undefined) else list(probe.interval),
        "chance": probe.chance,
        "strength": probe.strength,
        "hits": dict(probe.hits),
    }


def _comparison_json(one: FewShot, other: FewShot) -> dict[str, Any]:
    found = mcnemar_exact(one.hits, other.hits)
    if isinstance(found, Undefined):
        return {"shots": one.num_shots, "undefined": found.reason}
    return {"shots": one.num_shots, **found._asdict()}


def _vendor_of(shot: int) -> Any:
    return TRAINING_VENDORS[shot % len(TRAINING_VENDORS)]


def _stack(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all shots, and the label of each."""
    return features.reshape(-1, features.shape[-1]), np.tile(labels, len(features))
