"""Which documents each step reads, row by row: a pure function of the step.

A row is one padded document, or as many as fit side by side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from genvlm.data.order import Dealt, Epochs, Mixture, Order
from genvlm.data.packing import pack

# Batches whose documents are sorted by length together: less padding, still a random order.
_POOL = 16
# Steps of a section of a mixture, or of a packed corpus: what is looked over at once.
_SECTION = 32


class Entry(NamedTuple):
    """A document of a step."""

    sample: int
    """Its place in the corpus."""
    epoch: int
    """How often it was dealt before."""


Rows = Sequence[Sequence[int]] | np.ndarray
"""Places in the section, of the documents of each row of one step."""


@dataclass(frozen=True)
class Steps:
    """Sections of an order, each cut into so many steps."""

    order: Order
    steps_per_section: int
    arrange: Callable[[Dealt, int], Sequence[Rows]]
    """From the documents of a section and the number of steps to the rows of each."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every document is read once; of a mixture, those of a section."""
        return self.steps_per_section * self.order.sections_per_epoch

    def rows(self, step: int) -> list[list[Entry]]:
        """Documents of each row of a step."""
        number, place = divmod(step, self.steps_per_section)
        dealt, arranged = self._section(number)
        return [
            [Entry(int(dealt.indices[i]), int(dealt.epochs[i])) for i in row]
            for row in arranged[place]
        ]

    @cached_property
    def _section(self) -> Callable[[int], tuple[Dealt, Sequence[Rows]]]:
        return lru_cache(maxsize=2)(self._arranged)  # of the current one: every step asks for it

    def _arranged(self, number: int) -> tuple[Dealt, Sequence[Rows]]:
        dealt = self.order.section(number)
        return dealt, self.arrange(dealt, self.steps_per_section)


def build_order(
    sources: Sequence[range], weights: Sequence[float] | None, seed: int, documents_per_step: float
) -> Order:
    """By size, in sections of about so many steps; or by weight.

    Args:
        documents_per_step: of a mixture every section holds at least as many for each step.
    """
    if weights is not None:
        # Each source may come out one short.
        size = int(np.ceil(_SECTION * documents_per_step)) + len(sources)
        return Mixture(sources, weights, size, seed)
    num_documents = sum(map(len, sources))
    num_sections = round(num_documents / (_SECTION * documents_per_step))
    return Epochs(num_documents, seed, max(1, num_sections))


def plain_steps(num_documents: int, batch_size: int, seed: int) -> Steps:
    """One document a row, in no order of length; some batches hold a few more than others."""
    rows = np.arange(num_documents)[:, None]
    return Steps(
        Epochs(num_documents, seed),
        max(1, num_documents // batch_size),
        lambda dealt, num_steps: np.array_split(rows, num_steps),
    )


def padded_steps(
    sources: Sequence[range],
    weights: Sequence[float] | None,
    lengths: Int[np.ndarray, " documents"],
    batch_size: int,
    seed: int,
) -> Steps:
    """One document a row, `batch_size` a step; some batches hold a few more than others."""
    if weights is not None:
        return Steps(
            build_order(sources, weights, seed, batch_size),
            _SECTION,
            lambda dealt, num: _by_length(dealt, lengths, num, batch_size),
        )
    num_documents = sum(map(len, sources))
    return Steps(
        Epochs(num_documents, seed),
        max(1, num_documents // batch_size),
        lambda dealt, num: _by_length(dealt, lengths, num, batch_size),
    )


def packed_steps(
    sources: Sequence[range],
    weights: Sequence[float] | None,
    lengths_of: Callable[[Dealt], Int[np.ndarray, " documents"]],
    mean_length: float,
    capacity: int,
    batch_size: int,
    seed: int,
) -> Steps:
    """Rows of `capacity` tokens, `batch_size` a step.

    How many rows a section fills depends on what is drawn; it always has the steps of the first
    one, so that some batches hold a row more, or an empty one.

    Args:
        lengths_of: tokens of documents as they are drawn.
        mean_length: about that, of all documents.
    """
    order = build_order(sources, weights, seed, batch_size * capacity / mean_length)
    num_rows = len(pack(lengths_of(order.section(0)), capacity))

    def arrange(dealt: Dealt, num_steps: int) -> list[list[list[int]]]:
        rows = pack(lengths_of(dealt), capacity)
        rows += [[] for _ in range(num_steps * batch_size - len(rows))]
        mixed = dealt.rng.permutation(len(rows))
        return [[rows[i] for i in part] for part in np.array_split(mixed, num_steps)]

    return Steps(order, max(1, num_rows // batch_size), arrange)


def _by_length(
    dealt: Dealt, lengths: Int[np.ndarray, " documents"], num_steps: int, batch_size: int
) -> list[Int[np.ndarray, "rows 1"]]:
    """Documents of like length share a batch."""
    places = np.arange(len(dealt.indices))
    pools = [
        chunk[np.argsort(lengths[dealt.indices[chunk]], kind="stable")]
        for chunk in np.array_split(places, max(1, len(places) // (batch_size * _POOL)))
    ]
    batches = np.array_split(np.concatenate(pools), num_steps)
    return [batches[i][:, None] for i in dealt.rng.permutation(num_steps)]
