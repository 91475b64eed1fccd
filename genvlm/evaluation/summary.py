"""From a log to its result: metrics with intervals, categories, controls, gain, flags.

Everything is recomputed from the raw scores in the log; no model and no picture is needed.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float64

from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import MACRO, Card, with_chance
from genvlm.evaluation.coverage import (
    check_one_run,
    count_coverage,
    unanswered_flags,
    unsaid_flags,
)
from genvlm.evaluation.measures import Judged, Metric, Parts, ratio
from genvlm.evaluation.records import SCHEMA, ItemRecord
from genvlm.evaluation.resampling import Resampling
from genvlm.evaluation.results import Controls, Gain, GainTable, Measured, Summary, Table
from genvlm.evaluation.statistics import (
    Interval,
    Undefined,
    mcnemar_exact,
    percentile_interval,
    wilson_interval,
)

RANDOM = "random"
BLIND, SHUFFLED, FIRST_OPTION = "blind", "shuffled-image", "first option"
# Controls that never see the picture. Gain is measured over the best of those that were run;
# others (pixel neighbours) are references, which may well be above chance.
UNSEEING = (
    RANDOM, "constant", "length", "format", "n-gram", BLIND, "always yes", "majority", "prior",
    FIRST_OPTION, "first choice",
)  # fmt: skip
# Above chance they tell of a fault of the benchmark or of the scorer; what the order of a file
# gives away no scorer ever sees.
SUSPECT = (*UNSEEING, SHUFFLED, "line parity")
TIE_FLAG_POINTS = 0.5


def summarize(records: Sequence[ItemRecord], card: Card, *, num_truncated: int = 0) -> Summary:
    """Recompute a result from its log.

    Args:
        num_truncated: lines of the log that were cut short (`read_records`).

    Raises:
        EvaluationError: no record, records of another benchmark or of several runs, doubled ids.
    """
    check_one_run(records, card)
    coverage = count_coverage(records)
    flags = [f"the log ends in {num_truncated} line that was cut short"] if num_truncated else []
    flags += unanswered_flags(records) + unsaid_flags(records)
    left_out = {name: reason for r in records for name, reason in r.left_out.items()}
    flags += [f"the control {name!r} was left out: {why}" for name, why in left_out.items()]
    counted = [r for r in records if r.status != "failed"]
    card = with_chance(card, [len(r.scores[0]) for r in counted if r.scores])
    parts = _parts_by_scorer(counted, card, flags)
    tags = list(dict.fromkeys(tag for r in records for tag in r.tags))
    result = _Result(card, counted, parts, tags)
    tables = {
        name: Table(result.metrics(name), {tag: result.metrics(name, tag) for tag in tags})
        for name in (_SCORER, RANDOM, *(n for n in parts if n != _SCORER))
    }
    scorer = tables.pop(_SCORER)
    flags += _order_effect(counted, card)
    flags += result.flags(scorer.metrics, tables)
    return Summary(
        schema=SCHEMA,
        benchmark=card.name,
        version=records[0].version,
        status="complete" if coverage["answered"] == coverage["expected"] else "incomplete",
        coverage=coverage,
        metrics=scorer.metrics,
        categories=scorer.categories,
        controls=Controls(
            scores=tables,
            gain=GainTable(result.gains(), {tag: result.gains(tag) for tag in tags}),
        ),
        flags=tuple(flags),
        fingerprint=records[0].fingerprint,
        scorer=records[0].scorer,
    )


_SCORER = ""
WHOLE = ""
Kind = Literal["strict", "half"]


class _Result:
    """Values and resamples of every metric, of the scorer and of every control, by tag."""

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
        asked = {said.question for r in records for said in r.answers}
        self.every_order = asked.issuperset(card.orders)

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
            and self._value(_SCORER, metric, "half", tag) is not None
        }

    def flags(self, scorer: Mapping[str, Measured], controls: Mapping[str, Table]) -> list[str]:
        """What a reader must know before believing the numbers."""
        flags = []
        for metric, found in scorer.items():
            if not self.members[WHOLE].any():
                flags.append(f"{metric}: n/a, no answered item")
                continue
            if found.value is None:
                flags.append(f"{metric}: n/a, it is undefined on these items")
                continue
            if self.resampling.undefined:
                flags.append(f"{metric}: no bootstrap interval, {self.resampling.undefined}")
            half = found.value if found.half is None else found.half
            if found.unit == "percent" and abs(found.value - half) > TIE_FLAG_POINTS:
                flags.append(
                    f"{metric}: ties matter, {found.value:.2f} when a tie is wrong and {half:.2f} "
                    f"when it is decided by chance (ties in {found.tie_rate:.2f} % of items)"
                )
            flags += self._rival_flag(metric, half)
            for name in controls:
                if name != RANDOM and name in SUSPECT and not self._of_the_order(name, metric):
                    flags += self._control_flag(name, metric)
        for tag, members in self.members.items():
            if tag.startswith(self.card.macro_over or "\0") and tag not in self.macro_tags:
                flags.append(
                    f"{tag} has {members.sum()} items, fewer than {self.card.macro_min_items}: it "
                    "does not enter the macro average"
                )
        return flags

    def _of_the_order(self, name: str, metric: str) -> bool:
        """Whether a control gets what it gets by the order of options alone, which is no fault of
        the benchmark: the first option is always right in one order and never in the other."""
        return name == FIRST_OPTION and (metric in self.card.orders or not self.every_order)

    def _rival_flag(self, metric: str, own: float) -> list[str]:
        """Where no chance level is known there is no gain; that a control gets more is told."""
        if not self._metric(metric).rising or metric in self.card.chance:
            return []
        found = {
            name: value
            for name in UNSEEING
            if name in self.parts
            and self._comparable(name, metric)
            and (value := self._value(name, metric, "half")) is not None
        }
        best = max(found, key=lambda name: found[name], default=None)
        if best is None or found[best] <= own:
            return []
        return [
            f"{metric}: control {best!r} gets {found[best]:.4f} without the picture, more than the "
            f"{own:.4f} of what is judged"
        ]

    def _comparable(self, name: str, metric: str) -> bool:
        """Whether a control has this metric in the unit of the scorer: not a length in characters
        beside a score of 0 to 1; the scorer itself without its picture has."""
        same = name in (_SCORER, BLIND, SHUFFLED)
        return same or not (self._metric(metric).of_scale and self.of_matrices)

    def _control_flag(self, name: str, metric: str) -> list[str]:
        chance = self.card.chance.get(metric)
        half = self._value(name, metric, "half")
        if chance is None or half is None:
            return []
        n = int(self.members[WHOLE].sum())
        resampled = self._resampled(name, metric, "half")
        if resampled is None:
            error = float(np.sqrt(chance * (100 - chance) / n))
        else:
            error = float(resampled.std(ddof=1))
        if half <= chance + 2 * error + 1e-9:
            return []
        return [
            f"{metric}: control {name!r} gets {half:.2f}, above chance ({chance:.2f}) by more than "
            f"2 standard errors ({error:.2f})"
        ]

    def _measured(self, name: str, metric: str, tag: str) -> Measured:
        n = int(self.members[tag].sum())
        unit = self._metric(metric).unit
        if name == RANDOM:
            chance = self.chance(metric, tag)
            tied = None if chance is None else 0.0
            return Measured(chance, chance, n, None, tied, unit)
        strict, half = (self._value(name, metric, kind, tag) for kind in ("strict", "half"))
        if n == 0 or strict is None or not self._comparable(name, metric):
            return Measured(None, None, n, None, None, unit)
        column = list(self.rule.metrics).index(metric.removeprefix(MACRO))
        tied = 100 * float(self.parts[name].tied[self.members[tag], column].mean())
        interval = self._interval(name, metric, tag, strict)
        return Measured(strict, half, n, interval, tied, unit)

    def _interval(
        self, name: str, metric: str, tag: str, value: float, kind: Kind = "strict"
    ) -> Interval | None:
        of_items = self._metric(metric).of_items is not None
        if of_items and (name != _SCORER or tag != WHOLE):
            return None  # thousands of correlations: for the scorer on all items alone
        resampled = self._resampled(name, metric, kind, tag)
        if resampled is None or self._num_groups(tag) < 2:
            return None
        if self._metric(metric).unit == "percent" and not of_items and _constant(resampled):
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
        own = self._value(_SCORER, metric, "half", tag)
        assert own is not None  # `gains` asks for nothing else
        assert chance is not None
        rivals = {RANDOM: chance}
        for name in UNSEEING:
            if name in self.parts:
                value = self._value(name, metric, "half", tag)
                rivals |= {} if value is None else {name: value}
        best = max(rivals, key=lambda name: rivals[name])
        interval = self._gain_interval(metric, tag, own, best, rivals[best])
        return Gain(own - rivals[best], interval, best)

    def _gain_interval(
        self, metric: str, tag: str, own: float, rival: str, level: float
    ) -> Interval | None:
        """Of the gain over this one control, paired: were the best chosen anew in every resample,
        the interval would be that of another number, and could lie below what is possible."""
        mine = self._interval(_SCORER, metric, tag, own, "half")
        above = None if mine is None else Interval(mine.low - level, mine.high - level)
        theirs = None if rival == RANDOM else self._draws(rival, metric, "half", tag)
        drawn = self._draws(_SCORER, metric, "half", tag)
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

    def _metric(self, metric: str) -> Metric:
        return self.rule.metrics[metric.removeprefix(MACRO)]

    def _value(self, name: str, metric: str, kind: Kind, tag: str = WHOLE) -> float | None:
        """None where it is undefined."""
        if metric.startswith(MACRO):
            values = [
                self._value(name, metric.removeprefix(MACRO), kind, t) for t in self.macro_tags
            ]
            known = [value for value in values if value is not None]
            return sum(known) / len(known) if known else None
        of = self._metric(metric)
        parts = getattr(self.parts[name], kind)[self.members[tag]]
        if len(parts) == 0:
            return None
        value = of.of_items(parts) if of.of_items else float(_of_sums(of, parts.sum(0)))
        return None if np.isnan(value) else _scale(of) * value

    def _resampled(
        self, name: str, metric: str, kind: Kind, tag: str = WHOLE
    ) -> Float64[np.ndarray, " resamples"] | None:
        """The draws in which the metric is defined. None where there is nothing to resample, or
        where a metric of whole corpora is undefined in a draw."""
        values = self._draws(name, metric, kind, tag)
        if values is None:
            return None
        undefined = np.isnan(values)
        if undefined.all() or (undefined.any() and self._metric(metric).of_items is not None):
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
        of, members = self._metric(metric), self.members[tag]
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


def _order_effect(records: Sequence[ItemRecord], card: Card) -> list[str]:
    """Whether the order in which options were shown changed the answers."""
    if len(card.orders) != 2:
        return []
    first, second = card.orders
    flags = []
    right: dict[str, dict[str, bool]] = {order: {} for order in card.orders}
    for order in card.orders:
        said = [(r.id, one) for r in records for one in r.answers if one.question == order]
        unread = sum(one.status != "answered" for _, one in said)
        if unread:
            flags.append(f"{order}: {unread} answers refused or unreadable")
        targets = {r.id: r.target for r in records}
        right[order] = {item: one.parsed == targets[item] for item, one in said}
    if not right[first] or not right[second]:
        only = first if right[first] else second
        said_of = f"only the order {only} was asked"
        return [*flags, f"{said_of}: a preference for a place is not seen and may earn it all"]
    both = right[first].keys() & right[second].keys()
    of_first, of_second = ({i: right[order][i] for i in both} for order in card.orders)
    test = mcnemar_exact(of_first, of_second)
    if not isinstance(test, Undefined):
        flags.append(
            f"order of options: {test.first_only} items are right only in {first}, "
            f"{test.second_only} only in {second} (exact McNemar p {test.p_value:.3g})"
        )
    return flags


def _parts_by_scorer(
    counted: Sequence[ItemRecord], card: Card, flags: list[str]
) -> dict[str, Parts]:
    """Parts of the scorer and of every control."""
    controls = list(counted[0].controls) if counted else []
    for record in counted:
        if record.controls.keys() != set(controls):
            raise EvaluationError(
                f"item {record.id!r} has the controls {sorted(record.controls)}, others have "
                f"{sorted(controls)}: summarize one log at a time"
            )
    rule = card.decision
    ids, targets = [r.id for r in counted], [r.target for r in counted]
    evidence = {name: [r.evidence(name or None) for r in counted] for name in (_SCORER, *controls)}
    own = zip(evidence[_SCORER], targets, ids, strict=True)
    credits = [rule.credit(*item) for item in own]
    changed = [r.id for r, c in zip(counted, credits, strict=True) if c != r.credit]
    if changed:
        flags.append(
            f"{len(changed)} items carry a credit that their scores do not give, such as "
            f"{changed[0]!r}; the scores were used"
        )
    return {name: rule.parts(Judged(found, targets, ids)) for name, found in evidence.items()}
