"""Two logs of one benchmark, item by item: which scorer is better, and is that more than chance?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import Card
from genvlm.evaluation.coverage import check_one_run
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.resampling import Resampling
from genvlm.evaluation.rules import Credit
from genvlm.evaluation.statistics import (
    Interval,
    Undefined,
    detectable_difference,
    holm,
    mcnemar_exact,
    percentile_interval,
)


class Difference(NamedTuple):
    """One metric on the items of one category; values in percent, strict credit."""

    first: float
    second: float
    difference: float
    """Second minus first, in points."""
    interval: Interval | None
    """95 %, resampling groups; both scorers share each draw."""
    n: int
    num_groups: int
    """Fewer than n: items share groups; interval and p value take each as a whole."""
    first_only: int
    """Items that only the first gets wholly right."""
    second_only: int
    p_value: float | None
    """Exact test of whole groups, McNemar's where each item is one; None where the two never
    disagree."""
    adjusted_p_value: float | None
    """Holm's correction over the categories; the whole has none."""
    detectable: float | None
    """Points that n independent items would show with power 0.8; paired scorers detect less."""


@dataclass(frozen=True, kw_only=True)
class ComparedLogs:
    """`to_json` is what `genvlm eval diff --json` prints."""

    benchmark: str
    version: str
    first: str
    second: str
    metrics: dict[str, Difference]
    categories: dict[str, dict[str, Difference]]

    def to_json(self) -> dict[str, object]:
        """Plain dictionaries and lists."""
        return {
            **{k: v for k, v in asdict(self).items() if isinstance(v, str)},
            "metrics": {name: _plain(found) for name, found in self.metrics.items()},
            "categories": {
                tag: {name: _plain(found) for name, found in by_metric.items()}
                for tag, by_metric in self.categories.items()
            },
        }


def compare(first: Sequence[ItemRecord], second: Sequence[ItemRecord], card: Card) -> ComparedLogs:
    """Paired differences of every metric that is a mean of what single items earn.

    Not of means of other things (words, mentions), for which no test of right and wrong is made.

    Raises:
        EvaluationError: logs of different benchmarks, versions or items, or failed items, or a rule
            under which single items earn nothing.
    """
    for records in (first, second):
        check_one_run(records, card)
        if len(records) != records[0].num_items:
            raise EvaluationError(
                f"the log of {records[0].scorer} holds {len(records)} of {records[0].num_items} "
                "items: only complete logs can be compared"
            )
        failed = [r.id for r in records if r.status == "failed"]
        if failed:
            raise EvaluationError(
                f"{len(failed)} items of {records[0].scorer} failed, such as {failed[0]!r}: only "
                "complete logs can be compared"
            )
    a, b = first[0], second[0]
    if (a.benchmark, a.version) != (b.benchmark, b.version):
        raise EvaluationError(
            f"{a.benchmark} {a.version} and {b.benchmark} {b.version} are different benchmarks: "
            "compare logs of one"
        )
    credits = [_credits(records, card) for records in (first, second)]
    of_first, of_second = (dict.fromkeys(found, True) for found in credits)
    mcnemar_exact(of_first, of_second)  # refuses unequal sets of items
    tags = list(dict.fromkeys(tag for r in first for tag in r.tags))
    members = {tag: [r for r in first if tag in r.tags] for tag in tags}
    names = [name for name in card.metrics if name in next(iter(credits[0].values()))]
    if not names:
        raise EvaluationError(
            f"{a.benchmark}: under the rule {card.rule} no item alone earns credit, which is what "
            "is compared; set the intervals of the two summaries side by side (genvlm eval rescore)"
        )
    by_tag = {
        tag: {name: _difference(mine, credits, name) for name in names}
        for tag, mine in members.items()
    }
    for name in names:
        _adjust(by_tag, name)
    return ComparedLogs(
        benchmark=a.benchmark,
        version=a.version,
        first=a.scorer,
        second=b.scorer,
        metrics={name: _difference(first, credits, name) for name in names},
        categories=by_tag,
    )


def _credits(records: Sequence[ItemRecord], card: Card) -> dict[str, dict[str, Credit]]:
    rule = card.decision
    return {r.id: rule.credit(r.evidence(), r.target, r.id) for r in records}


def _difference(
    records: Sequence[ItemRecord],
    credits: Sequence[Mapping[str, Mapping[str, Credit]]],
    name: str,
) -> Difference:
    ids = [r.id for r in records]
    values = np.array([[c[i][name].strict for c in credits] for i in ids])
    a, b = ({i: c[i][name].strict == 1 for i in ids} for c in credits)
    test = mcnemar_exact(a, b, {r.id: r.group for r in records})
    n = len(ids)
    agree = isinstance(test, Undefined)
    resampling = Resampling([r.group for r in records])
    interval = None
    if not resampling.undefined:
        parts = np.column_stack([values, np.ones(n)])
        sums = resampling.sums(parts, np.ones(n, np.bool_))
        interval = percentile_interval(100 * (sums[:, 1] - sums[:, 0]) / sums[:, 2])
    first, second = (100 * float(v) for v in values.mean(0))
    detectable = detectable_difference(n, (first + second) / 200)
    return Difference(
        first=first,
        second=second,
        difference=second - first,
        interval=interval,
        n=n,
        num_groups=len({r.group for r in records}),
        first_only=0 if isinstance(test, Undefined) else test.first_only,
        second_only=0 if isinstance(test, Undefined) else test.second_only,
        p_value=None if isinstance(test, Undefined) else test.p_value,
        adjusted_p_value=None,
        detectable=None if isinstance(detectable, Undefined) or agree else 100 * detectable,
    )


def _adjust(by_tag: dict[str, dict[str, Difference]], name: str) -> None:
    tested = {t: d[name].p_value for t, d in by_tag.items()}
    known = {tag: p for tag, p in tested.items() if p is not None}
    for tag, adjusted in holm(known).items():
        by_tag[tag][name] = by_tag[tag][name]._replace(adjusted_p_value=adjusted)


def _plain(found: Difference) -> dict[str, object]:
    row = found._asdict()
    row["interval"] = None if found.interval is None else list(found.interval)
    return row
