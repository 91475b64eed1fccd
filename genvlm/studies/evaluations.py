"""A benchmark with a scorer and its controls, from a model to a log, a summary and a report."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genvlm.data.emoji import (
    NUM_CLASSES,
    TRAINING_VENDORS,
    UNSEEN_VENDOR,
    Vendor,
    class_concepts,
    load_concepts,
)
from genvlm.data.hashed import hash_rank
from genvlm.data.images import ImageFiles, RGBImage
from genvlm.data.scenes import render_scene, sample_scenes
from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation.benchmark import (
    Benchmark,
    Item,
    exchange_problem,
    failed_record,
    run_benchmark,
)
from genvlm.evaluation.benchmarks.emoji_classes import build_emoji_classes, labelled_drawings
from genvlm.evaluation.benchmarks.emoji_pairs import build_emoji_pairs
from genvlm.evaluation.benchmarks.scenes import build_scenes
from genvlm.evaluation.catalog import (
    FILE_BENCHMARKS,
    AnyBenchmark,
    find_benchmark,
    shipped_data,
    text_controls,
)
from genvlm.evaluation.control_names import BLIND, SHUFFLED
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.questions import AskedItem, QuestionBenchmark, run_questions
from genvlm.evaluation.records import ItemRecord, write_records
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize
from genvlm.models.pretrained import PretrainedModel
from genvlm.nn.whole_files import write_whole
from genvlm.scoring.autoregressive import Direction, LikelihoodScorer
from genvlm.scoring.blind import NUM_UNRELATED, blind_control
from genvlm.scoring.cache import CachedAnswerer, CachedScorer, ValueCache
from genvlm.scoring.controls import CaptionTransferScorer, PixelNeighbourScorer
from genvlm.scoring.protocols import Answerer, Scorer, ScorerInfo
from genvlm.studies.video_evaluations import VIDEO_BENCHMARKS


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
VALIDATION = "emoji-classes-twemoji"
"""Unchanged Twemoji drawings of the classes: to choose settings of models that learn from Noto."""
DEMO_BENCHMARKS = (*SCENE_SETS, PAIRS, CLASSES)
BENCHMARKS = (*DEMO_BENCHMARKS, VALIDATION)
NEIGHBOUR = "pixel 1-NN"
# Pictures that the neighbour of a scene is sought among.
_REFERENCE_SCENES = 4000


@dataclass(frozen=True)
class Evaluation:
    """A benchmark that was run."""

    benchmark: AnyBenchmark
    records: list[ItemRecord]
    summary: Summary


def check_benchmark(name: str) -> None:
    """Raises EvaluationError: no benchmark of that name."""
    if name in (*BENCHMARKS, *VIDEO_BENCHMARKS):
        return
    if name.partition("/")[0] not in FILE_BENCHMARKS:
        known = ", ".join((*BENCHMARKS, *VIDEO_BENCHMARKS, *FILE_BENCHMARKS))
        raise EvaluationError(f"no benchmark {name!r}: choose one of {known}")
    find_benchmark(name)


def build_benchmark(name: str, *, limit: int | None = None) -> Benchmark:
    """One of the project's own benchmarks; `limit` cuts each of its sets (an honest, smaller
    version).

    Raises:
        EvaluationError: no benchmark of that name.
    """
    if name not in BENCHMARKS:
        raise EvaluationError(f"no own benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}")
    if name in SCENE_SETS:
        n, of = 400 if limit is None else limit, SCENE_SETS[name]
        return build_scenes(of.vendor, n, n, three=of.three, counts=of.counts)
    if name == PAIRS:
        return build_emoji_pairs(max_items=1000 if limit is None else limit)
    num_shown = min(limit or NUM_CLASSES, NUM_CLASSES)
    if name == VALIDATION:
        return build_emoji_classes(("twemoji",), num_shown=num_shown, moved=False)
    return build_emoji_classes(num_shown=num_shown)


def build_file_benchmark(
    name: str,
    data: DataFolder | None = None,
    images: Path | None = None,
    *,
    asked: bool,
) -> AnyBenchmark:
    """A benchmark made of files, as grids for a scorer or as questions for an answerer.

    Args:
        data: by default the folder that ships with the package.

    Raises:
        EvaluationError: no such benchmark, or it cannot be put to a scorer or to an answerer.
    """
    source, part = find_benchmark(name)
    build = source.ask if asked else source.build
    if build is None:
        how = "a scorer, not by an answerer" if asked else "an answerer: --method answers"
        raise EvaluationError(f"{name} is done by {how}")
    return build(data or shipped_data(), part, images)


def keep_some(benchmark: AnyBenchmark, limit: int | None) -> AnyBenchmark:
    """The items with the smallest hash of their id, as another version; all without a limit."""
    if limit is None or limit >= len(benchmark.items):
        return benchmark
    version = f"{benchmark.version}+limit={limit}"
    if isinstance(benchmark, Benchmark):
        scored = tuple(sorted(benchmark.items, key=lambda item: hash_rank(item.id))[:limit])
        return replace(benchmark, items=scored, version=version)
    questions = tuple(sorted(benchmark.items, key=lambda item: hash_rank(item.id))[:limit])
    return replace(benchmark, items=questions, version=version)


def build_controls(name: str, benchmark: Benchmark, scorer: Scorer) -> dict[str, Scorer]:
    """Controls of one benchmark: those that read texts alone, blind, pixel 1-nearest-neighbour.

    The neighbour belongs to our own benchmarks. Blind is not there where a model that needs
    unrelated pictures for it finds none.

    Args:
        benchmark: all of it, also where some items alone are run: which pictures are unrelated
            must not depend on that.
    """
    controls = text_controls(benchmark)
    most = max(len(item.grid.images) for item in benchmark.items)
    blind = blind_control(scorer, _pool_of_images(benchmark), most)
    if blind is not None:
        controls[BLIND] = blind
    if name in SCENE_SETS:
        of = SCENE_SETS[name]
        scenes = list(sample_scenes(_REFERENCE_SCENES, 0, three=of.three, counts=of.counts))
        pictures = [render_scene(s, "noto") for s in scenes]
        controls[NEIGHBOUR] = CaptionTransferScorer(pictures, [s.caption for s in scenes])
    elif name in BENCHMARKS:
        concepts = load_concepts() if name == PAIRS else class_concepts()
        vendors: tuple[Vendor, ...] = ("noto",) if name == VALIDATION else TRAINING_VENDORS
        references = labelled_drawings(concepts, vendors)
        controls[NEIGHBOUR] = PixelNeighbourScorer(*references)
    return controls


def _pool_of_images(benchmark: Benchmark) -> list[RGBImage]:
    """A few pictures of different groups, whichever can be read."""
    pool: dict[str, RGBImage] = {}
    for item in sorted(benchmark.items, key=lambda item: hash_rank(item.id)):
        if len(pool) > NUM_UNRELATED:
            break
        if item.group not in pool:
            try:
                pool[item.group] = item.grid.images[0]
            except DataError:
                continue
    return list(pool.values())


def default_direction(name: str) -> Direction:
    """Classes by Bayes' rule on log p(image | text), scenes and pairs by log p(text | image).

    The latter was chosen after a first demo model had shown it to be the better one.
    """
    classes = (CLASSES, VALIDATION, "imagefolder")
    return "image_given_text" if name in classes else "text_given_image"


def limit_of(version: str) -> int | None:
    """The `limit` that a benchmark of this version was built with."""
    found = re.search(r"\b(?:swapped|max_items|num_shown)=(\d+)", version)
    return int(found[1]) if found else None


def evaluate(
    name: str,
    pretrained: PretrainedModel,
    *,
    direction: Direction | None = None,
    limit: int | None = None,
    shuffled: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run one of the project's own benchmarks with its controls on one of our models.

    Args:
        direction: what is scored; by default `default_direction`.
        limit: items per set, for a smaller version.
        shuffled: add the shuffled-image control, which costs as much as the scorer itself.
    """
    benchmark = build_benchmark(name, limit=limit)
    scorer = LikelihoodScorer(pretrained, direction or default_direction(name))
    controls = build_controls(name, benchmark, scorer)
    return evaluate_scorer(benchmark, scorer, controls, shuffled=shuffled, progress=progress)


