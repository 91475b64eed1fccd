"""The questions of a comparison, one section of a record each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from genvlm.config.compare import CompareConfig, CompareEvaluationConfig
from genvlm.config.data import Source
from genvlm.data.emoji import TRAINING_VENDORS, class_concepts
from genvlm.evaluation.benchmark import Benchmark, Item, Progress
from genvlm.evaluation.benchmarks.emoji_classes import labelled_drawings
from genvlm.evaluation.benchmarks.emoji_pairs import build_emoji_pairs
from genvlm.evaluation.benchmarks.scenes import build_scenes
from genvlm.scoring.controls import PixelNeighbourScorer
from genvlm.scoring.features import ImageFeatures, open_features
from genvlm.scoring.open import Method, open_scorer
from genvlm.scoring.protocols import Scorer
from genvlm.studies.compare.asked import (
    METHODS,
    UNSEEN,
    FamilyMethods,
    by_chance,
    calibration_of,
    drawing_sets,
    judge,
    name_drawings,
)
from genvlm.studies.compare.cells import Cell
from genvlm.studies.compare.compute import decision_cost
from genvlm.studies.compare.frequency import caption_counts, frequency_items
from genvlm.studies.evaluations import PAIRS
from genvlm.studies.probes import few_shot, probe_concepts
from genvlm.studies.retrieval import (
    Directions,
    relative_to_nothing,
    run_retrieval,
    scene_gallery,
)

SCENES = "scenes"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A trained cell."""

    model: Path
    """Its folder."""
    kind: str
    """Of its configuration."""
    cell: Cell
    config: CompareConfig
    sources: Sequence[Source]
    """What it learned from."""

    @property
    def methods(self) -> FamilyMethods:
        """Of its family."""
        return METHODS[self.kind]

    def scorer(self, method: Method) -> Scorer:
        """What scores by a method."""
        num_samples = self.config.evaluation.num_samples if self.kind == "diffusion" else None
        return open_scorer(self.model, method, num_samples=num_samples)


def sections(cell: Cell, config: CompareConfig) -> tuple[str, ...]:
    """What a cell is asked: of a curve drawings and scenes alone."""
    if not cell.is_main:
        return ("drawings", SCENES)
    first = cell.seed == config.seeds[0]
    frequency = first and cell.recipe in config.curves.frequency_recipes
    return ("drawings", SCENES, PAIRS, "retrieval", "probes", *["frequency"] * frequency)


def ask(section: str, asked: Asked, bar: Progress) -> dict[str, Any]:
    """The answers to one section."""
    of = asked.config.evaluation
    match section:
        case "drawings":
            return _drawings(asked, bar)
        case "scenes":
            return _captions(SCENES, build_scenes("noto", of.num_scenes, of.num_scenes), asked, bar)
        case "emoji-pairs":
            return _captions(PAIRS, build_emoji_pairs(max_items=of.num_pairs), asked, bar)
        case "retrieval":
            return _retrieval(asked, bar)
        case "probes":
            return probe(open_features(asked.model), of)
        case "frequency":
            return _frequency(asked, bar)
        case _:
            raise ValueError(section)


def probe(features: ImageFeatures, of: CompareEvaluationConfig) -> dict[str, Any]:
    """Few-shot probes of any features."""
    found = few_shot(features.features, probe_concepts(), of.shots)
    return {
        "features": features.name,
        "shots": {str(p.num_shots): {"right": p.hits, "strength": p.strength} for p in found},
    }


def name_by_pixels(of: CompareEvaluationConfig) -> dict[str, Any]:
    """The same drawings by their nearest neighbour in pixels, among unmoved ones of training.

    And by chance, in percent.
    """
    references = labelled_drawings(class_concepts(), TRAINING_VENDORS)
    scorer = PixelNeighbourScorer(*references)
    sets = drawing_sets(of.num_training, of.num_unseen, of.num_held_out)
    return {
        "method": "pixel 1-NN",
        "right": {
            name: name_drawings(scorer, items, lambda *_: None).right
            for name, items in sets.items()
        },
        "chance": {name: by_chance(items) for name, items in sets.items()},
    }


def _drawings(asked: Asked, bar: Progress) -> dict[str, Any]:
    of, methods = asked.config.evaluation, asked.methods.drawings
    sets = drawing_sets(of.num_training, of.num_unseen, of.num_held_out)
    by_method = {}
    for method in methods if asked.cell.is_main else methods[:1]:
        by_method[method] = _name(method, asked, sets, bar)
    return by_method.pop(methods[0]) | {
        "other_methods": by_method,
        "groups": {name: {i.id: i.group for i in items} for name, items in sets.items()},
    }


def _name(
    method: Method, asked: Asked, sets: Mapping[str, list[Item]], bar: Progress
) -> dict[str, Any]:
    scorer = asked.scorer(method)
    done, total = 0, sum(map(len, sets.values()))
    right, calibration = {}, {}
    for name, items in sets.items():
        named = name_drawings(scorer, items, lambda n, _, done=done: bar(done + n, total))  # type: ignore[misc]
        done += len(items)
        right[name] = named.right
        if name == UNSEEN:
            is_log_prob = scorer.info.unit == "nats"
            calibration = calibration_of(items, named.values, is_log_prob=is_log_prob)
    return {
        "method": method,
        "unit": scorer.info.unit,
        "right": right,
        "calibration": calibration,
        "cost": decision_cost(partial(asked.scorer, method), sets[UNSEEN][0].grid)._asdict(),
    }


def _captions(name: str, benchmark: Benchmark, asked: Asked, bar: Progress) -> dict[str, Any]:
    """By method; of the first one in the first seed with the controls that cost."""
    methods, found = asked.methods.captions, dict[str, Any]()
    first = asked.cell.is_main and asked.cell.seed == asked.config.seeds[0]
    for method in methods if asked.cell.is_main else methods[:1]:
        scorer = relative_to_nothing(asked.scorer(method))
        controls = first and method == methods[0]
        found[method] = judge(name, benchmark, scorer, controls=controls, progress=bar)
    return found


def _retrieval(asked: Asked, bar: Progress) -> dict[str, Any]:
    methods = (asked.methods.image_to_text, asked.methods.text_to_image)
    scorers = {method: relative_to_nothing(asked.scorer(method)) for method in methods}
    directions = Directions(*(scorers[method] for method in methods))
    gallery = scene_gallery(asked.config.evaluation.gallery)
    ranked = run_retrieval(gallery, directions, bar).retrieval._asdict()
    return {
        name: {
            "method": method,
            "ranks": dict(zip(found.ids, found.ranks.tolist(), strict=True)),
            "groups": dict(zip(found.ids, found.groups, strict=True)),
            "num_candidates": found.num_candidates,
        }
        for method, (name, found) in zip(methods, ranked.items(), strict=True)
    }


def _frequency(asked: Asked, bar: Progress) -> dict[str, Any]:
    method = asked.methods.drawings[0]
    items, captions = frequency_items(caption_counts(asked.sources))
    right = name_drawings(asked.scorer(method), items, bar).right
    return {"right": right, "captions": captions, "method": method}
