"""The one global order of documents: a pure function of (seed, section), in no process's hands.

Documents are dealt in sections, of which each is cut into a fixed number of steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Int

# What a generator is drawn for, beside the epoch's own permutation.
_PART, _SOURCE, _MIX = 1, 2, 3


class Dealt(NamedTuple):
    """The documents of one section, in random order."""

    indices: Int[np.ndarray, " documents"]
    epochs: Int[np.ndarray, " documents"]
    """How often each was dealt before: what is drawn anew is keyed by it."""
    rng: np.random.Generator
    """For whatever else is random about the section."""


class Order(Protocol):
    """Sections without end."""

    @property
    def sections_per_epoch(self) -> int:
        """After so many, every document was dealt once; of a mixture, 1."""
        ...

    def section(self, number: int) -> Dealt:
        """One of them."""
        ...


@dataclass(frozen=True)
class Epochs:
    """Every document once an epoch, the epoch in one section or more."""

    num_documents: int
    seed: int
    sections_per_epoch: int = 1

    def section(self, number: int) -> Dealt:
        """A part of the epoch's permutation."""
        epoch, part = divmod(number, self.sections_per_epoch)
        if self.sections_per_epoch == 1:
            rng = np.random.default_rng([self.seed, epoch])
            indices = rng.permutation(self.num_documents)
        else:
            rng = np.random.default_rng([self.seed, epoch, part, _PART])
            indices = np.array_split(self._permutation(epoch), self.sections_per_epoch)[part]
        return Dealt(indices, np.full(len(indices), epoch), rng)

    @cached_property
    def _permutation(self) -> Callable[[int], np.ndarray]:
        return lru_cache(maxsize=2)(self._permutation_of)  # every section of an epoch asks for it

    def _permutation_of(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.num_documents)


@dataclass(frozen=True)
class Mixture:
    """Sources by weight: each deals its own permutations one after another.

    Of a source with share w, section k holds floor((k + 1) R w) - floor(k R w) documents, R being
    `section_size`: after any number of sections its share is exact to one document.
    """

    sources: Sequence[range]
    """Documents of each source."""
    weights: Sequence[float]
    section_size: int
    seed: int
    sections_per_epoch = 1

    def section(self, number: int) -> Dealt:
        """Of each source the next documents, mixed."""
        indices, epochs = [], []
        for place, source in enumerate(self.sources):
            begin, end = (self._num_dealt(place, n) for n in (number, number + 1))
            rounds, places = np.divmod(np.arange(begin, end), len(source))
            for epoch in np.unique(rounds).tolist():
                permutation = self._permutation(place, epoch)
                indices.append(source.start + permutation[places[rounds == epoch]])
            epochs.append(rounds)
        rng = np.random.default_rng([self.seed, number, _MIX])
        mixed = rng.permutation(sum(map(len, epochs)))
        return Dealt(np.concatenate(indices)[mixed], np.concatenate(epochs)[mixed], rng)

    def _num_dealt(self, place: int, num_sections: int) -> int:
        """Documents of a source in the first sections; in whole numbers, which never round."""
        share = Fraction(self.weights[place]) / sum(map(Fraction, self.weights))
        return int(num_sections * self.section_size * share)

    @cached_property
    def _permutation(self) -> Callable[[int, int], np.ndarray]:
        return lru_cache(maxsize=2 * len(self.sources))(self._permutation_of)

    def _permutation_of(self, place: int, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self.seed, place, epoch, _SOURCE])
        return rng.permutation(len(self.sources[place]))
