"""A benchmark is items + a rule + a card; `run_benchmark` puts a scorer and its controls to it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int64

from genvlm.data.images import RGBImage
from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import Card
from genvlm.evaluation.decisions import RuleName
from genvlm.evaluation.measures import Target
from genvlm.evaluation.records import ControlEvidence, ItemRecord
from genvlm.evaluation.rules import check_finite
from genvlm.evaluation.summary import RANDOM, SHUFFLED
from genvlm.scoring.protocols import Grid, Scorer, Scores

CHUNK_SIZE = 64
Progress = Callable[[int, int], None]
"""Called with the number of items done and the number of all items."""


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


@dataclass(frozen=True)
class Benchmark:
    """Items with one decision rule, and the card that says what they mean."""

    name: str
    rule: RuleName
    items: tuple[Item, ...]
    card: Card
    version: str
    """The card's version, followed by every option that differs from its default."""

    def __post_init__(self) -> None:
        ids = {item.grid.item_id for item in self.items}
        if not self.items or len(ids) != len(self.items):
            raise EvaluationError(
                f"benchmark {self.name}: {len(self.items)} items with {len(ids)} different ids; "
                "there must be at least one, and each id once"
            )


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

    The order of images and texts shown to a scorer is shuffled by a seed from the item's id, and
    undone in the record. Chance is analytic and needs no run.

    Args:
        shuffled: also score each item's texts against the images of an item of another group.
        chunk_size: grids handed to a scorer in one call.

    Raises:
        EvaluationError: a score is NaN or infinite, or of the wrong shape; the item is named.
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
        shown = [_show(item.grid) for item in chunk]
        scores = _score(scorer, shown, "the scorer")
        by_control = {
            name: _score(control, shown, f"control {name!r}") for name, control in controls.items()
        }
        if partners is not None:
            images = [items[partners[start + k]].grid.images for k in range(len(chunk))]
            exchanged = [s.with_images(i) for s, i in zip(shown, images, strict=True)]
            by_control[SHUFFLED] = _score(scorer, exchanged, f"control {SHUFFLED!r}")
        for k, item in enumerate(chunk):
            item_controls = {name: _rows(found[k].values) for name, found in by_control.items()}
            records.append(_record(benchmark, item, shown[k], scores[k], item_controls, scorer))
        if progress is not None:
            progress(len(records), len(items))
    return records


def derange(groups: Sequence[str]) -> Int64[np.ndarray, " items"]:
    """For each item another item of another group; each item is used once.

    Items are ordered by group and shifted by the size of the largest one, which always works
    while that one holds at most half of the items.
    """
    _, membership, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    if 2 * sizes.max() > len(groups):
        raise EvaluationError(
            f"images cannot be exchanged between groups: one group holds {sizes.max()} of "
            f"{len(groups)} items; take more items, or run without the shuffled-image control"
        )
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


def _record(
    benchmark: Benchmark,
    item: Item,
    shown: _Shown,
    scores: Scores,
    controls: Mapping[str, ControlEvidence],
    scorer: Scorer,
) -> ItemRecord:
    tokens = scores.num_tokens
    return ItemRecord(
        id=item.grid.item_id,
        group=item.group,
        tags=item.tags,
        benchmark=benchmark.name,
        version=benchmark.version,
        num_items=len(benchmark.items),
        rule=benchmark.rule,
        target=item.target,
        order_seed=shown.seed,
        image_order=tuple(shown.image_order.tolist()),
        text_order=tuple(shown.text_order.tolist()),
        scores=_rows(scores.values),
        num_tokens=None if tokens is None else _rows(tokens),
        credit=benchmark.card.decision.credit(scores.values, item.target, item.grid.item_id),
        controls=dict(controls),
        fingerprint=scorer.info.fingerprint,
        scorer=scorer.info.name,
        dtype=_dtype(scorer),
    )


def _dtype(scorer: Scorer) -> str | None:
    dtype = scorer.info.settings.get("dtype")
    return None if dtype is None else str(dtype)


def _rows(matrix: np.ndarray) -> tuple[tuple, ...]:
    return tuple(tuple(row) for row in matrix.tolist())
