"""What the records of a comparison say: numbers over seeds, gains over controls.

Percents and points throughout, but for errors of calibration, which are in [0, 1].
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from genvlm.evaluation.control_names import BLIND, SHUFFLED
from genvlm.evaluation.resampling import Resampling
from genvlm.evaluation.retrieval import CUTOFFS
from genvlm.evaluation.statistics import (
    Interval,
    Undefined,
    percentile_interval,
    wilson_interval,
)
from genvlm.studies.compare.asked import METHODS, OWN
from genvlm.studies.compare.cells import Cell
from genvlm.studies.compare.questions import SCENES
from genvlm.studies.evaluations import PAIRS

WHOLE = "all"
"""Stands for all items beside the categories of a benchmark."""

Record: TypeAlias = Mapping[str, Any]
Key: TypeAlias = tuple[str, ...]
"""Names a number: ("drawings", set), ("calibration", when), ("decision", what), ("training", what),
(benchmark, method, category, metric, who), ("recall", direction, k), ("probes", shots). The first
three are of the method that families are compared by; that of another method stands last."""


@dataclass(frozen=True)
class OverSeeds:
    """One number of a recipe, by seed."""

    by_seed: Mapping[int, float]

    @property
    def mean(self) -> float:
        """Over the seeds; never outside of their range by rounding."""
        values = list(self.by_seed.values())
        return float(np.clip(np.mean(values), min(values), max(values)))

    @property
    def low(self) -> float:
        """The least."""
        return min(self.by_seed.values())

    @property
    def high(self) -> float:
        """The greatest."""
        return max(self.by_seed.values())

    def to_json(self) -> dict[str, Any]:
        """Mean, range and every value."""
        by_seed = {str(seed): value for seed, value in self.by_seed.items()}
        return {"mean": self.mean, "range": [self.low, self.high], "by_seed": by_seed}


class Gain(NamedTuple):
    """Of a model over itself without the picture, or with another one; a tie is worth a half."""

    value: float
    interval: Interval | None
    """95 %, paired, resampling groups; None where all items are of one group."""

    @property
    def is_sure(self) -> bool:
        """Whether the interval lies above 0."""
        return self.interval is not None and self.interval.low > 0


def main_records(records: Mapping[Cell, Record]) -> dict[str, dict[int, Record]]:
    """Those of the table, by recipe and seed."""
    found: dict[str, dict[int, Record]] = {}
    for cell, record in records.items():
        if cell.is_main:
            found.setdefault(cell.recipe, {})[cell.seed] = record
    return found


def over_seeds(by_seed: Mapping[int, Record]) -> dict[Key, OverSeeds]:
    """Every number of a recipe. What no seed was asked is not there."""
    found: dict[Key, dict[int, float]] = {}
    for seed, record in by_seed.items():
        for key, value in numbers_of(record).items():
            found.setdefault(key, {})[seed] = value
    return {key: OverSeeds(values) for key, values in found.items()}


def numbers_of(record: Record) -> dict[Key, float]:
    """Every number of one model."""
    found: dict[Key, float | None] = {
        ("training", what): value for what, value in record.get("training", {}).items()
    }
    for of, drawn in _drawings(record):
        for name, right in drawn["right"].items():
            found["drawings", name, *of] = percent(right.values())
        found |= {("calibration", when, *of): v for when, v in drawn["calibration"].items()}
        found |= {("decision", what, *of): v for what, v in drawn["cost"].items()}
    for benchmark in (SCENES, PAIRS):
        for method, judged in record.get(benchmark, {}).items():
            for who, table in {OWN: judged, **judged["controls"]["scores"]}.items():
                for tag, metrics in {WHOLE: table["metrics"], **table["categories"]}.items():
                    for metric, measured in metrics.items():
                        found[benchmark, method, tag, metric, who] = measured["value"]
    for direction, ranked in record.get("retrieval", {}).items():
        for cutoff in CUTOFFS:
            hits = [rank <= cutoff for rank in ranked["ranks"].values()]
            found["recall", direction, str(cutoff)] = percent(hits)
    for shots, probe in record.get("probes", {}).get("shots", {}).items():
        found["probes", shots] = percent(probe["right"].values())
    return {key: value for key, value in found.items() if value is not None}


def _drawings(record: Record) -> Iterator[tuple[tuple[str, ...], Record]]:
    """What was made of drawings: by the first method, and by others with their names."""
    if "drawings" in record:
        yield (), record["drawings"]
        for method, drawn in record["drawings"].get("other_methods", {}).items():
            yield (method,), drawn


def percent(right: Iterable[bool]) -> float | None:
    """Of what is right; None of nothing."""
    values = list(right)
    return 100 * sum(values) / len(values) if values else None


def gains(record: Record) -> dict[Key, Gain]:
    """By (benchmark, category, metric, control): of what is compared, the first method."""
    found: dict[Key, Gain] = {}
    for benchmark in (SCENES, PAIRS):
        judged = first_judged(record, benchmark)
        halves = {} if judged is None else judged.get("halves", {})
        for control in (BLIND, SHUFFLED):
            if judged is None or control not in halves:
                continue
            tags = dict.fromkeys(tag for tags in judged["tags"].values() for tag in tags)
            for tag in (WHOLE, *tags):
                ids = [i for i, own in judged["tags"].items() if tag in (WHOLE, *own)]
                groups = [judged["groups"][i] for i in ids]
                for metric, own in halves[OWN].items():
                    gained = np.array([own[i] - halves[control][metric][i] for i in ids])
                    found[benchmark, tag, metric, control] = _gain(gained, groups)
    return found


def _gain(gained: np.ndarray, groups: list[str]) -> Gain:
    """Mean of what items gain, in points."""
    value, resampling = 100 * float(gained.mean()), Resampling(groups)
    if resampling.undefined:
        return Gain(value, None)
    if (gained == gained[0]).all():
        # No resample can differ, but as large a share may differ as was never seen to.
        num_groups = len(set(groups))
        apart = wilson_interval(0.0, num_groups)
        assert not isinstance(apart, Undefined)
        return Gain(value, Interval(value - 100 * apart.high, value + 100 * apart.high))
    everything = np.ones(len(gained), np.bool_)
    sums = resampling.sums(np.column_stack([gained, everything]), everything)
    interval = percentile_interval(100 * sums[:, 0] / sums[:, 1])
    return Gain(value, Interval(min(interval.low, value), max(interval.high, value)))


def first_judged(record: Record, benchmark: str) -> Record | None:
    """By the method that families are compared by."""
    judged: Record | None = record.get(benchmark, {}).get(first_method(record))
    return judged


def first_method(record: Record) -> str:
    """How captions are told apart in the comparison of families."""
    return METHODS[record["cell"]["kind"]].captions[0]
