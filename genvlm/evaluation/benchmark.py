"""A benchmark is items + a rule + a card; `run_benchmark` puts a scorer and its controls to it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64

from genvlm.data.images import RGBImage
from genvlm.errors import DataError, EvaluationError, TokenError
from genvlm.evaluation.cards import Card
from genvlm.evaluation.control_names import RANDOM, SHUFFLED
from genvlm.evaluation.measures import Target
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.rules import check_finite
from genvlm.scoring.ngram import FoldItem
from genvlm.scoring.protocols import Grid, Scorer, ScorerInfo, Scores

CHUNK_SIZE = 64
Progress = Callable[[int, int], None]
"""Called with the number of items (of a gallery: of pairs) done and the number of all."""


@dataclass(frozen=True)
class Item:
    """One question: a grid of images and texts, and what is right."""

    grid: Grid
    group: str
    """Cluster of items that share a picture, a pair or a sentence frame."""
    target: Target
    """What is right, in the form that the rule says (`build_rule`)."""
    tags: tuple[str, ...]
    """Categories that are reported apart."""

    @property
    def id(self) -> str:
        """Stable id from the source."""
        return self.grid.item_id


@dataclass(frozen=True)
class Benchmark:
    """Items with one decision rule, and the card that says what they mean."""

    name: str
    items: tuple[Item, ...]
    card: Card
    version: str
    """The card's version, followed by every option that differs from its default."""
    texts_known: bool = True
    """False where the texts may not be shipped: only released scores can be judged then."""
    natural: Mapping[str, FoldItem] = field(default_factory=dict)
    """By item id, what the n-gram control is fitted and tested on; may hold items of other parts.
    Empty where no text is more natural than another."""

    def __post_init__(self) -> None:
        ids = {item.grid.item_id for item in self.items}
        if not self.items or len(ids) != len(self.items):
            raise EvaluationError(
                f"benchmark {self.name}: {len(self.items)} items with {len(ids)} different ids; "
                "there must be at least one, and each id once"
            )


class Described(Protocol):
    """What every benchmark has, whether its items are scored or asked."""

    @property
    def name(self) -> str: ...
    @property
    def card(self) -> Card: ...
    @property
    def version(self) -> str: ...
    @property
    def items(self) -> Sequence["DescribedItem"]: ...


class DescribedItem(Protocol):
    """What every item has."""

    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def target(self) -> Target: ...
    @property
    def tags(self) -> tuple[str, ...]: ...


def build_version(card: Card, **options: tuple[object, object]) -> str:
    """The card's version and each option (value, default) that is not at its default."""
    changed = [f"{k}={value}" for k, (value, default) in options.items() if value != default]
    return "+".join([card.version, *changed])


def run_benchmark(
    benchmark: Benchmark,
    scorer: Scorer,
    controls: Mapping[str, Scorer] | None = None,
    progress: Progress | None = None,
    *,
    shuffled: bool = True,
    chunk_size: int = CHUNK_SIZE,
) -> list[ItemRecord]:
    """Score every item with the scorer and with each control.

    An item whose picture cannot be read, or whose text does not fit, is recorded as failed with the
    reason; it counts neither as right nor as wrong. The order of images and texts shown to a scorer
    is shuffled by a seed from the item's id, and undone in the record. Chance is analytic and needs
    no run.

    Args:
        shuffled: also score each item's texts against the images of an item of another group.
        chunk_size: grids handed to a scorer in one call.

    Raises:
        EvaluationError: a score is NaN or infinite, or of the wrong shape (the item is named), or
            every item failed.
    """
    controls = dict(controls or {})
    for reserved in (RANDOM, SHUFFLED):
        if reserved in controls:
            raise EvaluationError(f"the control name {reserved!r} is taken: choose another")
    items = benchmark.items
    partners = derange([item.group for item in items]) if shuffled else None
    records: list[ItemRecord] = []
    for start in range(0, len(items), chunk_size):
        chunk = items[start : start + chunk_size]
        others = None if partners is None else [items[p] for p in partners[start:][: len(chunk)]]
        try:
            records += _score_chunk(benchmark, chunk, others, scorer, controls)
        except (DataError, TokenError):
            # One of them: find it, and keep the others.
            for k, item in enumerate(chunk):
                exchanged = None if others is None else _candidates(others[k], item, items)
                records.append(_score_alone(benchmark, item, exchanged, scorer, controls))
        if progress is not None:
            progress(len(records), len(items))
    check_any(records)
    return records


