"""Interleaved repetitions, and how sure a ratio of their medians is."""

import gc
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float64

from genvlm.errors import ConfigError
from genvlm.evaluation.statistics import percentile_interval

MIN_REPETITIONS = 9
_RESAMPLES = 5000

Task = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a benchmark is run."""

    repetitions: int = MIN_REPETITIONS
    threads: int = os.cpu_count() or 1
    quick: bool = False
    """Tiny shapes and 3 repetitions: shows the table, proves nothing."""
    say: Callable[[str], None] = lambda stage: None
    """Called with what is being measured."""

    def __post_init__(self) -> None:
        if self.repetitions < MIN_REPETITIONS:
            raise ConfigError(
                f"--repetitions {self.repetitions} gives no interval worth reading: take at least "
                f"{MIN_REPETITIONS}"
            )

    @property
    def num(self) -> int:
        """Repetitions of one measurement."""
        return 3 if self.quick else self.repetitions


class Ratio(NamedTuple):
    """How many times the first median is the second one, with its 95 % interval."""

    value: float
    low: float
    high: float


def time_interleaved(
    tasks: Mapping[str, Task], repetitions: int
) -> dict[str, Float64[np.ndarray, " repetitions"]]:
    """Seconds of each task: all of them once a repetition, each time beginning with another.

    Each runs once before. What slows the machine for a while slows all tasks alike.
    """
    names = list(tasks)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        tasks[name]()
    gc.collect()
    gc.disable()  # a collection would fall on whichever task runs then
    try:
        for repetition in range(repetitions):
            first = repetition % len(names)
            for name in names[first:] + names[:first]:
                seconds[name].append(_seconds(tasks[name]))
    finally:
        gc.enable()
    return {name: np.array(s) for name, s in seconds.items()}


def ratio_of_medians(
    first: Float64[np.ndarray, " repetitions"],
    second: Float64[np.ndarray, " repetitions"],
    seed: int = 0,
) -> Ratio:
    """median(first) / median(second); the interval by resampling repetitions in pairs."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(first), size=(_RESAMPLES, len(first)))
    replicates = np.median(first[draws], 1) / np.median(second[draws], 1)
    return Ratio(float(np.median(first) / np.median(second)), *percentile_interval(replicates))


def ratio_of_totals(
    first: Float64[np.ndarray, " steps"], second: Float64[np.ndarray, " steps"], seed: int = 0
) -> Ratio:
    """sum(first) / sum(second), in which the rare and slow count; the interval likewise."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(len(first), size=(_RESAMPLES, len(first)))
    replicates = first[draws].sum(1) / second[draws].sum(1)
    return Ratio(float(first.sum() / second.sum()), *percentile_interval(replicates))


def name_of_fastest(tasks: Mapping[str, Task]) -> str:
    """The rival to measure against, where there are several fair ones: each ran once before."""
    seconds = time_interleaved(tasks, 1)
    return min(seconds, key=lambda name: float(seconds[name][0]))


def _seconds(task: Task) -> float:
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def read_bandwidth(megabytes: int = 512) -> float:
    """Bytes per second that all threads together read: a matrix times a vector, best of 7 runs."""
    matrix = torch.ones(megabytes * 2**20 // 4 // 4096, 4096)
    vector = torch.ones(4096)
    best = min(_seconds(lambda: matrix @ vector) for _ in range(7))
    return matrix.nbytes / best
