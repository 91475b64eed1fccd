"""From a log to its result: metrics with intervals, categories, controls, gain, flags.

Everything is recomputed from the raw scores in the log; no model and no picture is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import Card
from genvlm.evaluation.records import SCHEMA, ItemRecord
from genvlm.evaluation.rules import METRICS, Credit
from genvlm.evaluation.statistics import (
    Interval,
    Undefined,
    bootstrap_means,
    percentile_interval,
    wilson_interval,
)

RANDOM = "random"
SHUFFLED = "shuffled-image"
# Controls that never see the picture. Gain is measured over the best of those that were run;
# others (pixel neighbours) are references, which may well be above chance.
UNSEEING = (RANDOM, "constant", "length", "format", "n-gram", "blind")
TIE_FLAG_POINTS = 0.5


class Metric(NamedTuple):
    """One number of a result, in percent."""

    value: float | None
    """Strict credit, the headline; None when no item was answered."""
    half: float | None
    n: int
    interval: Interval | None
    """95 % interval of `value`; None where it is undefined (a flag says why) or exact."""
    tie_rate: float | None


class Gain(NamedTuple):
    """Half credit of the scorer minus that of the best control that never sees the picture."""

    value: float
    interval: Interval | None
    over: str
    """The control that was best."""


class Table(NamedTuple):
    """Metrics over all items and over each category."""

    metrics: dict[str, Metric]
    categories: dict[str, dict[str, Metric]]


class GainTable(NamedTuple):
    """Gains over all items and over each category."""

    metrics: dict[str, Gain]
    categories: dict[str, dict[str, Gain]]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What needs no understanding, beside the scorer."""

    scores: dict[str, Table]
    gain: GainTable


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of one scorer on one benchmark. `to_json` is what `--json` prints."""

    schema: int
    benchmark: str
    version: str
    status: Literal["complete", "incomplete"]
    coverage: dict[str, int]
    metrics: dict[str, Metric]
    categories: dict[str, dict[str, Metric]]
    controls: Controls
    flags: tuple[str, ...]
    fingerprint: str
    scorer: str

    def to_json(self) -> dict[str, object]:
        """Plain dictionaries and lists for `json.dumps`."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def summarize(records: Sequence[ItemRecord], card: Card, *, num_truncated: int = 0) -> Summary:
    """Recompute a result from its log.

    Args:
        num_truncated: lines of the log that were cut short (`read_records`).

    Raises:
        EvaluationError: no record, records of another benchmark or of several runs, doubled ids.
    """
    _check_one_run(records, card)
    coverage = _coverage(records)
    answered = [r for r in records if r.status == "answered"]
    flags: list[str] = []
    if num_truncated:
        flags.append(f"the log ends in {num_truncated} line that was cut short")
    scorers = _credits_by_scorer(answered, flags)
    tags = list(dict.fromkeys(tag for r in records for tag in r.tags))
    whole = _Part(answered, scorers, card)
    parts = {
        tag: _Part(
            [r for r in answered if tag in r.tags],
            {
                name: [c for r, c in zip(answered, credits, strict=True) if tag in r.tags]
                for name, credits in scorers.items()
            },
            card,
        )
        for tag in tags
    }
    tables = {
        name: Table(whole.metrics(name), {tag: part.metrics(name) for tag, part in parts.items()})
        for name in (_SCORER, RANDOM, *(n for n in scorers if n != _SCORER))
    }
    scorer = tables.pop(_SCORER)
    flags += whole.flags(scorer.metrics, tables)
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
            gain=GainTable(whole.gains(), {tag: part.gains() for tag, part in parts.items()}),
        ),
        flags=tuple(flags),
        fingerprint=records[0].fingerprint,
        scorer=records[0].scorer,
    )


_SCORER = ""
Credits = Mapping[str, Credit]