def _candidates(partner: Item, item: Item, items: Sequence[Item]) -> Iterator[Item]:
    """Whose pictures an item may be shown: its partner's, else those of any other group."""
    yield partner
    shape = len(item.grid.images)
    yield from (o for o in items if o.group != item.group and len(o.grid.images) == shape)


def _score_alone(
    benchmark: Benchmark,
    item: Item,
    candidates: Iterator[Item] | None,
    scorer: Scorer,
    controls: Mapping[str, Scorer],
) -> ItemRecord:
    """One item, failed if it is its own fault, else beside the first other whose pictures do."""
    try:
        (record,) = _score_chunk(benchmark, [item], None, scorer, controls)
    except (DataError, TokenError) as error:
        return failed_record(benchmark, item, scorer.info, str(error))
    for other in candidates or ():
        try:
            (record,) = _score_chunk(benchmark, [item], [other], scorer, controls)
        except (DataError, TokenError):
            continue
        break
    return record


def check_any(records: Sequence[ItemRecord]) -> None:
    """Raises EvaluationError: every item failed, with the first reason."""
    if all(record.status == "failed" for record in records):
        first = records[0]
        raise EvaluationError(
            f"all {len(records)} items of {first.benchmark} failed, {first.id!r} because: "
            f"{first.problem}"
        )


def failed_record(
    benchmark: Described, item: DescribedItem, info: ScorerInfo, problem: str
) -> ItemRecord:
    """The log line of an item that nothing can be said about."""
    return ItemRecord(
        **shared_fields(benchmark, item, info), status="failed", credit={}, problem=problem
    )


def shared_fields(benchmark: Described, item: DescribedItem, info: ScorerInfo) -> dict[str, Any]:
    """What every log line of a run holds, as arguments of `ItemRecord`."""
    dtype = info.settings.get("dtype")
    return {
        "id": item.id,
        "group": item.group,
        "tags": item.tags,
        "target": item.target,
        "benchmark": benchmark.name,
        "version": benchmark.version,
        "num_items": len(benchmark.items),
        "rule": benchmark.card.rule,
        "fingerprint": info.fingerprint,
        "scorer": info.label or info.name,
        "dtype": None if dtype is None else str(dtype),
    }


def scored_record(
    benchmark: Benchmark,
    item: Item,
    info: ScorerInfo,
    values: np.ndarray,
    controls: Mapping[str, np.ndarray],
    **more: Any,
) -> ItemRecord:
    """The log line of an item with scores in the benchmark's order; `more` as in `ItemRecord`."""
    return ItemRecord(
        **shared_fields(benchmark, item, info),
        scores=_rows(values),
        credit=benchmark.card.decision.credit(values, item.target, item.id),
        controls={name: _rows(matrix) for name, matrix in controls.items()},
        **more,
    )


def _score_chunk(
    benchmark: Benchmark,
    chunk: Sequence[Item],
    others: Sequence[Item] | None,
    scorer: Scorer,
    controls: Mapping[str, Scorer],
) -> list[ItemRecord]:
    shown = [_show(item.grid) for item in chunk]
    scores = _score(scorer, shown, "the scorer")
    by_control = {
        name: _score(control, shown, f"control {name!r}") for name, control in controls.items()
    }
    if others is not None:
        exchanged = [s.with_images(o.grid.images) for s, o in zip(shown, others, strict=True)]
        by_control[SHUFFLED] = _score(scorer, exchanged, f"control {SHUFFLED!r}")
    records = []
    for k, (item, one) in enumerate(zip(chunk, shown, strict=True)):
        tokens = scores[k].num_tokens
        records.append(
            scored_record(
                benchmark,
                item,
                scorer.info,
                scores[k].values,
                {name: found[k].values for name, found in by_control.items()},
                num_tokens=None if tokens is None else _rows(tokens),
                order_seed=one.seed,
                image_order=tuple(one.image_order.tolist()),
                text_order=tuple(one.text_order.tolist()),
            )
        )
    return records


