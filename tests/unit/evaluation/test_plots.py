"""Plots: deterministic SVG, honest about bad input, free of addresses."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from genvlm.errors import EvaluationError
from genvlm.evaluation.plots import (
    Bar,
    NamedPoint,
    bars_with_intervals,
    confusion,
    named_points,
    point_curves,
    reliability,
    risk_coverage_curves,
)
from genvlm.evaluation.svg_style import BLUE
from genvlm.evaluation.training_plots import Panel, log_panels, loss_curves, plan_bars

RECORDS = [
    {"step": s, "loss": 3 / s, "loss_text": 2 / s, "loss_image": 4 / s, "learning_rate": 1e-3}
    for s in range(1, 40)
]
BARS = [Bar("this model", 92.5, 89.4, 95.2, 25.0), Bar("blind", 0.0, 0.0, 0.9, control=True)]


PANEL = Panel("max logit", {"loss_text": ("text", BLUE), "loss_video": ("video", BLUE)})
PARTS = ("parameters", "gradients", "optimizer", "ema", "activations", "temporary", "buffers")
PLAN = {
    "gpus": 8, "gpu": "a100", "usable_bytes": 75 * 2**30,
    "memory": {"0": dict.fromkeys(PARTS, 2**34) | {"total": 7 * 2**34}},
}  # fmt: skip
NAMES = [
    "loss",
    "panels",
    "plan",
    "bars",
    "reliability",
    "risk and coverage",
    "confusion",
    "points",
]


def all_plots() -> list[bytes]:
    return [
        loss_curves(RECORDS),
        log_panels(RECORDS, [PANEL], marks=[20]) or b"",
        plan_bars(PLAN),
        bars_with_intervals(BARS, title="text score, percent"),
        reliability({"before": ([0.2, 0.9, 1.0], [False, True, True]), "after": ([0.5], [True])}),
        risk_coverage_curves({"model": ([0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 1 / 3, 0.5])}),
        confusion([[3, 1], [0, 2]], ["cat", "dog"]),
        point_curves(
            {"ours": [(10, 20.0), (100, 60.0)]}, title="percent", x_label="steps", log_x=True
        ),
    ]


def texts(svg: bytes) -> list[str]:
    return [e.text or "" for e in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_same_input_gives_same_bytes() -> None:
    assert all_plots() == all_plots()


@pytest.mark.parametrize("svg", all_plots(), ids=NAMES)
def test_svg_is_well_formed_and_loads_nothing(svg: bytes) -> None:
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    links = [v for e in root.iter() for k, v in e.attrib.items() if k.endswith(("href", "src"))]
    assert all(link.startswith("#") for link in links)
    assert b"<metadata" not in svg
    assert b"DOCTYPE" not in svg


@pytest.mark.parametrize("svg", all_plots(), ids=NAMES)
def test_dark_scheme_exchanges_the_colours_of_all_text(svg: bytes) -> None:
    assert b"prefers-color-scheme: dark" in svg
    for element in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text"):
        colour = element.attrib["style"].partition("fill: ")[2][:7]
        assert f'[style*="fill: {colour}"]'.encode() in svg


def test_loss_curves_name_each_modality_with_its_last_value() -> None:
    shown = texts(loss_curves(RECORDS))
    assert {"image 0.10", "text 0.05", "all 0.08", "loss, nats per token"} <= set(shown)


def test_loss_curves_tell_of_videos_too() -> None:
    records = [record | {"loss_video": 8 / record["step"]} for record in RECORDS]
    assert {"image 0.10", "video 0.21"} <= set(texts(loss_curves(records)))


def test_loss_curves_skip_what_a_record_lacks() -> None:
    records = [*RECORDS, {"step": 40, "loss": None}, {"step": 41, "loss": math.nan}]
    assert "all 0.08" in texts(loss_curves(records))
    assert not any(t.startswith("image") for t in texts(loss_curves([{"step": 1, "loss": 2.0}])))


def test_a_long_log_gives_a_small_file() -> None:
    records = [{"step": s, "loss": 2 + math.sin(s), "loss_text": 1.0} for s in range(100_000)]
    assert len(loss_curves(records)) < 100_000


def test_labels_are_shown_as_they_are() -> None:
    hostile = "<script>alert(1)</script> $x$ & \x00\ud800"
    shown = texts(bars_with_intervals([Bar(hostile, 1.0, 1.0, 1.0)]))
    assert "<script>alert(1)</script> $x$ & \ufffd\ufffd" in shown


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "no loss to draw"),
        ([{"step": 1, "learning_rate": 0.1}], "no loss to draw"),
        ([{"loss": 1.0}], "record 1: it has no step"),
        ([{"step": 1, "loss": "low"}], "record 1: loss must be a number, got 'low'"),
    ],
)
def test_a_bad_training_log_is_named(records: list[dict], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        loss_curves(records)


@pytest.mark.parametrize(
    "bar",
    [
        Bar("odd", 50, 60, 70),
        Bar("odd", 101, 101, 101),
        Bar("odd", math.nan, 0, 1),
        Bar("odd", 1, 0, 2, -5),
    ],
)
def test_a_bar_outside_its_interval_or_range_is_named(bar: Bar) -> None:
    with pytest.raises(EvaluationError, match="bar 'odd'"):
        bars_with_intervals([bar])


def test_empty_plots_are_refused() -> None:
    with pytest.raises(EvaluationError, match="at least one row"):
        bars_with_intervals([])


def test_a_reliability_plot_shows_accuracy_of_each_bin_and_the_diagonal() -> None:
    shown = texts(reliability({"after": ([0.9, 0.95, 0.1], [True, False, False])}))
    assert {"calibrated", "after", "percent right", "percent of items"} <= set(shown)


def test_risk_coverage_names_the_risk_of_answering_all() -> None:
    svg = risk_coverage_curves({"model": ([0.5, 1.0], [0.0, 0.25]), "other": ([1.0], [0.5])})
    assert {"model 25.0", "other 50.0"} <= set(texts(svg))


def test_a_confusion_picture_writes_counts_of_few_classes_and_names_all() -> None:
    names = [f"class {i}" for i in range(13)]
    many = texts(confusion([[i == j for j in range(13)] for i in range(13)], names))
    assert set(names) <= set(many)
    assert "1" not in many
    assert {"3", "1", "2"} <= set(texts(confusion([[3, 1], [0, 2]], ["cat", "dog"])))


@pytest.mark.parametrize("values", [[0.5, 1.5], [0.5], [math.nan, 0.5], [-0.1, 0.5]])
def test_values_that_are_no_shares_are_refused(values: list[float]) -> None:
    with pytest.raises(EvaluationError, match=r"set 'a': expected 2 values in \[0, 1\]"):
        reliability({"a": (values, [True, False])})


def test_plots_of_classification_refuse_nothing_and_too_much() -> None:
    with pytest.raises(EvaluationError, match="1 to 4 sets, got 0"):
        reliability({})
    with pytest.raises(EvaluationError, match="1 to 4 sets, got 0"):
        risk_coverage_curves({})
    with pytest.raises(EvaluationError, match="2 to 40 classes"):
        confusion([[1, 0]], ["cat", "dog"])
    with pytest.raises(EvaluationError, match="2 to 40 classes"):
        confusion([[0] * 41] * 41, ["x"] * 41)


def test_a_plot_of_points_names_its_curves_and_refuses_what_it_cannot_draw() -> None:
    curves = {"ours": [(1.0, 2.0), (10.0, 3.0)], "theirs": [(1.0, 1.0)]}
    svg = point_curves(curves, title="percent right", x_label="steps", log_x=True)
    assert {"ours", "theirs", "steps", "percent right"} <= set(texts(svg))
    with pytest.raises(EvaluationError, match="1 to 12 sets, got 13"):
        point_curves({str(n): [(1.0, 1.0)] for n in range(13)}, title="", x_label="")
    with pytest.raises(EvaluationError, match="'ours'"):
        point_curves({"ours": []}, title="", x_label="")
    with pytest.raises(EvaluationError, match="not finite"):
        point_curves({"ours": [(1.0, math.nan)]}, title="", x_label="")


def test_panels_show_what_the_log_has_and_nothing_where_it_has_nothing() -> None:
    assert "max logit" in texts(log_panels(RECORDS, [PANEL]) or b"")
    assert log_panels(RECORDS, [Panel("video", {"loss_video": ("video", BLUE)})]) is None
    assert log_panels([{"step": 1, "loss": None}], [PANEL]) is None


def test_a_plan_names_the_total_of_each_stage_and_what_there_is() -> None:
    shown = [text.strip() for text in texts(plan_bars(PLAN))]
    assert {"ZeRO 0", "112.0", "usable 75"} <= set(shown)


def test_few_places_of_a_logarithmic_axis_are_each_named() -> None:
    svg = point_curves({"a": [(12.5, 1.0), (25, 2.0)]}, title="", x_label="", log_x=True)
    assert {"12.5", "25"} <= set(texts(svg))


def test_more_curves_than_colours_differ_by_their_dashes() -> None:
    curves = {str(n): [(1.0, float(n)), (2.0, float(n))] for n in range(5)}
    dashed = point_curves(curves, title="", x_label="").count(b"stroke-dasharray")
    assert dashed > point_curves(
        {n: curves[n] for n in list(curves)[:4]}, title="", x_label=""
    ).count(b"stroke-dasharray")


def test_named_points_stand_apart_and_in_their_range() -> None:
    points = [NamedPoint("clip", 2.0, 50.0, 45.0, 55.0), NamedPoint("coca", 2.1, 50.0, 50.0, 50.0)]
    svg = named_points(points, title="percent right", x_label="GFLOPs")
    assert {"clip", "coca", "GFLOPs", "percent right"} <= set(texts(svg))
    places = re.findall(rb'x="([\d.]+)" y="([\d.]+)"[^>]*>(clip|coca)<', svg)
    (_, first, _), (_, second, _) = places
    assert abs(float(first) - float(second)) > 8  # of a font of 9 points
    with pytest.raises(EvaluationError, match="at least one"):
        named_points([], title="", x_label="")
    with pytest.raises(EvaluationError, match="point 'clip'"):
        named_points([NamedPoint("clip", 0.0, 1.0, 0.0, 2.0)], title="", x_label="")
    with pytest.raises(EvaluationError, match="low <= y <= high"):
        named_points([NamedPoint("clip", 1.0, 3.0, 0.0, 2.0)], title="", x_label="")