class _Part:
    """Some of the items, with the credits of the scorer and of every control on them."""

    def __init__(
        self, records: Sequence[ItemRecord], scorers: Mapping[str, Sequence[Credits]], card: Card
    ) -> None:
        self.card = card
        self.names = METRICS[card.rule]
        self.n = len(records)
        self.groups = [r.group for r in records]
        self.columns = [(name, metric) for name in scorers for metric in self.names]
        self.strict, self.half, self.tied = (
            np.array(
                [
                    [
                        float(getattr(scorers[name][i][metric], part))
                        for name, metric in self.columns
                    ]
                    for i in range(self.n)
                ]
            ).reshape(self.n, len(self.columns))
            for part in ("strict", "half", "tied")
        )
        self.resampled = bootstrap_means(np.hstack([self.strict, self.half]), self.groups)

    def metrics(self, name: str) -> dict[str, Metric]:
        """One scorer's metrics; chance is known exactly."""
        return {metric: self._metric(name, metric) for metric in self.names}

    def gains(self) -> dict[str, Gain]:
        """By metric; the best control is chosen anew in every bootstrap sample."""
        return {metric: self._gain(metric) for metric in self.names} if self.n else {}

    def flags(self, scorer: Mapping[str, Metric], controls: Mapping[str, Table]) -> list[str]:
        """What a reader must know before believing the numbers."""
        flags = []
        for metric in self.names:
            if self.n == 0:
                flags.append(f"{metric}: n/a, no answered item")
                continue
            if isinstance(self.resampled, Undefined):
                flags.append(f"{metric}: no bootstrap interval, {self.resampled.reason}")
            strict, half = scorer[metric].value or 0.0, scorer[metric].half or 0.0
            if abs(strict - half) > TIE_FLAG_POINTS:
                flags.append(
                    f"{metric}: ties matter, {strict:.2f} when a tie is wrong and {half:.2f} when "
                    f"it is decided by chance (ties in {scorer[metric].tie_rate:.2f} % of items)"
                )
            for name in controls:
                if name != RANDOM and (name in UNSEEING or name == SHUFFLED):
                    flags += self._control_flag(name, metric)
        return flags

    def _control_flag(self, name: str, metric: str) -> list[str]:
        column = self.columns.index((name, metric))
        chance = self.card.chance[metric]
        half = 100 * self.half[:, column].mean()
        if isinstance(self.resampled, Undefined):
            error = float(np.sqrt(chance * (100 - chance) / self.n))
        else:
            error = 100 * float(self._resampled_half()[:, column].std(ddof=1))
        if half <= chance + 2 * error + 1e-9:
            return []
        return [
            f"{metric}: control {name!r} gets {half:.2f}, above chance ({chance:.2f}) by more than "
            f"2 standard errors ({error:.2f})"
        ]

    def _metric(self, name: str, metric: str) -> Metric:
        if name == RANDOM:
            chance = self.card.chance[metric]
            return Metric(chance, chance, self.n, None, 0.0)
        if self.n == 0:
            return Metric(None, None, 0, None, None)
        column = self.columns.index((name, metric))
        strict, half, tied = (
            100 * float(values[:, column].mean()) for values in (self.strict, self.half, self.tied)
        )
        return Metric(strict, half, self.n, self._interval(column), tied)

    def _interval(self, column: int) -> Interval | None:
        credit = self.strict[:, column]
        if isinstance(self.resampled, Undefined):
            return None
        if credit.min() == credit.max():
            # No resample can differ from all right or all wrong: count clusters as the trials.
            num_groups = len(set(self.groups))
            wilson = wilson_interval(num_groups * float(credit[0]), num_groups)
            return None if isinstance(wilson, Undefined) else _percent(wilson)
        return _percent(percentile_interval(self.resampled[:, column]))

    def _gain(self, metric: str) -> Gain:
        chance = self.card.chance[metric] / 100
        rivals = [n for n in UNSEEING if (n, metric) in self.columns]
        columns = [self.columns.index((name, metric)) for name in rivals]
        own = self.columns.index((_SCORER, metric))
        means = [chance, *(float(self.half[:, column].mean()) for column in columns)]
        best = int(np.argmax(means))
        value = 100 * (float(self.half[:, own].mean()) - means[best])
        interval = None
        if not isinstance(self.resampled, Undefined):
            half = self._resampled_half()
            rival = np.maximum(chance, half[:, columns].max(1, initial=0.0))
            interval = _percent(percentile_interval(half[:, own] - rival))
        return Gain(value, interval, (RANDOM, *rivals)[best])

    def _resampled_half(self) -> Float64[np.ndarray, "resamples columns"]:
        assert not isinstance(self.resampled, Undefined)
        return self.resampled[:, len(self.columns) :]


def _check_one_run(records: Sequence[ItemRecord], card: Card) -> None:
    if not records:
        raise EvaluationError(f"the log holds no item of {card.name}: run the evaluation again")
    first = records[0]
    seen: set[str] = set()
    for record in records:
        if record.benchmark != card.name or record.rule != card.rule:
            raise EvaluationError(
                f"item {record.id!r} is of the benchmark {record.benchmark!r} (rule "
                f"{record.rule}), not of {card.name!r} (rule {card.rule})"
            )
        if record.version.partition("+")[0] != card.version:
            raise EvaluationError(
                f"item {record.id!r} is of version {record.version} of {card.name}, the card is of "
                f"version {card.version}: run the evaluation again"
            )
        run = (record.fingerprint, record.version, record.num_items)
        if run != (first.fingerprint, first.version, first.num_items):
            raise EvaluationError(
                f"items {first.id!r} and {record.id!r} come from different runs (scorer, version "
                "or number of items differ): summarize one log at a time"
            )
        if record.id in seen:
            raise EvaluationError(f"item {record.id!r} stands twice in the log: remove one")
        seen.add(record.id)


def _coverage(records: Sequence[ItemRecord]) -> dict[str, int]:
    statuses = ("answered", "refused", "unparseable", "failed")
    counts = {status: sum(r.status == status for r in records) for status in statuses}
    return {"expected": records[0].num_items, **counts}


def _credits_by_scorer(
    answered: Sequence[ItemRecord], flags: list[str]
) -> dict[str, list[dict[str, Credit]]]:
    controls = list(answered[0].controls) if answered else []
    for record in answered:
        if record.controls.keys() != set(controls):
            raise EvaluationError(
                f"item {record.id!r} has the controls {sorted(record.controls)}, others have "
                f"{sorted(controls)}: summarize one log at a time"
            )
    credits = {name: [r.recompute_credit(name) for r in answered] for name in controls}
    own = [r.recompute_credit() for r in answered]
    changed = [r.id for r, c in zip(answered, own, strict=True) if c != r.credit]
    if changed:
        flags.append(
            f"{len(changed)} items carry a credit that their scores do not give, such as "
            f"{changed[0]!r}; the scores were used"
        )
    return {_SCORER: own, **credits}


def _percent(interval: Interval) -> Interval:
    return Interval(100 * interval.low, 100 * interval.high)


def _plain(value: object) -> object:
    """Named tuples of a result as dictionaries, intervals and other tuples as lists."""
    if isinstance(value, Interval):
        return list(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