def exchange_problem(groups: Sequence[str]) -> str:
    """Why not every item can have an item of another group for itself, or empty."""
    largest = max(Counter(groups).values())
    return f"one group holds {largest} of {len(groups)} items" if 2 * largest > len(groups) else ""


def derange(groups: Sequence[str]) -> Int64[np.ndarray, " items"]:
    """For each item another item of another group; each item is used once.

    Items are ordered by group and shifted by the size of the largest one, which always works
    while that one holds at most half of the items.

    Raises:
        EvaluationError: it holds more.
    """
    problem = exchange_problem(groups)
    if problem:
        raise EvaluationError(
            f"images cannot be exchanged between groups: {problem}; take more items, or run "
            "without the shuffled-image control"
        )
    _, membership, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = np.argsort(membership, kind="stable")
    partners = np.empty(len(groups), np.int64)
    partners[order] = np.roll(order, -int(sizes.max()))
    return partners


@dataclass(frozen=True)
class _Shown:
    """A grid in the order in which a scorer sees it."""

    grid: Grid
    seed: int
    image_order: Int64[np.ndarray, " images"]
    text_order: Int64[np.ndarray, " texts"]

    def with_images(self, images: Sequence[RGBImage]) -> "_Shown":
        """The same texts and order with other images."""
        if len(images) != len(self.grid.images):
            raise EvaluationError(
                f"item {self.grid.item_id!r}: cannot exchange {len(self.grid.images)} images "
                f"with {len(images)}; run without the shuffled-image control"
            )
        return replace(self, grid=replace(self.grid, images=[images[i] for i in self.image_order]))

    def undo(self, matrix: np.ndarray) -> np.ndarray:
        """A matrix in shown order, brought back to the benchmark's order."""
        restored = np.empty_like(matrix)
        restored[np.ix_(self.image_order, self.text_order)] = matrix
        return restored


def _show(grid: Grid) -> _Shown:
    seed = int.from_bytes(hashlib.sha256(grid.item_id.encode()).digest()[:4], "big")
    rng = np.random.default_rng(seed)
    image_order = rng.permutation(len(grid.images))
    text_order = rng.permutation(len(grid.texts))
    images = [grid.images[i] for i in image_order]
    texts = [grid.texts[i] for i in text_order]
    return _Shown(replace(grid, images=images, texts=texts), seed, image_order, text_order)


def _score(scorer: Scorer, shown: Sequence[_Shown], source: str) -> list[Scores]:
    results = scorer.score([s.grid for s in shown])
    if len(results) != len(shown):
        raise EvaluationError(f"{source} answered {len(results)} of {len(shown)} grids")
    restored = []
    for one, result in zip(shown, results, strict=True):
        shape = (len(one.grid.images), len(one.grid.texts))
        if np.shape(result.values) != shape:
            raise EvaluationError(
                f"item {one.grid.item_id!r}: {source} gave scores of shape "
                f"{np.shape(result.values)}, expected {shape} (images, texts)"
            )
        values = one.undo(np.asarray(result.values, np.float64))
        check_finite(values, one.grid.item_id, source)
        tokens = result.num_tokens
        restored.append(Scores(values, None if tokens is None else one.undo(np.asarray(tokens))))
    return restored


def _rows(matrix: np.ndarray) -> tuple[tuple, ...]:
    return tuple(tuple(row) for row in matrix.tolist())
