"""The project's own benchmarks with their scorers and controls, from a model to a summary."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genvlm.data.emoji import TRAINING_VENDORS, load_concepts
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
from genvlm.scoring.autoregressive import BlindScorer, Direction, LikelihoodScorer
from genvlm.scoring.controls import (
    CaptionTransferScorer,
    ConstantScorer,
    FormatScorer,
    LengthScorer,
    PixelNeighbourScorer,
)
from genvlm.scoring.protocols import Scorer

BENCHMARKS = ("scenes", "emoji-pairs", "emoji-classes")
# Sets of each, which `limit` cuts one by one: swapped and replaced scenes; vendors of the classes.
NUM_SETS = {"scenes": 2, "emoji-pairs": 1, "emoji-classes": 3}
NEIGHBOUR = "pixel 1-NN"
# Classes by Bayes' rule on log p(image | text). Scenes and pairs by log p(text | image), chosen
# after a first demo model had shown it to be the better one; `--direction` gives the other.
DIRECTIONS: dict[str, Direction] = {
    "scenes": "text_given_image",
    "emoji-pairs": "text_given_image",
    "emoji-classes": "image_given_text",
}
# Pictures that the neighbour of a scene is sought among.
_REFERENCE_SCENES = 4000


@dataclass(frozen=True)
class Evaluation:
    """A benchmark that was run."""

    benchmark: Benchmark
    records: list[ItemRecord]
    summary: Summary


def build_benchmark(name: str, *, limit: int | None = None) -> Benchmark:
    """One of the project's benchmarks; `limit` cuts each of its sets (an honest, smaller version).

    Raises:
        EvaluationError: no benchmark of that name.
    """
    match name:
        case "scenes":
            n = limit or 400
            return build_scenes(num_swapped=n, num_replaced=n)
        case "emoji-pairs":
            return build_emoji_pairs(max_items=limit or 1000)
        case "emoji-classes":
            return build_emoji_classes(num_shown=limit or NUM_CLASSES)
    raise EvaluationError(f"no benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")


def build_controls(name: str, pretrained: PretrainedModel) -> dict[str, Scorer]:
    """Controls of one benchmark: constant, length, format, blind, pixel 1-nearest-neighbour."""
    controls: dict[str, Scorer] = {
        "constant": ConstantScorer(),
        "length": LengthScorer(),
        "format": FormatScorer(),
        "blind": BlindScorer(pretrained),
    }
    match name:
        case "scenes":
            scenes = list(sample_scenes(_REFERENCE_SCENES, 0))
            pictures = [
                render_scene(s, "noto", np.random.default_rng([0, i, 1]))
                for i, s in enumerate(scenes)
            ]
            controls[NEIGHBOUR] = CaptionTransferScorer(pictures, [s.caption for s in scenes])
        case "emoji-pairs":
            references = labelled_drawings(load_concepts(), TRAINING_VENDORS)
            controls[NEIGHBOUR] = PixelNeighbourScorer(*references)
        case "emoji-classes":
            references = labelled_drawings(class_concepts(), TRAINING_VENDORS)
            controls[NEIGHBOUR] = PixelNeighbourScorer(*references)
    return controls


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
        direction: what is scored; by default the benchmark's own of `DIRECTIONS`.
        limit: items per set, for a smaller version.
        shuffled: add the shuffled-image control, which costs as much as the scorer itself.
    """
    benchmark = build_benchmark(name, limit=limit)
    records = run_benchmark(
        benchmark,
        LikelihoodScorer(pretrained, direction or DIRECTIONS[name], alpha=alpha),
        build_controls(name, pretrained),
        progress,
        shuffled=shuffled,
    )
    return Evaluation(benchmark, records, summarize(records, benchmark.card))


def save_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `items.jsonl` (the log) and `summary.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_records(evaluation.records, folder / "items.jsonl")
    temporary = folder / "summary.json.tmp"
    temporary.write_text(json.dumps(evaluation.summary.to_json(), indent=1))
    temporary.replace(folder / "summary.json")
