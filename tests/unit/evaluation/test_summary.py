import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import Card
from genvlm.evaluation.decisions import build_rule
from genvlm.evaluation.records import ItemRecord, Said, read_records, write_records
from genvlm.evaluation.summary import summarize

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


def record(number: int, scores: tuple[float, float], **changes: object) -> ItemRecord:
    values = np.array([scores])
    made = ItemRecord(
        id=f"item-{number}",
        group=f"group-{number // 2}",
        tags=("even",) if number % 2 == 0 else ("odd",),
        benchmark="toy",
        version="1",
        num_items=40,
        rule="choice",
        target=0,
        order_seed=number,
        image_order=(0,),
        text_order=(1, 0),
        scores=(scores,),
        num_tokens=((3, 4),),
        credit=build_rule("choice").credit(values, 0, "x"),
        controls={"constant": ((0.0, 0.0),), "length": ((-3.0, -3.0),)},
        fingerprint="f" * 64,
        scorer="log p(text | image)",
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def log(num_right: int = 30, num_tied: int = 0, num: int = 40) -> list[ItemRecord]:
    """`num` items: the first `num_right` right, then `num_tied` ties, the others wrong."""
    scores = [(1.0, 0.0)] * num_right + [(0.5, 0.5)] * num_tied
    scores += [(0.0, 1.0)] * (num - len(scores))
    return [record(k, pair) for k, pair in enumerate(scores)]


def test_a_summary_has_exactly_the_published_shape() -> None:
    result = summarize(log(), CARD).to_json()
    assert list(result) == [
        "schema", "benchmark", "version", "status", "coverage", "metrics", "categories",
        "controls", "flags", "fingerprint", "scorer",
    ]  # fmt: skip
    assert result["coverage"] == {
        "expected": 40, "answered": 40, "refused": 0, "unparseable": 0, "failed": 0,
    }  # fmt: skip
    metric = result["metrics"]["accuracy"]
    assert list(metric) == ["value", "half", "n", "interval", "tie_rate", "unit"]
    assert (metric["value"], metric["half"], metric["n"], metric["tie_rate"]) == (75, 75, 40, 0)
    assert metric["interval"][0] < 75 < metric["interval"][1]
    assert result["status"] == "complete"
    assert result["flags"] == []
    json.dumps(result, allow_nan=False)


def test_rescoring_the_log_gives_the_live_summary(tmp_path: Path) -> None:
    records = log(num_right=25, num_tied=3)
    live = summarize(records, CARD)
    write_records(records, tmp_path / "log.jsonl")
    found = read_records(tmp_path / "log.jsonl")
    assert found == (records, 0)
    assert summarize(found.records, CARD).to_json() == live.to_json()


def test_categories_are_the_tags() -> None:
    result = summarize(log(num_right=1), CARD)
    assert result.categories["even"]["accuracy"].value == 5.0
    assert result.categories["odd"]["accuracy"].value == 0.0
    assert result.categories["odd"]["accuracy"].n == 20


def test_controls_stand_beside_the_score_and_gain_is_over_the_best() -> None:
    records = [
        replace(r, controls={**r.controls, "blind": ((1.0, 0.0) if k < 24 else (0.0, 1.0),)})
        for k, r in enumerate(log(num_right=30))
    ]
    controls = summarize(records, CARD).controls
    assert controls.scores["random"].metrics["accuracy"][:3] == (50.0, 50.0, 40)
    assert controls.scores["constant"].metrics["accuracy"].value == 0.0
    assert controls.scores["constant"].metrics["accuracy"].half == 50.0
    assert controls.scores["constant"].metrics["accuracy"].tie_rate == 100.0
    assert controls.scores["blind"].metrics["accuracy"].value == 60.0
    gain = controls.gain.metrics["accuracy"]
    assert (gain.value, gain.over) == (pytest.approx(15.0), "blind")
    assert gain.interval is not None
    assert gain.interval.low < 15 < gain.interval.high
    # References that see the picture are no rival.
    seeing = [replace(r, controls={"pixel": ((1.0, 0.0),)}) for r in log(num_right=30)]
    assert summarize(seeing, CARD).controls.gain.metrics["accuracy"].over == "random"
    assert summarize(seeing, CARD).flags == ()


def test_a_control_above_chance_raises_a_flag() -> None:
    records = [replace(r, controls={"length": ((-1.0, -2.0),)}) for r in log()]
    (flag,) = summarize(records, CARD).flags
    assert "'length' gets 100.00, above chance (50.00)" in flag


@pytest.mark.parametrize(("num_right", "flagged"), [(24, False), (32, True)])
def test_a_control_within_two_standard_errors_raises_no_flag(num_right: int, flagged: bool) -> None:
    # 20 groups of equal pairs: one standard error is 10.9 points at 60 %, 8.9 at 80 %.
    blind = [(1.0, 0.0) if k < num_right else (0.0, 1.0) for k in range(40)]
    records = [replace(r, controls={"blind": (b,)}) for r, b in zip(log(), blind, strict=True)]
    assert any("'blind'" in flag for flag in summarize(records, CARD).flags) == flagged


def test_gain_gives_half_credit_to_ties_on_both_sides() -> None:
    gain = summarize(log(num_right=0, num_tied=40), CARD).controls.gain.metrics["accuracy"]
    assert (gain.value, gain.over) == (0.0, "random")


def test_a_gain_over_chance_is_the_value_with_its_interval_minus_chance() -> None:
    for num_right in (0, 25, 40):
        result = summarize(log(num_right=num_right), CARD)
        own, gain = result.metrics["accuracy"], result.controls.gain.metrics["accuracy"]
        assert own.interval is not None
        assert gain.over == "random"
        assert gain.interval == pytest.approx([bound - 50 for bound in own.interval])
        # Nothing is below 0 %, whichever control would have been best in a resample.
        assert gain.interval.low >= -50
        assert gain.interval.low < gain.interval.high


def test_a_gain_over_a_control_that_varies_is_paired_with_it_alone() -> None:
    # Blind is right where the scorer is, and on four items more.
    blind = [(1.0, 0.0) if k < 34 else (0.0, 1.0) for k in range(40)]
    records = [replace(r, controls={"blind": (b,)}) for r, b in zip(log(30), blind, strict=True)]
    gain = summarize(records, CARD).controls.gain.metrics["accuracy"]
    assert (gain.value, gain.over) == (pytest.approx(-10), "blind")
    assert gain.interval is not None
    assert -30 < gain.interval.low < -10 < gain.interval.high <= 0


@pytest.mark.parametrize(
    ("num_right", "num_blind", "interval"),
    [
        # Neither varies: Wilson's interval of the value with 20 groups, minus the control.
        (40, 40, (-16.11, 0.0)),
        (0, 40, (-100.0, -83.89)),
        # Both vary as one: 0 of 20 groups were seen to differ.
        (30, 30, (-16.11, 16.11)),
    ],
)
def test_a_gain_that_does_not_vary_has_no_interval_of_width_zero(
    num_right: int, num_blind: int, interval: tuple[float, float]
) -> None:
    blind = [(1.0, 0.0) if k < num_blind else (0.0, 1.0) for k in range(40)]
    records = [
        replace(r, controls={"blind": (b,)}) for r, b in zip(log(num_right), blind, strict=True)
    ]
    gain = summarize(records, CARD).controls.gain.metrics["accuracy"]
    assert gain.over == "blind"
    assert gain.interval == pytest.approx(interval, abs=0.01)


def test_a_category_of_one_group_has_a_gain_without_an_interval() -> None:
    records = [replace(r, tags=("rare",) if k < 2 else ()) for k, r in enumerate(log())]
    gain = summarize(records, CARD).controls.gain.categories["rare"]["accuracy"]
    assert (gain.value, gain.interval) == (50.0, None)


def test_ties_that_matter_raise_a_flag() -> None:
    assert any("ties matter" in flag for flag in summarize(log(20, num_tied=1), CARD).flags)
    assert not any("ties matter" in flag for flag in summarize(log(20), CARD).flags)


def test_missing_items_make_a_result_incomplete() -> None:
    result = summarize(log()[:-1], CARD)
    assert result.status == "incomplete"
    assert (result.coverage["expected"], result.coverage["answered"]) == (40, 39)
    failed = [*log()[:-1], replace(log()[-1], status="failed", scores=None, controls={})]
    result = summarize(failed, CARD)
    assert result.status == "incomplete"
    assert (result.coverage["answered"], result.coverage["failed"]) == (39, 1)


def test_what_is_undefined_is_none_with_a_reason() -> None:
    failed = [replace(r, status="failed", scores=None) for r in log()]
    result = summarize(failed, CARD)
    assert result.metrics["accuracy"] == (None, None, 0, None, None, "percent")
    assert "accuracy: n/a, no answered item" in result.flags
    single = [replace(r, group="one") for r in log()]
    result = summarize(single, CARD)
    assert result.metrics["accuracy"].interval is None
    assert any("one group" in flag for flag in result.flags)


def test_all_right_still_has_an_interval() -> None:
    low, high = summarize(log(num_right=40), CARD).metrics["accuracy"].interval
    # Wilson with 20 groups, not 40 items.
    assert (low, high) == pytest.approx((83.89, 100.0), abs=0.01)


def test_a_truncated_log_is_counted_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_records(log(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-25])
    records, num_truncated = read_records(path)
    assert (len(records), num_truncated) == (39, 1)
    result = summarize(records, CARD, num_truncated=num_truncated)
    assert result.status == "incomplete"
    assert any("cut short" in flag for flag in result.flags)
    # A last line that lacks only its line feed is whole.
    path.write_bytes(whole[:-1])
    assert read_records(path) == (log(), 0)


def test_damage_inside_a_log_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    write_records(log(), path)
    lines = path.read_text().splitlines()
    for damaged in ("", lines[2][:-9], lines[2].replace('"schema": 3', '"schema": 99'), "[]"):
        path.write_text("\n".join([*lines[:2], damaged, *lines[3:]]) + "\n")
        with pytest.raises(EvaluationError, match="line 3"):
            read_records(path)
    with pytest.raises(EvaluationError, match="no log at"):
        read_records(tmp_path / "other.jsonl")


def test_altered_credit_is_noticed_and_not_used() -> None:
    records = log()
    forged = replace(records[-1], credit=records[0].credit)
    result = summarize([*records[:-1], forged], CARD)
    assert result.metrics["accuracy"].value == 75.0
    assert any("'item-39'" in flag for flag in result.flags)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": "item-0"}, "stands twice"),
        ({"fingerprint": "e" * 64}, "different runs"),
        ({"num_items": 41}, "different runs"),
        ({"benchmark": "other"}, "'other'"),
        ({"version": "2"}, "version 2"),
        ({"controls": {}}, "has the controls"),
        ({"scores": ((float("nan"), 0.0),)}, "item-39"),
        ({"controls": {"constant": ((0.0, float("inf")),), "length": ((0, 0),)}}, "'constant'"),
    ],
)
def test_records_that_do_not_belong_together_are_refused(
    change: dict[str, object], message: str
) -> None:
    records = log()
    with pytest.raises(EvaluationError, match=message):
        summarize([*records[:-1], replace(records[-1], **change)], CARD)  # type: ignore[arg-type]


