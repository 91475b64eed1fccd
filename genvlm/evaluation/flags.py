"""What a reader must know before believing the numbers of a result."""

from collections.abc import Mapping, Sequence

import numpy as np

from genvlm.evaluation.cards import Card
from genvlm.evaluation.control_names import FIRST_OPTION, RANDOM, SUSPECT, UNSEEING
from genvlm.evaluation.numbers import WHOLE, Numbers
from genvlm.evaluation.records import ItemRecord
from genvlm.evaluation.results import Measured, Table
from genvlm.evaluation.statistics import Undefined, mcnemar_exact

TIE_FLAG_POINTS = 0.5


def result_flags(
    numbers: Numbers,
    records: Sequence[ItemRecord],
    scorer: Mapping[str, Measured],
    controls: Mapping[str, Table],
) -> list[str]:
    """What a reader must know before believing the numbers."""
    card, flags = numbers.card, list[str]()
    asked = {said.question for r in records for said in r.answers}
    every_order = asked.issuperset(card.orders)
    for metric, found in scorer.items():
        if not numbers.members[WHOLE].any():
            flags.append(f"{metric}: n/a, no answered item")
            continue
        if found.value is None:
            flags.append(f"{metric}: n/a, it is undefined on these items")
            continue
        if numbers.resampling.undefined:
            flags.append(f"{metric}: no bootstrap interval, {numbers.resampling.undefined}")
        half = found.value if found.half is None else found.half
        if found.unit == "percent" and abs(found.value - half) > TIE_FLAG_POINTS:
            flags.append(
                f"{metric}: ties matter, {found.value:.2f} when a tie is wrong and {half:.2f} "
                f"when it is decided by chance (ties in {found.tie_rate:.2f} % of items)"
            )
        flags += _rival_flag(numbers, metric, half)
        for name in controls:
            if (
                name != RANDOM
                and name in SUSPECT
                and not _of_the_order(card, name, metric, every_order=every_order)
            ):
                flags += _control_flag(numbers, name, metric)
    flags += _confounded_flags(numbers, controls)
    for tag, members in numbers.members.items():
        if tag.startswith(card.macro_over or "\0") and tag not in numbers.macro_tags:
            flags.append(
                f"{tag} has {members.sum()} items, fewer than {card.macro_min_items}: it "
                "does not enter the macro average"
            )
    return flags


def _of_the_order(card: Card, name: str, metric: str, *, every_order: bool) -> bool:
    """Whether a control gets what it gets by the order of options alone, which is no fault of
    the benchmark: the first option is always right in one order and never in the other."""
    return name == FIRST_OPTION and (metric in card.orders or not every_order)


def _rival_flag(numbers: Numbers, metric: str, own: float) -> list[str]:
    """Where no chance level is known there is no gain; that a control gets more is told."""
    if not numbers.metric(metric).rising or metric in numbers.card.chance:
        return []
    found = {
        name: value
        for name in UNSEEING
        if name in numbers.parts
        and numbers.comparable(name, metric)
        and (value := numbers.value(name, metric, "half")) is not None
    }
    best = max(found, key=lambda name: found[name], default=None)
    if best is None or found[best] <= own:
        return []
    return [
        f"{metric}: control {best!r} gets {found[best]:.4f} without the picture, more than the "
        f"{own:.4f} of what is judged"
    ]


def _control_flag(numbers: Numbers, name: str, metric: str) -> list[str]:
    chance = numbers.card.chance.get(metric)
    half = numbers.value(name, metric, "half")
    if chance is None or half is None:
        return []
    n = int(numbers.members[WHOLE].sum())
    resampled = numbers.resampled(name, metric, "half")
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


def _confounded_flags(numbers: Numbers, controls: Mapping[str, Table]) -> list[str]:
    """Categories that a control tells right from wrong in, or wrong from right: both ways, since
    the opposite of a control would get 100 minus what it gets."""
    named = [name for name in numbers.card.confounders if name in controls]
    flags = [
        f"the control {name!r} was not run: whether it tells right from wrong is not known"
        for name in numbers.card.confounders
        if name not in controls
    ]
    for tag in (t for t in numbers.members if t != WHOLE or len(numbers.members) == 1):
        for metric, chance in numbers.card.chance.items():
            for name in named:
                value = numbers.value(name, metric, "half", tag)
                interval = numbers.interval(name, metric, tag, "half")
                if value is None or interval is None:
                    continue
                # Rounding of sums of draws must not part an interval from the chance it touches.
                if not interval.low - 1e-9 <= chance <= interval.high + 1e-9:
                    flags.append(
                        f"{tag or 'all'} is confounded: control {name!r} gets {value:.1f} "
                        f"[{interval.low:.1f}, {interval.high:.1f}] in {metric}, and chance is "
                        f"{chance:.0f}"
                    )
    return flags


def order_flags(records: Sequence[ItemRecord], card: Card) -> list[str]:
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
