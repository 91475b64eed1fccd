"""Rules as the summary uses them: parts, sums, and what an undecided answer counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.errors import EvaluationError
from genvlm.evaluation.decisions import build_rule
from genvlm.evaluation.measures import Judged, Rule

ORDERS = ("positive-first", "negative-first")
ANSWERS = st.sampled_from(["yes", "no", None])


def values(rule: Rule, evidence: list, targets: list, kind: str = "strict") -> dict[str, float]:
    ids = [str(k) for k in range(len(targets))]
    sums = getattr(rule.parts(Judged(evidence, targets, ids)), kind).sum(0)
    return {
        name: float(metric.of_sums(sums))
        for name, metric in rule.metrics.items()
        if metric.of_sums is not None
    }


def test_a_constant_scorer_gets_0_50_and_100_on_a_choice() -> None:
    rule = build_rule("choice")
    evidence = [np.zeros((1, 2))] * 6
    targets = [0, 1, 0, 1, 1, 0]
    assert values(rule, evidence, targets) == {"accuracy": 0.0}
    assert values(rule, evidence, targets, "half") == {"accuracy": 0.5}
    wins = [rule.credit(e, t, "x")["accuracy"].win for e, t in zip(evidence, targets, strict=True)]
    assert wins == [1.0] * 6


def test_yes_no_metrics_are_those_of_the_confusion_matrix() -> None:
    rule = build_rule("yes-no")
    # 3 true yes, 1 false yes, 4 true no, 2 false no.
    pairs = [("yes", "yes")] * 3 + [("yes", "no")] + [("no", "no")] * 4 + [("no", "yes")] * 2
    found = values(rule, [{"": a} for a, _ in pairs], [t for _, t in pairs])
    assert found == {
        "accuracy": pytest.approx(0.7),
        "precision": pytest.approx(3 / 4),
        "recall": pytest.approx(3 / 5),
        "specificity": pytest.approx(4 / 5),
        "f1": pytest.approx(6 / 9),
        "yes ratio": pytest.approx(0.4),
        "balanced": pytest.approx(0.7),
    }


def test_the_yes_ratio_is_of_the_answers_not_of_the_truth() -> None:
    # A harness elsewhere prints the share of yes in the ground truth.
    rule = build_rule("yes-no")
    found = values(rule, [{"": "yes"}] * 3 + [{"": "no"}], ["no", "no", "no", "yes"])
    assert found["yes ratio"] == 0.75


def test_always_yes_gets_half_with_f1_of_two_thirds() -> None:
    found = values(build_rule("yes-no"), [{"": "yes"}] * 10, ["yes", "no"] * 5)
    assert (found["accuracy"], found["balanced"], found["recall"]) == (0.5, 0.5, 1.0)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["specificity"] == 0.0


def test_what_is_undefined_is_nan_and_never_0() -> None:
    found = values(build_rule("yes-no"), [{"": "no"}] * 3, ["no"] * 3)
    assert np.isnan(found["recall"])
    assert np.isnan(found["precision"])
    assert np.isnan(found["balanced"])
    assert found["accuracy"] == 1.0


@given(st.lists(st.tuples(ANSWERS, st.sampled_from(["yes", "no"])), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_an_unreadable_answer_is_wrong_or_a_coin(pairs: list[tuple[str | None, str]]) -> None:
    rule = build_rule("yes-no")
    evidence, targets = [{"": a} for a, _ in pairs], [t for _, t in pairs]
    strict, half = (values(rule, evidence, targets, k)["accuracy"] for k in ("strict", "half"))
    right = sum(a == t for a, t in pairs)
    unread = sum(a is None for a, _ in pairs)
    assert strict == pytest.approx(right / len(pairs))
    assert half == pytest.approx((right + unread / 2) / len(pairs))
    tied = rule.parts(Judged(evidence, targets, ["x"] * len(pairs))).tied
    assert tied[:, 0].tolist() == [a is None for a, _ in pairs]


def test_options_are_judged_in_each_order_and_in_all() -> None:
    rule = build_rule("options", ORDERS)
    evidence = [
        {ORDERS[0]: "positive", ORDERS[1]: "positive"},
        {ORDERS[0]: "positive", ORDERS[1]: "negative"},
        {ORDERS[0]: "negative", ORDERS[1]: "negative"},
        {ORDERS[0]: None, ORDERS[1]: "positive"},
    ]
    strict = values(rule, evidence, ["positive"] * 4)
    assert strict == {
        "accuracy": 0.5, ORDERS[0]: 0.5, ORDERS[1]: 0.5, "all orders": 0.25, "agreement": 0.5,
    }  # fmt: skip
    half = values(rule, evidence, ["positive"] * 4, "half")
    assert half == {
        "accuracy": 0.5625, ORDERS[0]: 0.625, ORDERS[1]: 0.5, "all orders": 0.375,
        "agreement": 0.625,
    }  # fmt: skip


def test_an_answerer_that_takes_the_first_option_never_gets_both_orders() -> None:
    rule = build_rule("options", ORDERS)
    evidence = [{ORDERS[0]: "positive", ORDERS[1]: "negative"}] * 5
    found = values(rule, evidence, ["positive"] * 5)
    assert (found[ORDERS[0]], found[ORDERS[1]], found["accuracy"]) == (1.0, 0.0, 0.5)
    assert (found["all orders"], found["agreement"]) == (0.0, 0.0)


def test_one_order_alone_tells_nothing_about_both() -> None:
    found = values(build_rule("options", ORDERS), [{ORDERS[1]: "positive"}], ["positive"])
    assert found["accuracy"] == found[ORDERS[1]] == 1.0
    assert all(np.isnan(found[name]) for name in (ORDERS[0], "all orders", "agreement"))
    with pytest.raises(EvaluationError, match=r"item 'x'.*expected some of positive-first"):
        build_rule("options", ORDERS).credit({"sideways": "positive"}, "positive", "x")


def test_two_unreadable_answers_agree_by_chance() -> None:
    credit = build_rule("options", ORDERS).credit(dict.fromkeys(ORDERS), "positive", "x")
    assert credit["agreement"] == (0.0, 0.5, 1.0, True)
    assert credit["all orders"] == (0.0, 0.25, 1.0, True)


def test_an_exact_answer_is_one_of_its_own_options() -> None:
    rule = build_rule("exact")
    target = {"answer": "B", "options": ["A", "B", "C"]}
    assert rule.credit({"": "B"}, target, "x")["accuracy"] == (1.0, 1.0, 1.0, False)
    assert rule.credit({"": None}, target, "x")["accuracy"] == (
        0.0,
        pytest.approx(1 / 3),
        1.0,
        True,
    )


def test_a_correlation_takes_scores_or_answers() -> None:
    rule = build_rule("correlation")
    graph = {"human": 3.0, "parents": {"2": [1]}}
    quiz = {"human": None, "answers": {"who?": "cat", "where?": "sea"}}
    evidence = [np.array([[0.7]]), {"1": "no", "2": "yes"}, {"who?": "cat", "where?": None}]
    parts = rule.parts(Judged(evidence, [{"human": 1.0}, graph, quiz], ["a", "b", "c"]))
    assert parts.strict[:, 0].tolist() == [0.7, 0.0, 0.5]
    assert parts.strict[:2, 1].tolist() == [1.0, 3.0]
    pearson = rule.metrics["pearson"].of_items
    assert pearson is not None
    assert np.isnan(pearson(parts.strict))  # one item was never rated
    assert pearson(parts.strict[:2]) == pytest.approx(-1.0)


def test_scores_and_answers_are_not_mixed_up() -> None:
    with pytest.raises(EvaluationError, match="item 'a': this rule needs scores"):
        build_rule("choice").credit({"": "yes"}, 0, "a")
    with pytest.raises(EvaluationError, match="item 'a': this rule needs answers"):
        build_rule("yes-no").credit(np.zeros((1, 2)), "yes", "a")
    with pytest.raises(EvaluationError, match="item 'a': expected 1 answer, got 2"):
        build_rule("yes-no").credit({"1": "yes", "2": "no"}, "yes", "a")
    with pytest.raises(EvaluationError, match="the answer 'maybe'"):
        build_rule("yes-no").parts(Judged([{"": "maybe"}], ["yes"], ["a"]))
