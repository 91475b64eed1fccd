"""Retrieval from a gallery: at which rank a query finds the first of what belongs to it.

A query takes every candidate of the other kind, best score first (Karpathy and Fei-Fei 2015). Of
candidates that score alike the wrong ones stand first, so that a constant scorer finds nothing.
Pure functions of score matrices.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from genvlm.errors import EvaluationError
from genvlm.evaluation.resampling import Resampling
from genvlm.evaluation.statistics import (
    Interval,
    Undefined,
    percentile_interval,
    wilson_interval,
)

CUTOFFS = (1, 5, 10)


class Recall(NamedTuple):
    """Share of queries with something of theirs among the first k, in percent."""

    value: float
    interval: Interval | Undefined
    """95 %, over queries of this gallery: in a larger one every query has more to beat."""
    chance: float
    """Expected of candidates in random order; 100 where k reaches all the wrong ones."""


@dataclass(frozen=True)
class RankedQueries:
    """One direction of retrieval."""

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    """Queries that hang together, such as five captions of one picture."""
    ranks: Int64[np.ndarray, " queries"]
    """Of the best candidate that belongs to the query; 1 is the first."""
    num_relevant: Int64[np.ndarray, " queries"]
    num_candidates: int

    @property
    def median_rank(self) -> float:
        """Half of the queries find theirs at this rank or before."""
        return float(np.median(self.ranks))

    def hits(self, cutoff: int) -> dict[str, bool]:
        """By id, whether the query finds something of its own among the first; for paired tests."""
        return dict(zip(self.ids, (self.ranks <= cutoff).tolist(), strict=True))

    def recall(self, cutoff: int) -> Recall:
        """Wilson's interval where queries are independent, else of resampled groups."""
        found = self.ranks <= cutoff
        return Recall(100 * float(found.mean()), self._interval(found), 100 * self._chance(cutoff))

    def _interval(self, found: Bool[np.ndarray, " queries"]) -> Interval | Undefined:
        num_groups, share = len(set(self.groups)), float(found.mean())
        # All found or none: resampling would leave no doubt.
        if num_groups == len(found) or share in (0.0, 1.0):
            interval = wilson_interval(num_groups * share, num_groups)
        elif num_groups == 1:
            return Undefined("all queries hang together")
        else:
            parts = np.column_stack([found, np.ones(len(found))])
            sums = Resampling(self.groups).sums(parts, np.ones(len(found), np.bool_))
            interval = percentile_interval(sums[:, 0] / sums[:, 1])
        if isinstance(interval, Undefined):
            return interval
        return Interval(100 * interval.low, 100 * interval.high)

    def _chance(self, cutoff: int) -> float:
        """Mean of 1 - C(wrong, k) / C(all, k)."""
        drawn = np.arange(min(cutoff, self.num_candidates))
        wrong = (self.num_candidates - self.num_relevant)[:, None] - drawn
        missed = np.prod(np.maximum(wrong, 0) / (self.num_candidates - drawn), axis=1)
        return float(np.mean(1 - missed))


class Retrieval(NamedTuple):
    """Both directions of one gallery."""

    image_to_text: RankedQueries
    text_to_image: RankedQueries


def rank_gallery(
    scores: Float[np.ndarray, "images texts"],
    relevant: Bool[np.ndarray, "images texts"],
    image_ids: Sequence[str],
    text_ids: Sequence[str],
    *,
    text_to_image: Float[np.ndarray, "images texts"] | None = None,
    clusters: Sequence[str] | None = None,
) -> Retrieval:
    """Rank texts for every image and images for every text.

    Args:
        relevant: what belongs together; an image may have several texts, and a text several images.
        text_to_image: scores that rank images, where others fit that better.
        clusters: of each image, those that are found or missed together, such as scenes of the same
            two things; by default each is on its own.

    Raises:
        EvaluationError: a score is NaN or infinite, nothing belongs to a query, an id stands twice
            (the query is named), or shapes differ.
    """
    shape = (len(image_ids), len(text_ids))
    other = scores if text_to_image is None else text_to_image
    for name, matrix in (("scores", scores), ("relevant", relevant), ("text_to_image", other)):
        if np.shape(matrix) != shape:
            raise EvaluationError(
                f"a gallery of {shape[0]} images and {shape[1]} texts needs matrices of that "
                f"shape, and {name} has {np.shape(matrix)}"
            )
    if 0 in shape:
        raise EvaluationError(f"a gallery of {shape[0]} images and {shape[1]} texts is empty")
    image_groups, text_groups = _groups(relevant, range(shape[0]) if clusters is None else clusters)
    return Retrieval(
        _rank("image", scores, relevant, image_ids, image_groups),
        _rank("text", np.transpose(other), np.transpose(relevant), text_ids, text_groups),
    )


def _groups(
    relevant: Bool[np.ndarray, "images texts"], clusters: Sequence[str] | range
) -> tuple[list[str], list[str]]:
    """Of each image and each text, which others it is linked with, directly or not."""
    num_images, num_texts = np.shape(relevant)
    images, texts = np.nonzero(relevant)
    _, first, cluster = np.unique(np.asarray(clusters), return_index=True, return_inverse=True)
    starts = np.concatenate([images, np.arange(num_images)])
    ends = np.concatenate([num_images + texts, first[cluster]])
    nodes = num_images + num_texts
    links = csr_matrix((np.ones(len(starts), np.bool_), (starts, ends)), (nodes, nodes))
    names = connected_components(links, directed=False)[1].astype(str).tolist()
    return names[:num_images], names[num_images:]


def _rank(
    kind: str,
    scores: Float[np.ndarray, "queries candidates"],
    relevant: Bool[np.ndarray, "queries candidates"],
    ids: Sequence[str],
    groups: Sequence[str],
) -> RankedQueries:
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise EvaluationError(
            f"the {kind} {twice[0]!r} stands twice in the gallery: make ids unique"
        )
    bad = ~np.isfinite(scores).all(axis=1)
    if bad.any():
        query = int(np.argmax(bad))
        value = scores[query][~np.isfinite(scores[query])][0]
        raise EvaluationError(
            f"the {kind} {ids[query]!r} has a score of {value}: scores must be finite, mend the "
            "scorer"
        )
    num_relevant = np.count_nonzero(relevant, axis=1)
    if not num_relevant.all():
        query = int(np.argmin(num_relevant))
        raise EvaluationError(f"nothing in the gallery belongs to the {kind} {ids[query]!r}")
    best = np.where(relevant, scores, -np.inf).max(axis=1)
    before = np.count_nonzero(~relevant & (scores >= best[:, None]), axis=1)
    return RankedQueries(tuple(ids), tuple(groups), 1 + before, num_relevant, scores.shape[1])
