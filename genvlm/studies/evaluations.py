"""The project's own benchmarks with their scorers and controls, from a model to a summary."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genvlm.data.emoji import TRAINING_VENDORS, UNSEEN_VENDOR, Vendor, load_concepts
from genvlm.data.scenes import render_scene, sample_scenes
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmark import Benchmark, run_benchmark
from genvlm.evaluation.benchmarks.emoji_classes import (
    NUM_CLASSES,
    build_emoji_classes,
    class_concepts,
    labelled_drawings,
)
from genvlm.evaluation.benchmarks.emoji_pairs import build_emoji_pairs
from genvlm.evaluation.benchmarks.scenes import build_scenes
from genvlm.evaluation.records import ItemRecord, write_records
from genvlm.evaluation.summary import Summary, summarize
from genvlm.models.pretrained import PretrainedModel
from genvlm.nn.whole_files import write_whole
from genvlm.scoring.autoregressive import BlindScorer, Direction, LikelihoodScorer
from genvlm.scoring.controls import (
    CaptionTransferScorer,
    ConstantScorer,
    FormatScorer,
    LengthScorer,
    PixelNeighbourScorer,
)
from genvlm.scoring.protocols import Scorer


@dataclass(frozen=True, kw_only=True)
class SceneSet:
    """Whose icons a scene benchmark shows, and how rich its scenes are."""

    vendor: Vendor = "noto"
    three: float = 0.0
    """Probability of a third icon."""
    counts: float = 0.0
    """Probability that a two-icon scene has counts of one to three."""


SCENE_SETS = {
    "scenes": SceneSet(),
    "scenes-fluent": SceneSet(vendor=UNSEEN_VENDOR),
    "scenes-rich": SceneSet(three=0.35, counts=0.5),
    "scenes-rich-fluent": SceneSet(vendor=UNSEEN_VENDOR, three=0.35, counts=0.5),
}
PAIRS, CLASSES = "emoji-pairs", "emoji-classes"
BENCHMARKS = (*SCENE_SETS, PAIRS, CLASSES)
NEIGHBOUR = "pixel 1-NN"
# Pictures that the neighbour of a scene is sought among.
_REFERENCE_SCENES = 4000


@dataclass(frozen=True)
class Evaluation:
    """A benchmark that was run."""

    benchmark: Benchmark
    records: list[ItemRecord]
    summary: Summary


def check_benchmark(name: str) -> None:
    """Raises EvaluationError: no benchmark of that name."""
    if name not in BENCHMARKS:
        raise EvaluationError(f"no benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")


def build_benchmark(name: str, *, limit: int | None = None) -> Benchmark:
    """One of the project's benchmarks; `limit` cuts each of its sets (an honest, smaller version).

    Raises:
        EvaluationError: no benchmark of that name.
    """
    check_benchmark(name)
    if name in SCENE_SETS:
        n, of = 400 if limit is None else limit, SCENE_SETS[name]
        return build_scenes(of.vendor, n, n, three=of.three, counts=of.counts)
    if name == PAIRS:
        return build_emoji_pairs(max_items=1000 if limit is None else limit)
    return build_emoji_classes(num_shown=min(limit or NUM_CLASSES, NUM_CLASSES))


def build_controls(name: str, pretrained: PretrainedModel) -> dict[str, Scorer]:
    """Controls of one benchmark: constant, length, format, blind, pixel 1-nearest-neighbour."""
    controls: dict[str, Scorer] = {
        "constant": ConstantScorer(),
        "length": LengthScorer(),
        "format": FormatScorer(),
        "blind": BlindScorer(pretrained),
    }
    if name in SCENE_SETS:
        of = SCENE_SETS[name]
        scenes = list(sample_scenes(_REFERENCE_SCENES, 0, three=of.three, counts=of.counts))
        pictures = [render_scene(s, "noto") for s in scenes]
        controls[NEIGHBOUR] = CaptionTransferScorer(pictures, [s.caption for s in scenes])
    else:
        concepts = class_concepts() if name == CLASSES else load_concepts()
        references = labelled_drawings(concepts, TRAINING_VENDORS)
        controls[NEIGHBOUR] = PixelNeighbourScorer(*references)
    return controls


def default_direction(name: str) -> Direction:
    """Classes by Bayes' rule on log p(image | text), scenes and pairs by log p(text | image).

    The latter was chosen after a first demo model had shown it to be the better one.
    """
    return "image_given_text" if name == CLASSES else "text_given_image"


def limit_of(version: str) -> int | None:
    """The `limit` that a benchmark of this version was built with."""
    found = re.search(r"\b(?:swapped|max_items|num_shown)=(\d+)", version)
    return int(found[1]) if found else None


def evaluate(
    name: str,
    pretrained: PretrainedModel,
    *,
    direction: Direction | None = None,
    alpha: float = 0.0,
    limit: int | None = None,
    shuffled: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run one benchmark with its controls.

    Args:
        direction: what is scored; by default `default_direction`.
        limit: items per set, for a smaller version.
        shuffled: add the shuffled-image control, which costs as much as the scorer itself.
    """
    benchmark = build_benchmark(name, limit=limit)
    records = run_benchmark(
        benchmark,
        LikelihoodScorer(pretrained, direction or default_direction(name), alpha=alpha),
        build_controls(name, pretrained),
        progress,
        shuffled=shuffled,
    )
    return Evaluation(benchmark, records, summarize(records, benchmark.card))


def save_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `items.jsonl` (the log) and `summary.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_records(evaluation.records, folder / "items.jsonl")
    write_whole(folder / "summary.json", json.dumps(evaluation.summary.to_json(), indent=1))
