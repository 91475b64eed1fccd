"""What every model of a comparison is asked, by the score that its family gives. C classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from scipy.special import log_softmax

from genvlm.data.emoji import (
    TRAINING_VENDORS,
    UNSEEN_VENDOR,
    Vendor,
    class_concepts,
    id_rank,
    load_drawings,
    split_concepts,
)
from genvlm.evaluation.benchmark import Benchmark, Item, Progress
from genvlm.evaluation.benchmarks.emoji_classes import build_emoji_classes
from genvlm.evaluation.calibration import expected_calibration_error
from genvlm.evaluation.control_names import BLIND, SHUFFLED
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.rules import check_finite
from genvlm.evaluation.statistics import Undefined
from genvlm.scoring.open import Method
from genvlm.scoring.protocols import Grid, Scorer
from genvlm.scoring.zero_shot import Posterior
from genvlm.studies.classification import NUM_BINS, Classified, temper
from genvlm.studies.evaluations import build_controls, evaluate_scorer

TRAINING, UNSEEN, HELD_OUT = "training vendors", "unseen vendor", "held-out families"
OWN = "own"
"""The scorer itself, beside the names of controls."""


@dataclass(frozen=True, kw_only=True)
class FamilyMethods:
    """How the models of one kind of configuration are asked; fixed before any was run."""

    drawings: tuple[Method, ...]
    """One drawing, many labels. Of several methods the first is what families are compared by."""
    captions: tuple[Method, ...]
    """One picture, two captions."""
    image_to_text: Method
    """The texts of a picture in retrieval."""
    text_to_image: Method
    """The pictures of a text in retrieval."""


METHODS: Mapping[str, FamilyMethods] = {
    "mixed_modal": FamilyMethods(
        drawings=("image_given_text", "text_given_image"),
        captions=("text_given_image", "image_given_text"),
        image_to_text="image_given_text",
        text_to_image="text_given_image",
    ),
    "diffusion": FamilyMethods(
        drawings=("squared_error",),
        captions=("squared_error",),
        image_to_text="squared_error",
        text_to_image="squared_error",
    ),
    "contrastive": FamilyMethods(
        drawings=("logit",), captions=("logit",), image_to_text="logit", text_to_image="logit"
    ),
    "coca": FamilyMethods(
        drawings=("logit", "text_given_image"),
        captions=("text_given_image", "logit"),
        image_to_text="logit",
        text_to_image="logit",
    ),
    "masked": FamilyMethods(
        drawings=("logit", "matching"),
        captions=("matching", "pseudo_likelihood", "logit"),
        image_to_text="logit",
        text_to_image="logit",
    ),
    "projector": FamilyMethods(
        drawings=("text_given_image",),
        captions=("text_given_image", "p_yes"),
        image_to_text="text_given_image",
        text_to_image="text_given_image",
    ),
}
"""By the kind of its configuration."""


def drawing_sets(num_training: int, num_unseen: int, num_held_out: int) -> dict[str, list[Item]]:
    """Drawings against the labels of the 100 classes; targets are the labels that are right.

    A drawing of a held-out family, by turns of each training vendor, has no label among them: right
    are all labels of its group.
    """
    per_vendor = max(1, num_training // len(TRAINING_VENDORS))
    seen = build_emoji_classes(TRAINING_VENDORS, num_shown=per_vendor)
    unseen = build_emoji_classes((UNSEEN_VENDOR,), num_shown=num_unseen)
    return {
        TRAINING: list(seen.items),
        UNSEEN: list(unseen.items),
        HELD_OUT: _held_out(num_held_out),
    }


def _held_out(num: int) -> list[Item]:
    classes = class_concepts()
    groups = {c.group for c in classes}
    concepts = sorted((c for c in split_concepts(held_out=True) if c.group in groups), key=id_rank)
    vendors: Sequence[Vendor] = TRAINING_VENDORS
    labels = [c.label for c in classes]
    return [
        Item(
            grid=Grid(
                item_id=f"{vendor}-{c.id}", images=[load_drawings(vendor)[c.index]], texts=labels
            ),
            group=c.family,
            target=tuple(i for i, other in enumerate(classes) if other.group == c.group),
            tags=(vendor, c.group),
        )
        for c, vendor in zip(concepts[:num], cycle(vendors), strict=False)
    ]


class NamedDrawings(NamedTuple):
    """What a model made of some drawings."""

    right: dict[str, bool]
    """By id of the item. Equal best labels are wrong."""
    values: Float64[np.ndarray, "items classes"]


def name_drawings(scorer: Scorer, items: Sequence[Item], progress: Progress) -> NamedDrawings:
    """Score every drawing against all labels.

    Raises:
        EvaluationError: a score is not finite.
    """
    rows = []
    for number, item in enumerate(items, 1):
        [scores] = scorer.score([item.grid])
        rows.append(check_finite(scores.values[0], item.id))
        progress(number, len(items))
    right = {i.id: is_right(row, i.target) for i, row in zip(items, rows, strict=True)}
    return NamedDrawings(right, np.stack(rows))


def is_right(row: Float64[np.ndarray, " classes"], target: Any) -> bool:
    """Whether the best class is the target, or one of several, and no wrong one scores as much."""
    right = np.zeros(len(row), np.bool_)
    right[[target] if isinstance(target, int) else list(target)] = True
    return bool(row[right].max() > row[~right].max(initial=-np.inf))


def by_chance(items: Sequence[Item]) -> float:
    """Percent right of a label drawn at random."""
    num_right = [1 if isinstance(i.target, int) else len(i.target) for i in items]
    shares = [num / len(i.grid.texts) for num, i in zip(num_right, items, strict=True)]
    return 100 * sum(shares) / len(shares)


def calibration_of(
    items: Sequence[Item], values: Float64[np.ndarray, "items classes"], *, is_log_prob: bool
) -> dict[str, float | None]:
    """Expected calibration error of one half after a temperature fitted on the other.

    Scores that are no log-probabilities have no error before it.
    """
    targets = np.array([i.target for i in items])
    classified = Classified(
        keys=[i.id for i in items],
        right=targets,
        classes=items[0].grid.texts,
        posterior=Posterior(log_softmax(values, axis=1), values),
        log_prior=np.zeros(values.shape[1]),
    )
    tempered = temper(classified)
    before, after = tempered.errors()
    unfit = isinstance(tempered.temperature, Undefined)
    whole = expected_calibration_error(classified.posterior.log_probs, targets, NUM_BINS)
    return {
        "all_before": whole if is_log_prob and not isinstance(whole, Undefined) else None,
        "before": before if is_log_prob else None,
        "after": after,
        "temperature": None if unfit else tempered.temperature,  # type: ignore[dict-item]
    }


def judge(
    name: str, benchmark: Benchmark, scorer: Scorer, *, controls: bool, progress: Progress
) -> dict[str, Any]:
    """A benchmark's numbers and what each item earns, with or without the controls that cost."""
    own = build_controls(name, benchmark, scorer) if controls else {}
    found = evaluate_scorer(
        benchmark, scorer, own, shuffled=controls, blind=controls, progress=progress
    )
    plain = found.summary.to_json()
    metrics = list(found.records[0].credit)
    return {
        "scorer": found.summary.scorer,
        "coverage": plain["coverage"],
        "metrics": plain["metrics"],
        "categories": plain["categories"],
        "controls": plain["controls"],
        "flags": plain["flags"],
        "earned": {m: {r.id: r.credit[m].strict for r in found.records} for m in metrics},
        "halves": _halves(benchmark, found.records) if controls else {},
        "groups": {r.id: r.group for r in found.records},
        "tags": {r.id: list(r.tags) for r in found.records},
    }


def _halves(
    benchmark: Benchmark, records: Sequence[ItemRecord]
) -> dict[str, dict[str, dict[str, float]]]:
    """What each item earns when ties are decided by chance: the scorer, and it without the picture
    and with another one, as gains over those controls are made of."""
    rule = benchmark.card.decision
    credits = {OWN: {r.id: r.credit for r in records}}
    for name in (BLIND, SHUFFLED):
        if all(name in r.controls for r in records):
            credits[name] = {r.id: rule.credit(r.evidence(name), r.target, r.id) for r in records}
    return {
        name: {m: {i: found[m].half for i, found in by_id.items()} for m in records[0].credit}
        for name, by_id in credits.items()
    }