def test_options_stand_behind_the_version() -> None:
    records = [replace(r, version="1+vendor=fluent") for r in log()]
    assert summarize(records, CARD).version == "1+vendor=fluent"


def test_an_empty_log_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="no item of toy"):
        summarize([], CARD)


def test_a_draw_without_a_category_averages_over_the_others() -> None:
    card = replace(
        CARD,
        macro_over="kind: ",
        chance={"accuracy": 50.0, "macro accuracy": 50.0},
        metrics={"accuracy": "right", "macro accuracy": "mean over kinds"},
    )
    records = [
        replace(r, tags=("kind: rare",) if k < 2 else ("kind: common",))
        for k, r in enumerate(log(num_right=2, num=12))
    ]
    result = summarize([replace(r, num_items=12) for r in records], card)
    macro = result.metrics["macro accuracy"]
    assert macro.value == 50
    assert macro.interval is not None
    # A third of all draws leave the one rare group of six out, and give the common kind alone.
    assert (macro.interval.low, macro.interval.high) == (0, 50)
    assert result.controls.gain.metrics["macro accuracy"].interval is not None


@pytest.mark.parametrize(
    ("given", "flagged"),
    [
        # What the order is: the first option is right in one, wrong in the other.
        ({"given": "A", "turned": "B"}, set()),
        ({"given": "A"}, set()),
        # Not told by the order: right in both.
        ({"given": "A", "turned": "A"}, {"accuracy", "all orders"}),
    ],
)
def test_the_first_option_is_flagged_over_all_orders_alone(
    given: dict[str, str], flagged: set[str]
) -> None:
    orders = ["given", "turned"]
    card = replace(
        CARD,
        rule="options",
        orders=orders,
        chance={"given": 50.0, "turned": 50.0, "all orders": 25.0, "accuracy": 50.0},
        metrics=dict.fromkeys((*orders, "all orders", "accuracy"), "right"),
    )
    said = [
        Said(question=order, prompt=None, raw=a, parsed=a, parse_rule="letter")
        for order, a in given.items()
    ]
    records = [
        replace(
            r,
            rule="options",
            target="A",
            scores=None,
            answers=tuple(said),
            controls={"first option": given, "majority": given},
            credit=card.decision.credit(given, "A", r.id),
        )
        for r in log()
    ]
    flags = summarize(records, card).flags
    found = {f.partition(":")[0] for f in flags if "control 'first option'" in f}
    assert found == flagged
    # A control of another kind is flagged wherever it is above chance.
    assert any(f.startswith("given: control 'majority' gets 100.00") for f in flags)
    if len(given) == 1:
        assert any("only the order given was asked" in f for f in flags)


