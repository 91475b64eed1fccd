"""Benchmarks of clips, with a model's likelihood and its controls, from a model to a log."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from genvlm.data.hashed import hash_rank
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmarks.intphys import build_intphys
from genvlm.evaluation.benchmarks.physics import NUM_QUADRUPLETS, build_physics
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize
from genvlm.evaluation.video_benchmark import VideoBenchmark, run_video_benchmark
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.cache import CachedVideoScorer, ValueCache
from genvlm.scoring.protocols import VideoScorer
from genvlm.scoring.video_scorers import (
    ConstantVideoScorer,
    FrameDifferenceScorer,
    ShuffledFramesScorer,
    SingleFrameScorer,
    UntrainedScorer,
    VideoCodeCache,
    VideoLikelihoodScorer,
)

PHYSICS, INTPHYS = "physics", "intphys"
VIDEO_BENCHMARKS = (PHYSICS, INTPHYS)


@dataclass(frozen=True)
class VideoEvaluation:
    """A benchmark of clips that was run."""

    benchmark: VideoBenchmark
    records: list[ItemRecord]
    summary: Summary


def build_video_benchmark(
    name: str, *, data: Path | None = None, limit: int | None = None
) -> VideoBenchmark:
    """One of the benchmarks of clips.

    Args:
        data: the folder of IntPhys; physics is simulated.
        limit: quadruplets of each law, or sets of IntPhys, as a smaller, other version.

    Raises:
        EvaluationError: no such benchmark, or IntPhys without a folder.
        DataError: a folder that is not laid out as IntPhys.
    """
    if name == PHYSICS:
        return build_physics(NUM_QUADRUPLETS if limit is None else limit)
    if name != INTPHYS:
        raise EvaluationError(f"no benchmark {name!r}: choose one of {', '.join(VIDEO_BENCHMARKS)}")
    if data is None:
        raise EvaluationError(f"{INTPHYS} is not shipped: give --data FOLDER, its dev set")
    benchmark = build_intphys(data)
    if limit is None or limit >= len(benchmark.items):
        return benchmark
    items = tuple(sorted(benchmark.items, key=lambda item: hash_rank(item.id))[:limit])
    return replace(benchmark, items=items, version=f"{benchmark.version}+limit={limit}")


def evaluate_videos(
    benchmark: VideoBenchmark,
    pretrained: PretrainedModel,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VideoEvaluation:
    """Score all clips by their likelihood behind the context, and by every control.

    Args:
        cache: a file that keeps what the model and the controls made of it say, so that an
            interrupted run goes on.

    Raises:
        ConfigError: a model without video tokenizer, or one that the context does not fit.
        EvaluationError: every item failed.
    """
    codes = VideoCodeCache(pretrained)
    scorer: VideoScorer = VideoLikelihoodScorer(pretrained, benchmark.context, codes)
    controls = _controls(pretrained, benchmark.context, codes)
    if cache is not None:
        values = ValueCache(cache)
        scorer = CachedVideoScorer(scorer, values)
        costly = {n: c for n, c in controls.items() if c.info.unit == "nats"}
        controls |= {name: CachedVideoScorer(c, values) for name, c in costly.items()}
    records = run_video_benchmark(benchmark, scorer, controls, progress)
    return VideoEvaluation(benchmark, records, summarize(records, benchmark.card))


def _controls(
    pretrained: PretrainedModel, context: int, codes: VideoCodeCache
) -> dict[str, VideoScorer]:
    """By the names that the cards know them by."""
    return {
        "constant": ConstantVideoScorer(),
        "frame difference": FrameDifferenceScorer(context),
        "single frame": SingleFrameScorer(pretrained, context),
        "shuffled frames": ShuffledFramesScorer(pretrained, context, codes),
        "untrained": UntrainedScorer(pretrained, context, codes),
    }
