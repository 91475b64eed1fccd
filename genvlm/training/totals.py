"""Sums and maxima of what objectives measure, over micro-batches and processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from genvlm.training.objectives.losses import Losses


class Mean(NamedTuple):
    """A mean and how many values it is of, so that means of means can be had."""

    value: float
    num: int


@dataclass(frozen=True)
class Measures:
    """What one optimizer step measured, over all processes. What nothing was counted of is absent.

    It is the same for any number of micro-batches and processes.
    """

    terms: dict[str, Mean]
    """Loss terms, such as nats per token of a modality."""
    means: dict[str, Mean]
    """Others, by their names in the log."""
    maxima: dict[str, float]


@dataclass(frozen=True)
class Totals:
    """Collects the losses of micro-batches. Nothing is detached or copied to the CPU on the way."""

    _sums: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    _maxima: dict[str, Tensor] = field(default_factory=dict)

    def add(self, losses: Losses) -> None:
        """Take in one micro-batch."""
        pairs = {
            ("terms", name): torch.stack([value.float(), losses.counts[name]])
            for name, value in losses.terms.items()
        }
        pairs |= {("means", name): pair.float() for name, pair in losses.means.items()}
        for key, pair in pairs.items():
            self._sums[key] = self._sums[key] + pair if key in self._sums else pair
        for name, value in losses.maxima.items():
            value = value.float()
            before = self._maxima.get(name, value)
            self._maxima[name] = torch.maximum(before, value)

    def measures(
        self, add_up: Callable[[Tensor], Tensor], gather: Callable[[Tensor], Tensor]
    ) -> Measures:
        """Over all processes.

        Args:
            add_up: the sum of a tensor over processes.
            gather: the rows of a tensor of each process, (rows, n), below each other.
        """
        sums = add_up(torch.stack(list(self._sums.values()))).tolist()
        found: dict[str, dict[str, Mean]] = {"terms": {}, "means": {}}
        for (kind, name), (total, count) in zip(self._sums, sums, strict=True):
            if count:
                found[kind][name] = Mean(total / count, int(count))
        maxima = dict[str, float]()
        if self._maxima:
            largest = gather(torch.stack(list(self._maxima.values()))[None]).amax(0).tolist()
            maxima = dict(zip(self._maxima, largest, strict=True))
        return Measures(**found, maxima={n: v for n, v in maxima.items() if v != -torch.inf})
