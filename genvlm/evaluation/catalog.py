"""Every benchmark that is made of files: how it is built, asked, and how its predictions are read.

A name is BENCHMARK or BENCHMARK/PART, such as sugarcrepe/add_att.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from genvlm.config.assets import asset_path
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmark import Benchmark, scored_record
from genvlm.evaluation.benchmarks.aro import PARTS as ARO_PARTS
from genvlm.evaluation.benchmarks.aro import build_aro
from genvlm.evaluation.benchmarks.captions import PARTS as CAPTION_PARTS
from genvlm.evaluation.benchmarks.captions import ask_captions, read_captions
from genvlm.evaluation.benchmarks.chair import ask_chair, read_chair
from genvlm.evaluation.benchmarks.dsg import PARTS as DSG_PARTS
from genvlm.evaluation.benchmarks.dsg import ask_dsg, read_dsg
from genvlm.evaluation.benchmarks.geneval import ask_geneval, read_geneval
from genvlm.evaluation.benchmarks.grasp import PARTS as GRASP_PARTS
from genvlm.evaluation.benchmarks.grasp import ask_grasp
from genvlm.evaluation.benchmarks.imagefolder import build_imagefolder
from genvlm.evaluation.benchmarks.pope import SPLITS, ask_pope, read_pope
from genvlm.evaluation.benchmarks.ratings import build_clipscore, build_vqascore, read_ratings
from genvlm.evaluation.benchmarks.scienceqa import PARTS as SCIENCEQA_PARTS
from genvlm.evaluation.benchmarks.scienceqa import ask_scienceqa, read_scienceqa
from genvlm.evaluation.benchmarks.sugarcrepe import (
    CATEGORIES,
    ask_sugarcrepe,
    build_sugarcrepe,
    read_sugarcrepe,
)
from genvlm.evaluation.benchmarks.tifa import ask_tifa, build_tifa, read_tifa, read_tifa_answers
from genvlm.evaluation.benchmarks.vqa import ask_vqa, read_vqa
from genvlm.evaluation.benchmarks.winoground import build_winoground, read_winoground
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.predictions import (
    Predictions,
    judge_answers,
    judge_scores,
    read_plain_predictions,
    refuse_other_formats,
)
from genvlm.evaluation.questions import QuestionBenchmark, answered_record, keep_named
from genvlm.evaluation.records import ItemRecord, Said
from genvlm.scoring.controls import ConstantScorer, FormatScorer, LengthScorer
from genvlm.scoring.ngram import LeftOutNGramScorer
from genvlm.scoring.protocols import Grid, Scorer, ScorerInfo

AnyBenchmark: TypeAlias = Benchmark | QuestionBenchmark
Build = Callable[[DataFolder, str, Path | None], Benchmark]
Ask = Callable[[DataFolder, str, Path | None], QuestionBenchmark]
Read = Callable[[DataFolder, str, Sequence[Path], str | None], Predictions]


@dataclass(frozen=True, kw_only=True)
class FileBenchmark:
    """One benchmark. At least one of `build` and `ask` is there."""

    parts: tuple[str, ...] = ()
    """Names behind the slash; without one, all of them together unless `needs_part`."""
    needs_part: bool = False
    build: Build | None = None
    """As grids for a scorer."""
    ask: Ask | None = None
    """As questions for an answerer."""
    read: Read
    """Predictions in the benchmark's own format."""
    chosen: str = ""
    """What the ids name ("images") where predictions are of a chosen part of the items, and only
    that part is judged; empty where each item is expected."""


FILE_BENCHMARKS: dict[str, FileBenchmark] = {
    "winoground": FileBenchmark(build=build_winoground, read=read_winoground),
    "sugarcrepe": FileBenchmark(
        parts=CATEGORIES, build=build_sugarcrepe, ask=ask_sugarcrepe, read=read_sugarcrepe
    ),
    "pope": FileBenchmark(parts=SPLITS, ask=ask_pope, read=read_pope),
    "chair": FileBenchmark(ask=ask_chair, read=read_chair, chosen="images"),
    "captions": FileBenchmark(parts=CAPTION_PARTS, ask=ask_captions, read=read_captions),
    "vqa": FileBenchmark(ask=ask_vqa, read=read_vqa),
    "scienceqa": FileBenchmark(parts=SCIENCEQA_PARTS, ask=ask_scienceqa, read=read_scienceqa),
    "geneval": FileBenchmark(ask=ask_geneval, read=read_geneval),
    "imagefolder": FileBenchmark(build=build_imagefolder, read=refuse_other_formats),
    "aro": FileBenchmark(
        parts=ARO_PARTS, needs_part=True, build=build_aro, read=refuse_other_formats
    ),
    "grasp": FileBenchmark(
        parts=GRASP_PARTS, needs_part=True, ask=ask_grasp, read=refuse_other_formats
    ),
    "dsg": FileBenchmark(parts=DSG_PARTS, needs_part=True, ask=ask_dsg, read=read_dsg),
    "tifa": FileBenchmark(build=build_tifa, read=read_tifa),
    "tifa-questions": FileBenchmark(ask=ask_tifa, read=read_tifa_answers),
    "vqascore": FileBenchmark(
        parts=("t2vscore", "pairs"), needs_part=True, build=build_vqascore, read=read_ratings
    ),
    "clipscore": FileBenchmark(build=build_clipscore, read=read_ratings),
}


