from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest

from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import Card
from genvlm.evaluation.comparison import compare
from genvlm.evaluation.decisions import build_rule
from genvlm.evaluation.records import ItemRecord

CARD = Card(
    name="toy",
    version="1",
    rule="choice",
    chance={"accuracy": 50.0},
    licence="none",
    artefacts=[],
    description="pairs",
    metrics={"accuracy": "right"},
)


def log(right: list[bool], scorer: str) -> list[ItemRecord]:
    records = []
    for k, good in enumerate(right):
        scores = (1.0, 0.0) if good else (0.0, 1.0)
        records.append(
            ItemRecord(
                id=f"item-{k}",
                group=f"group-{k // 2}",
                tags=("even",) if k % 2 == 0 else ("odd",),
                benchmark="toy",
                version="1",
                num_items=len(right),
                rule="choice",
                target=0,
                scores=(scores,),
                credit=build_rule("choice").credit(np.array([scores]), 0, "x"),
                fingerprint=scorer,
                scorer=scorer,
            )
        )
    return records


FIRST = [True] * 10 + [False] * 30
SECOND = [True] * 8 + [False] * 2 + [True] * 15 + [False] * 15


def exchanges(first: list[bool], second: list[bool]) -> float:
    """Share of all exchanges within pairs whose difference is as large, by trying them."""
    sums = [int(a) - int(b) for a, b in zip(first, second, strict=True)]
    pairs = [d for d in map(sum, zip(sums[::2], sums[1::2], strict=True)) if d]
    signs = np.array(list(product((-1, 1), repeat=len(pairs))))
    return float((abs(signs @ pairs) >= abs(sum(pairs))).mean())


def test_differences_are_paired_by_item() -> None:
    compared = compare(log(FIRST, "a"), log(SECOND, "b"), CARD)
    found = compared.metrics["accuracy"]
    assert (found.first, found.second) == pytest.approx((25.0, 57.5))
    assert found.difference == pytest.approx(32.5)
    assert (found.first_only, found.second_only, found.n) == (2, 15, 40)
    assert found.p_value == pytest.approx(exchanges(FIRST, SECOND))
    assert found.p_value > binomtest(2, 17, 0.5).pvalue  # as if all items were independent
    assert found.interval is not None
    assert found.interval.low < 32.5 < found.interval.high
    assert (compared.first, compared.second) == ("a", "b")


def test_the_order_of_items_does_not_matter() -> None:
    shuffled = log(SECOND, "b")[::-1]
    assert compare(log(FIRST, "a"), shuffled, CARD) == compare(
        log(FIRST, "a"), log(SECOND, "b"), CARD
    )


def test_categories_are_corrected_for_their_number() -> None:
    compared = compare(log(FIRST, "a"), log(SECOND, "b"), CARD)
    even, odd = (compared.categories[tag]["accuracy"] for tag in ("even", "odd"))
    assert even.p_value is not None
    assert odd.p_value is not None
    smaller, larger = sorted((even, odd), key=lambda d: d.p_value or 0)
    assert smaller.adjusted_p_value == pytest.approx(min(1, 2 * (smaller.p_value or 0)))
    assert (larger.adjusted_p_value or 0) >= (smaller.adjusted_p_value or 0)
    assert compared.metrics["accuracy"].adjusted_p_value is None


def test_equal_scorers_have_no_p_value() -> None:
    found = compare(log(FIRST, "a"), log(FIRST, "b"), CARD).metrics["accuracy"]
    assert (found.difference, found.p_value) == (0.0, None)
    assert found.interval == (0.0, 0.0)


def test_logs_that_do_not_match_are_refused() -> None:
    first, second = log(FIRST, "a"), log(SECOND, "b")
    with pytest.raises(EvaluationError, match="holds 39 of 40 items"):
        compare(first, second[:-1], CARD)
    with pytest.raises(EvaluationError, match="2 ids are in one log alone, such as 'item-39'"):
        compare(first, [*second[:-1], replace(second[-1], id="item-99")], CARD)
    with pytest.raises(EvaluationError, match="'item-0' stands twice"):
        compare(first, [*second[:-1], second[0]], CARD)
    other = [replace(r, version="1+limit=3") for r in second]
    with pytest.raises(EvaluationError, match="different benchmarks"):
        compare(first, other, CARD)
    failed = [*second[:-1], replace(second[-1], status="failed", scores=None, credit={})]
    with pytest.raises(EvaluationError, match="1 items of b failed, such as 'item-39'"):
        compare(first, failed, CARD)


def test_a_rule_that_gives_items_no_credit_is_named() -> None:
    card = replace(CARD, rule="correlation", chance={}, metrics={"mean score": "mean"})
    first, second = (
        [
            replace(r, rule="correlation", target={"human": 1.0}, scores=((1.0,),), credit={})
            for r in records
        ]
        for records in (log(FIRST, "a"), log(SECOND, "b"))
    )
    with pytest.raises(EvaluationError, match="under the rule correlation no item alone earns"):
        compare(first, second, card)
