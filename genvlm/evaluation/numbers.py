"""Values, intervals and gains of every metric, of the scorer and of every control, by tag."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from genvlm.evaluation.cards import MACRO, Card
from genvlm.evaluation.control_names import BLIND, RANDOM, SHUFFLED, UNSEEING
from genvlm.evaluation.measures import Metric, Parts, ratio
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.resampling import Resampling
from genvlm.evaluation.results import Gain, Measured
from genvlm.evaluation.statistics import (
    Interval,
    Undefined,
    percentile_interval,
    wilson_interval,
)

SCORER = ""
"""Stands for the scorer beside the names of controls."""
WHOLE = ""
"""Stands for all items beside the tags."""
Kind = Literal["strict", "half"]


class Numbers:
    """Of the items of one log, resampled together."""

    def __init__(
        self,
        card: Card,
        records: Sequence[ItemRecord],
        parts: Mapping[str, Parts],
        tags: Sequence[str],
    ) -> None:
        self.card, self.parts = card, parts
        self.rule = card.decision
        self.targets = [r.target for r in records]
        self.of_matrices = any(r.scores is not None for r in records)
        self.resampling = Resampling([r.group for r in records])
        everything = np.ones(len(records), np.bool_)
        self.members: dict[str, Bool[np.ndarray, " items"]] = {
            WHOLE: everything,
            **{tag: np.array([tag in r.tags for r in records], np.bool_) for tag in tags},
        }
        self.macro_tags = [
            tag
            for tag in tags
            if card.macro_over
            and tag.startswith(card.macro_over)
            and self.members[tag].sum() >= card.macro_min_items
        ]
        self.groups = np.array([r.group for r in records])

    def metrics(self, name: str, tag: str = WHOLE) -> dict[str, Measured]:
        """Of one scorer on the items of one tag; chance is known exactly. A macro average over
        tags exists for the whole only."""
        return {
            metric: self._measured(name, metric, tag)
            for metric in self.card.metrics
            if tag == WHOLE or not metric.startswith(MACRO)
        }

    def chance(self, metric: str, tag: str = WHOLE) -> float | None:
        """Of a part, where items have different numbers of options, that of its own items."""
        chance = self.card.chance.get(metric)
        if chance is None or tag == WHOLE or metric == "all orders":
            return chance
        members = zip(self.targets, self.members[tag], strict=True)
        options = [
            len(target["options"])
            for target, mine in members
            if mine and isinstance(target, dict) and "options" in target
        ]
        return 100 * float(np.mean([1 / n for n in options])) if options else chance

    def gains(self, tag: str = WHOLE) -> dict[str, Gain]:
        """By metric that is defined, over the control that is best on these items."""
        if not self.members[tag].any():
            return {}
        return {
            metric: self._gain(metric, tag)
            for metric in self.card.chance
            if (tag == WHOLE or not metric.startswith(MACRO))
            and self.value(SCORER, metric, "half", tag) is not None
        }

    def comparable(self, name: str, metric: str) -> bool:
        """Whether a control has this metric in the unit of the scorer: not a length in characters
        beside a score of 0 to 1; the scorer itself without its picture has."""
        same = name in (SCORER, BLIND, SHUFFLED)
        return same or not (self.metric(metric).of_scale and self.of_matrices)

    def interval(self, name: str, metric: str, tag: str, kind: Kind) -> Interval | None:
        """95 % interval of a value; None where it is undefined."""
        value = self.value(name, metric, kind, tag)
        return None if value is None else self._interval(name, metric, tag, value, kind)

    def _measured(self, name: str, metric: str, tag: str) -> Measured:
        n = int(self.members[tag].sum())
        unit = self.metric(metric).unit
        if name == RANDOM:
            chance = self.chance(metric, tag)
            tied = None if chance is None else 0.0
            return Measured(chance, chance, n, None, tied, unit)
        strict, half = (self.value(name, metric, kind, tag) for kind in ("strict", "half"))
        if n == 0 or strict is None or not self.comparable(name, metric):
            return Measured(None, None, n, None, None, unit)
        column = list(self.rule.metrics).index(metric.removeprefix(MACRO))
        tied = 100 * float(self.parts[name].tied[self.members[tag], column].mean())
        interval = self._interval(name, metric, tag, strict)
        return Measured(strict, half, n, interval, tied, unit)

    def _interval(
        self, name: str, metric: str, tag: str, value: float, kind: Kind = "strict"
    ) -> Interval | None:
        of_items = self.metric(metric).of_items is not None
        if of_items and (name != SCORER or tag != WHOLE):
            return None  # thousands of correlations: for the scorer on all items alone
        resampled = self.resampled(name, metric, kind, tag)
        if resampled is None or self._num_groups(tag) < 2:
            return None
        if self.metric(metric).unit == "percent" and not of_items and _constant(resampled):
            # No resample can differ, as where all are right or all wrong.
            return self._wilson(value, tag)
        return percentile_interval(resampled)

    def _num_groups(self, tag: str) -> int:
        return len(set(self.groups[self.members[tag]]))

    def _wilson(self, percent: float, tag: str) -> Interval | None:
        """Wilson's interval of a share, with groups as the trials."""
        num_groups = self._num_groups(tag)
        wilson = wilson_interval(num_groups * percent / 100, num_groups)
        if isinstance(wilson, Undefined):
            return None
        return Interval(100 * wilson.low, 100 * wilson.high)

    def _gain(self, metric: str, tag: str) -> Gain:
        chance = self.chance(metric, tag)
        own = self.value(SCORER, metric, "half", tag)
        assert own is not None  # `gains` asks for nothing else
        assert chance is not None
        rivals = {RANDOM: chance}
        for name in UNSEEING:
            if name in self.parts:
                value = self.value(name, metric, "half", tag)
                rivals |= {} if value is None else {name: value}
        best = max(rivals, key=lambda name: rivals[name])
        interval = self._gain_interval(metric, tag, own, best, rivals[best])
        return Gain(own - rivals[best], interval, best)

    def _gain_interval(
        self, metric: str, tag: str, own: float, rival: str, level: float
    ) -> Interval | None:
        """Of the gain over this one control, paired: were the best chosen anew in every resample,
        the interval would be that of another number, and could lie below what is possible."""
        mine = self._interval(SCORER, metric, tag, own, "half")
        above = None if mine is None else Interval(mine.low - level, mine.high - level)
        theirs = None if rival == RANDOM else self._draws(rival, metric, "half", tag)
        drawn = self._draws(SCORER, metric, "half", tag)
        if above is None or drawn is None or theirs is None:
            return above
        gains = (drawn - theirs)[~np.isnan(drawn - theirs)]
        if len(gains) == 0:
            return None
        if not _constant(gains):
            return percentile_interval(gains)
        if _constant(drawn[~np.isnan(drawn)]):
            return above  # the control does not vary either: as over a fixed level
        # Both vary as one: they may still differ in as large a share as was never seen to differ.
        apart = self._wilson(0.0, tag)
        gain = own - level
        return None if apart is None else Interval(gain - apart.high, gain + apart.high)

    def metric(self, metric: str) -> Metric:
        """What a metric is; a macro average is of the metric that it averages."""
        return self.rule.metrics[metric.removeprefix(MACRO)]

    def value(self, name: str, metric: str, kind: Kind, tag: str = WHOLE) -> float | None:
        """None where it is undefined."""
        if metric.startswith(MACRO):
            values = [
                self.value(name, metric.removeprefix(MACRO), kind, t) for t in self.macro_tags
            ]
            known = [value for value in values if value is not None]
            return sum(known) / len(known) if known else None
        of = self.metric(metric)
        parts = getattr(self.parts[name], kind)[self.members[tag]]
        if len(parts) == 0:
            return None
        value = of.of_items(parts) if of.of_items else float(_of_sums(of, parts.sum(0)))
        return None if np.isnan(value) else _scale(of) * value

    def resampled(
        self, name: str, metric: str, kind: Kind, tag: str = WHOLE
    ) -> Float64[np.ndarray, " resamples"] | None:
        """The draws in which the metric is defined. None where there is nothing to resample, or
        where a metric of whole corpora is undefined in a draw."""
        values = self._draws(name, metric, kind, tag)
        if values is None:
            return None
        undefined = np.isnan(values)
        if undefined.all() or (undefined.any() and self.metric(metric).of_items is not None):
            return None
        defined: Float64[np.ndarray, " resamples"] = values[~undefined]
        return defined

    def _draws(
        self, name: str, metric: str, kind: Kind, tag: str = WHOLE
    ) -> Float64[np.ndarray, " draws"] | None:
        """One value a draw; NaN where the draw has left a category out."""
        if self.resampling.undefined:
            return None
        if metric.startswith(MACRO):
            by_tag = [
                self._draws(name, metric.removeprefix(MACRO), kind, t) for t in self.macro_tags
            ]
            known = [values for values in by_tag if values is not None]
            if not known:
                return None
            # As in the value itself, categories that are undefined do not enter the average.
            totals = np.nansum(known, 0)
            return ratio(totals, (~np.isnan(known)).sum(0))
        of, members = self.metric(metric), self.members[tag]
        parts = getattr(self.parts[name], kind)
        if of.of_items is not None:
            values = self.resampling.of_items(of.of_items, parts, members)
        else:
            values = _of_sums(of, self.resampling.sums(parts, members))
        scaled: Float64[np.ndarray, " draws"] = _scale(of) * values
        return scaled


def _of_sums(metric: Metric, sums: np.ndarray) -> np.ndarray:
    assert metric.of_sums is not None
    return metric.of_sums(sums)


def _constant(draws: Float64[np.ndarray, " draws"]) -> bool:
    """Whether no draw differs, but for rounding."""
    return bool(draws.max() - draws.min() < 1e-9)


def _scale(metric: Metric) -> float:
    return 100.0 if metric.unit == "percent" else 1.0