def find_benchmark(name: str) -> tuple[FileBenchmark, str]:
    """A benchmark and its part ("" for all), from BENCHMARK/PART.

    Raises:
        EvaluationError: no such benchmark or part; all there are are named.
    """
    base, _, part = name.partition("/")
    if base not in FILE_BENCHMARKS:
        raise EvaluationError(
            f"no benchmark {base!r} made of files: choose one of {', '.join(FILE_BENCHMARKS)}"
        )
    found = FILE_BENCHMARKS[base]
    if part and part not in found.parts:
        offered = f"choose one of {', '.join(found.parts)}" if found.parts else "it has none"
        raise EvaluationError(f"{base} has no part {part!r}: {offered}")
    if not part and found.needs_part:
        parts = ", ".join(f"{base}/{one}" for one in found.parts)
        raise EvaluationError(f"{base} is several benchmarks: name one of {parts}")
    return found, part


def shipped_data() -> DataFolder:
    """The folder that ships with the package."""
    return DataFolder(asset_path("eval/data"))


def judge_predictions(
    name: str, paths: Sequence[Path], data: DataFolder, column: str | None = None
) -> tuple[AnyBenchmark, list[ItemRecord]]:
    """Log lines of released predictions, in the benchmark's own format or ours."""
    source, part = find_benchmark(name)
    predictions = read_plain_predictions(paths) or source.read(data, part, paths, column)
    if predictions.answers:
        if source.ask is None:
            raise EvaluationError(f"{name} takes scores, and {paths[0]} holds answers")
        asked = source.ask(data, part, None)
        if source.chosen:
            asked = keep_named(asked, predictions.answers, source.chosen)
        return asked, judge_answers(asked, predictions)
    if source.build is None:
        raise EvaluationError(f"{name} takes answers, and {paths[0]} holds none")
    scored = source.build(data, part, None)
    return scored, judge_scores(scored, predictions, score_texts(scored))


def audit(name: str, data: DataFolder) -> tuple[AnyBenchmark, list[ItemRecord]]:
    """What is reached without any picture: the first control in the place of a scorer, beside all.

    It stands among the controls as well, so that it is judged as they are.
    """
    source, part = find_benchmark(name)
    if source.build is not None:
        scored = source.build(data, part, None)
        controls = score_texts(scored)
        constant = controls["constant"]
        return scored, [
            scored_record(
                scored,
                item,
                ConstantScorer.info,
                constant[item.id],
                {name: found[item.id] for name, found in controls.items()},
            )
            for item in scored.items
        ]
    assert source.ask is not None
    asked = source.ask(data, part, None)
    if not asked.controls:
        raise EvaluationError(f"{name} has no control that needs no picture: nothing to audit")
    first = next(iter(asked.controls))
    info = ScorerInfo(name=first, unit="arbitrary")
    return asked, [
        answered_record(
            asked,
            item,
            info,
            [
                Said(question=q, prompt=None, raw=a or "", parsed=a, parse_rule="control")
                for q, a in asked.controls[first][item.id].items()
            ],
            {name: given[item.id] for name, given in asked.controls.items()},
        )
        for item in asked.items
    ]


def text_controls(benchmark: Benchmark) -> dict[str, Scorer]:
    """Scorers that read the texts alone, as far as these are known."""
    constant: dict[str, Scorer] = {"constant": ConstantScorer()}
    if not benchmark.texts_known:
        return constant
    controls = {**constant, "length": LengthScorer(), "format": FormatScorer()}
    if benchmark.natural:
        controls["n-gram"] = LeftOutNGramScorer(benchmark.natural)
    return controls


def score_texts(benchmark: Benchmark) -> dict[str, dict[str, np.ndarray]]:
    """Their scores by control and item; pictures are not touched."""
    # A scorer of texts asks a grid for the number of its pictures, and for nothing more.
    grids: list[Grid] = [item.grid for item in benchmark.items]
    return {
        name: {
            grid.item_id: scores.values
            for grid, scores in zip(grids, control.score(grids), strict=True)
        }
        for name, control in text_controls(benchmark).items()
    }
