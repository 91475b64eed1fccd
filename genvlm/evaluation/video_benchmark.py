"""Benchmarks whose items are clips: pairs of a lawful and a broken one of the same beginning.

`run_video_benchmark` puts a scorer of clips and its controls to it, and writes the same log lines
as for pictures and texts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from genvlm.data.hashed import hash_rank
from genvlm.data.videos import VideoFrames
from genvlm.errors import DataError, EvaluationError, TokenError
from genvlm.evaluation.benchmark import Progress, check_any, failed_record, shared_fields
from genvlm.evaluation.cards import Card
from genvlm.evaluation.control_names import RANDOM
from genvlm.evaluation.measures import Target
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.rules import check_finite
from genvlm.scoring.protocols import ClipSet, Plausibility, VideoScorer

# Sets of four clips handed to a scorer in one call.
_CHUNK_SIZE = 8

ClipPairs = Sequence[tuple[VideoFrames, VideoFrames]]
"""A lawful and a broken clip each."""


@dataclass(frozen=True, kw_only=True)
class VideoItem:
    """One quadruplet. Its clips are made when they are needed, and not kept."""

    id: str
    load: Callable[[], ClipPairs]
    """Raises DataError: a clip that cannot be read."""
    group: str
    """Cluster of items that are not independent."""
    target: Target = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class VideoBenchmark:
    """Items with one decision rule, and the card that says what they mean."""

    name: str
    items: tuple[VideoItem, ...]
    card: Card
    version: str
    context: int
    """Frames that are given before surprise is measured."""

    def __post_init__(self) -> None:
        ids = {item.id for item in self.items}
        if not self.items or len(ids) != len(self.items):
            raise EvaluationError(
                f"benchmark {self.name}: {len(self.items)} items with {len(ids)} different ids; "
                "there must be at least one, and each id once"
            )


@dataclass(frozen=True)
class _Shown:
    """The clips of an item in the order in which scorers see them."""

    clips: ClipSet
    shape: tuple[int, int]
    order: np.ndarray

    def undo(self, values: np.ndarray) -> np.ndarray:
        """What was said of the clips shown, brought back to the benchmark's order."""
        restored = np.empty_like(values)
        restored[self.order] = values
        return restored


def run_video_benchmark(
    benchmark: VideoBenchmark,
    scorer: VideoScorer,
    controls: Mapping[str, VideoScorer],
    progress: Progress | None = None,
) -> list[ItemRecord]:
    """Score every clip with the scorer and with each control.

    An item with a clip that cannot be read or does not fit is recorded as failed with the reason;
    it counts neither as right nor as wrong. The clips of an item are shown in an order that follows
    from its id, so that a scorer cannot learn which of them are lawful.

    Raises:
        EvaluationError: a score is NaN or infinite, or every item failed.
    """
    if RANDOM in controls:
        raise EvaluationError(f"the control name {RANDOM!r} is taken: choose another")
    records: list[ItemRecord] = []
    for start in range(0, len(benchmark.items), _CHUNK_SIZE):
        chunk = benchmark.items[start : start + _CHUNK_SIZE]
        try:
            records += _score_chunk(benchmark, chunk, scorer, controls)
        except (DataError, TokenError):
            for item in chunk:  # one of them: find it, and keep the others
                try:
                    records += _score_chunk(benchmark, [item], scorer, controls)
                except (DataError, TokenError) as error:
                    records.append(failed_record(benchmark, item, scorer.info, str(error)))
        if progress is not None:
            progress(len(records), len(benchmark.items))
    check_any(records)
    return records


def _score_chunk(
    benchmark: VideoBenchmark,
    chunk: Sequence[VideoItem],
    scorer: VideoScorer,
    controls: Mapping[str, VideoScorer],
) -> list[ItemRecord]:
    shown = [_show(item) for item in chunk]
    sets = [one.clips for one in shown]
    own = scorer.score(sets)
    by_control = {name: control.score(sets) for name, control in controls.items()}
    records = []
    for k, (item, one) in enumerate(zip(chunk, shown, strict=True)):
        values = _values(one, own[k], "the scorer")
        latents = own[k].latents
        records.append(
            ItemRecord(
                **shared_fields(benchmark, item, scorer.info),
                scores=_rows(values),
                latents=() if latents is None else _rows(one.undo(latents)),
                credit=benchmark.card.decision.credit(values, item.target, item.id),
                controls={
                    name: _rows(_values(one, found[k], f"control {name!r}"))
                    for name, found in by_control.items()
                },
                image_order=tuple(one.order.tolist()),
            )
        )
    return records


def _show(item: VideoItem) -> _Shown:
    pairs = item.load()
    clips = [clip for pair in pairs for clip in pair]
    order = np.random.default_rng(int(hash_rank(item.id)[:8], 16)).permutation(len(clips))
    shown = ClipSet(item_id=item.id, clips=[clips[k] for k in order])
    return _Shown(shown, (len(pairs), 2), order)


def _values(shown: _Shown, found: Plausibility, source: str) -> Float64[np.ndarray, "pairs 2"]:
    item_id, num = shown.clips.item_id, len(shown.clips.clips)
    if np.shape(found.values) != (num,):
        raise EvaluationError(
            f"item {item_id!r}: {source} gave scores of shape {np.shape(found.values)} for {num} "
            "clips"
        )
    restored = shown.undo(np.asarray(found.values, np.float64)).reshape(shown.shape)
    return check_finite(restored, item_id, source)


def _rows(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
