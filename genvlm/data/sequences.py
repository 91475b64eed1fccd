"""Real sequences among the drawings: the moon's phases, clock faces, arrows that turn.

A document goes round a cycle in steps of one length: "full moon" and its drawing, "waning gibbous
moon" and its drawing, and so on. Which step it takes shows only from the second picture on.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from genvlm.data.emoji import Vendor, find_concept, load_drawings
from genvlm.data.images import RGBImage

HELD_OUT_PERCENT = 20
_HOURS = "one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905


@dataclass(frozen=True)
class Cycle:
    """Drawings in their natural order; the first follows the last."""

    name: str
    labels: tuple[str, ...]
    steps: tuple[int, ...]
    """How far a sequence may go at a time, backwards with a minus."""


CYCLES = (
    Cycle(
        "moon",
        (
            "new moon", "waxing crescent moon", "first quarter moon", "waxing gibbous moon",
            "full moon", "waning gibbous moon", "last quarter moon", "waning crescent moon",
        ),
        (1, -1, 2, -2),
    ),
    Cycle(
        "clock",
        tuple(label for hour in _HOURS for label in (f"{hour} o’clock", f"{hour}-thirty")),
        (1, -1, 2, -2, 4, -4),
    ),
    Cycle(
        "arrow",
        (
            "up arrow", "up-right arrow", "right arrow", "down-right arrow", "down arrow",
            "down-left arrow", "left arrow", "up-left arrow",
        ),
        (1, -1, 2, -2),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class PictureSequence:
    """Where a walk round a cycle begins, how it goes on, and how long."""

    cycle: Cycle
    start: int
    step: int
    length: int

    @cached_property
    def labels(self) -> list[str]:
        """Names of its pictures, in order."""
        labels = self.cycle.labels
        return [labels[(self.start + k * self.step) % len(labels)] for k in range(self.length)]

    @property
    def held_out(self) -> bool:
        """True when any three of its pictures in a row are kept for testing.

        By sha256 of cycle, place and step, modulo 100: what follows the first two of a held-out
        triple is never seen behind them.
        """
        places = (self.start + k * self.step for k in range(max(1, self.length - 2)))
        return any(
            _is_held_out(self.cycle.name, at % len(self.cycle.labels), self.step) for at in places
        )

    def render(self, vendor: Vendor) -> list[RGBImage]:
        """Its pictures."""
        return [draw(label, vendor) for label in self.labels]


@cache
def _is_held_out(cycle: str, place: int, step: int) -> bool:
    digest = hashlib.sha256(f"{cycle}|{place}|{step}".encode()).digest()
    return int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


def draw(label: str, vendor: Vendor) -> RGBImage:
    """The drawing of one label, 64x64 on white."""
    return load_drawings(vendor)[find_concept(label).index]


def all_sequences(length: int, *, held_out: bool) -> list[PictureSequence]:
    """Every start and step of every cycle, of one side of the split."""
    every = [
        PictureSequence(cycle, start, step, length)
        for cycle in CYCLES
        for start in range(len(cycle.labels))
        for step in cycle.steps
    ]
    return [s for s in every if s.held_out == held_out]


def sample_sequences(num: int, seed: int, *, max_length: int = 5) -> Iterator[PictureSequence]:
    """`num` training sequences of three to `max_length` pictures; cycles are equally frequent."""
    known = {
        (cycle.name, length): [s for s in all_sequences(length, held_out=False) if s.cycle == cycle]
        for cycle in CYCLES
        for length in range(3, max_length + 1)
    }
    for i in range(num):
        rng = np.random.default_rng([seed, i])
        length = int(rng.integers(3, max_length + 1))
        of_cycle = known[CYCLES[rng.integers(len(CYCLES))].name, length]
        yield of_cycle[rng.integers(len(of_cycle))]