def test_an_undefined_metric_has_no_gain() -> None:
    card = replace(
        CARD,
        rule="options",
        orders=["given", "turned"],
        chance={"all orders": 25.0, "given": 50.0},
        metrics={"all orders": "both", "given": "first"},
    )
    said = Said(question="given", prompt=None, raw="A", parsed="A", parse_rule="letter")
    records = [
        replace(
            r,
            rule="options",
            target="A",
            scores=None,
            answers=(said,),
            controls={},
            credit=card.decision.credit({"given": "A"}, "A", r.id),
        )
        for r in log()
    ]
    result = summarize(records, card)
    assert result.metrics["all orders"].value is None
    assert list(result.controls.gain.metrics) == ["given"]


def rated(number: int, score: float) -> ItemRecord:
    """An item whose rating the length of its text tells, and the score does not."""
    return replace(
        record(number, (0.0, 0.0)),
        rule="correlation",
        target={"human": float(number)},
        scores=((score,),),
        credit={},
        controls={"constant": ((0.0,),), "length": ((-90.0 + number,),)},
    )


def test_a_control_above_a_correlation_is_told_and_has_no_mean_in_another_unit() -> None:
    card = replace(
        CARD,
        rule="correlation",
        chance={},
        metrics={"mean score": "in the unit of the scorer", "pearson": "correlation"},
    )
    records = [rated(k, 0.5 + 0.1 * (k % 3)) for k in range(40)]
    result = summarize(records, card)
    assert any("pearson: control 'length' gets 1.0000" in flag for flag in result.flags)
    assert not any("mean score: control" in flag for flag in result.flags)
    assert result.controls.scores["length"].metrics["mean score"].value is None
    assert result.controls.scores["length"].metrics["pearson"].value == pytest.approx(1)
    # The scorer without its picture has the unit of the scorer.
    blind = [replace(r, controls={"blind": ((0.9,),)}) for r in records]
    result = summarize(blind, card)
    assert result.controls.scores["blind"].metrics["mean score"].value == pytest.approx(0.9)
    assert any("mean score: control 'blind' gets 0.9000" in flag for flag in result.flags)