def evaluate_scorer(
    benchmark: Benchmark,
    scorer: Scorer,
    controls: dict[str, Scorer],
    *,
    shuffled: bool = True,
    blind: bool = True,
    allow_missing: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Run a benchmark with any scorer.

    Args:
        shuffled: add the shuffled-image control, where pictures can be exchanged.
        blind: run the control of that name. Controls that are left out are named in the result.
        allow_missing: items without their pictures fail; otherwise nothing is run.
        cache: a file that keeps every score of the scorer and of the blind control, so that an
            interrupted run goes on.

    Raises:
        EvaluationError: pictures are missing; they are counted and one is named.
    """
    present, absent = _split_missing(
        benchmark.items, benchmark.card.fetch, allow_missing=allow_missing
    )
    left_out = _left_out(present, shuffled=shuffled, blind=blind)
    if blind and BLIND not in controls:
        left_out[BLIND] = "no picture of another item is at hand"
    controls = {name: control for name, control in controls.items() if name not in left_out}
    if cache is not None:
        values = ValueCache(cache)
        scorer = CachedScorer(scorer, values)
        # Its fingerprint names the pictures that it averages over.
        controls |= {BLIND: CachedScorer(controls[BLIND], values)} if BLIND in controls else {}
    shown = replace(benchmark, items=present)
    run = run_benchmark(shown, scorer, controls, progress, shuffled=SHUFFLED not in left_out)
    return _evaluation(benchmark, run, absent, scorer.info, left_out)


def evaluate_answerer(
    benchmark: QuestionBenchmark,
    answerer: Answerer,
    *,
    shuffled: bool = True,
    blind: bool = True,
    allow_missing: bool = False,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask a benchmark's questions; arguments and errors as in `evaluate_scorer`."""
    present, absent = _split_missing(
        benchmark.items, benchmark.card.fetch, allow_missing=allow_missing
    )
    if cache is not None:
        answerer = CachedAnswerer(answerer, ValueCache(cache))
    left_out = _left_out(present, shuffled=shuffled, blind=blind)
    asked = replace(benchmark, items=present)
    run = run_questions(
        asked, answerer, progress, shuffled=SHUFFLED not in left_out, blind=BLIND not in left_out
    )
    return _evaluation(benchmark, run, absent, answerer.info, left_out)


def _left_out(items: Sequence[Item | AskedItem], *, shuffled: bool, blind: bool) -> dict[str, str]:
    """Controls that are not run, and why."""
    problem = exchange_problem([item.group for item in items]) if shuffled else "not asked for"
    reasons = {SHUFFLED: problem, BLIND: "" if blind else "not asked for"}
    return {name: reason for name, reason in reasons.items() if reason}


def save_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Write `items.jsonl` (the log) and `summary.json`."""
    save_log(evaluation.records, evaluation.summary, folder)


def save_log(records: Sequence[ItemRecord], summary: Summary, folder: Path) -> None:
    """The same of any run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_records(records, folder / "items.jsonl")
    write_whole(folder / "summary.json", json.dumps(summary.to_json(), indent=1))


def _split_missing(
    items: Sequence[Any], fetch: str, *, allow_missing: bool
) -> tuple[tuple[Any, ...], dict[str, Path]]:
    """Items whose pictures are there, and a missing path of each of the others, by id."""
    absent: dict[str, Path] = {}
    for item in items:
        pictures = (
            [q.images for q in item.questions.values()]
            if isinstance(item, AskedItem)
            else [item.grid.images]
        )
        for images in pictures:
            if isinstance(images, ImageFiles) and images.missing:
                absent[item.id] = images.missing[0]
    if absent and (not allow_missing or len(absent) == len(items)):
        first = next(iter(absent))
        raise EvaluationError(
            f"the pictures of {len(absent)} of {len(items)} items are missing, such as "
            f"{absent[first]} of {first!r}: {fetch or 'put them there'}, or evaluate the others "
            "with --allow-partial"
        )
    return tuple(item for item in items if item.id not in absent), absent


def _evaluation(
    benchmark: AnyBenchmark,
    run: Sequence[ItemRecord],
    absent: dict[str, Path],
    info: ScorerInfo,
    left_out: dict[str, str],
) -> Evaluation:
    num_items = len(benchmark.items)
    found = {r.id: replace(r, num_items=num_items, left_out=left_out) for r in run}
    for item in benchmark.items:
        if item.id in absent:
            problem = f"no picture at {absent[item.id].name}"
            found[item.id] = failed_record(benchmark, item, info, problem)
    records = [found[item.id] for item in benchmark.items]
    return Evaluation(benchmark, records, summarize(records, benchmark.card))
