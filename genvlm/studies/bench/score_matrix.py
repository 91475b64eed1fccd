"""`genvlm bench score-matrix`: every picture against every caption, in both directions."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from genvlm.evaluation.benchmarks.scenes import build_scenes
from genvlm.models.pretrained import PretrainedModel, load_pretrained
from genvlm.scoring.autoregressive import Direction, LikelihoodScorer
from genvlm.scoring.protocols import Grid
from genvlm.studies.bench.models import check_close
from genvlm.studies.bench.report import Result
from genvlm.studies.bench.score_text import TOLERANCE
from genvlm.studies.bench.timing import Settings, time_interleaved

_METHOD = (
    "`LikelihoodScorer.score` of one grid: held-out scenes of the benchmark `scenes`, each beside "
    "its swapped twin, and their captions, in float32; pictures are encoded anew each time. No "
    "other library stands beside it; before anything was timed, each picture with its own caption "
    "alone scored as it does in the matrix."
)


def run(settings: Settings, model: Path) -> Result:
    """Median seconds of either direction. Raises EvaluationError: pairs alone score otherwise."""
    torch.set_num_threads(settings.threads)
    num = 4 if settings.quick else 100
    pretrained, grid = load_pretrained(model), _scenes(num)
    pairs = [
        Grid(item_id=text, images=[image], texts=[text])
        for image, text in zip(grid.images, grid.texts, strict=True)
    ]
    tasks: dict[str, Callable[[], object]] = {}
    facts: dict[str, float | str] = {"model": pretrained.fingerprint[:12]}
    for direction in get_args(Direction):
        scorer = LikelihoodScorer(pretrained, direction)
        settings.say(f"comparing {scorer.info.name} with that of pairs alone")
        matrix = torch.from_numpy(scorer.score([grid])[0].values)
        alone = torch.tensor([float(scores.values[0, 0]) for scores in scorer.score(pairs)])
        check_close(scorer.info.name, matrix.diagonal(), alone, TOLERANCE)
        own = int((matrix.argmax(1) == torch.arange(num)).sum())
        facts[f"{scorer.info.name}, pictures that prefer their own caption"] = f"{own} of {num}"
        tasks[scorer.info.name] = partial(_score_anew, pretrained, direction, grid)
    settings.say("time")
    for name, seconds in time_interleaved(tasks, settings.num).items():
        facts[f"{name}, seconds"] = float(np.median(seconds))
    return Result(
        bench="score-matrix",
        shape=f"{num} pictures x {num} captions",
        method=_METHOD,
        settings=settings,
        rows=[],
        facts=facts,
    )


def _score_anew(pretrained: PretrainedModel, direction: Direction, grid: Grid) -> object:
    """By a new scorer: one that has seen a picture keeps its codes."""
    return LikelihoodScorer(pretrained, direction).score([grid])


def _scenes(num: int) -> Grid:
    grids = [item.grid for item in build_scenes(num_swapped=num // 2, num_replaced=0).items]
    return Grid(
        item_id="matrix",
        images=[image for grid in grids for image in grid.images],
        texts=[text for grid in grids for text in grid.texts],
    )
