"""Released predictions give their published numbers, through the same functions as the commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from genvlm.errors import EvaluationError
from genvlm.evaluation import resampling
from genvlm.evaluation.catalog import audit, judge_predictions, shipped_data
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize

DATA = Path(__file__).parents[3] / "eval/data"
Read = Callable[[str], str]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values do not depend on them, and thousands of correlations take long."""
    monkeypatch.setattr(resampling, "NUM_RESAMPLES", 20)


def judge(name: str, *files: str, column: str | None = None) -> Summary:
    paths = [DATA / f"{file}.gz" for file in files]
    benchmark, records = judge_predictions(name, paths, shipped_data(), column)
    return summarize(records, benchmark.card)


def reached(summary: Summary, digits: int, *names: str) -> list[float]:
    return [round(summary.metrics[name].value or 0.0, digits) for name in names]


@pytest.mark.parametrize(
    ("scores", "strict", "ties"),
    [
        ("blip_itm_b16_coco", [48.0, 24.5, 20.0], 0),
        ("blip_itc_b16_coco", [37.75, 15.75, 12.75], 0),
        ("clip_l14", [28.5, 11.0, 8.0], 0),
        ("vilt_coco", [32.75, 13.5, 11.25], 0),
        ("ofa_medium", [22.75, 9.0, 5.5], 11),
        ("blip_b16_nlvr2", [40.25, 25.0, 18.5], 0),
    ],
)
def test_winoground(scores: str, strict: list[float], ties: int, released: Read) -> None:
    summary = judge("winoground", f"winoground_scores/{scores}.jsonl")
    assert summary.status == "complete"
    assert reached(summary, 2, "text", "image", "group") == strict
    known = json.loads(released("EXPECTED.json"))[f"winoground/{scores}"]["computed"]
    half = [round(summary.metrics[n].half or 0.0, 2) for n in ("text", "image", "group")]
    assert half == known["half"]
    assert known["ties"] == ties


@pytest.mark.parametrize(
    ("part", "orders", "both", "unread", "only"),
    [
        ("add_att", (87.28, 96.24), 85.84, (20, 11), (10, 72)),
        ("replace_att", (93.15, 93.91), 89.97, (11, 9), (25, 31)),
        ("swap_att", (91.14, 89.04), 82.73, (15, 8), (56, 42)),
    ],
)
def test_sugarcrepe_of_gpt4v_in_both_orders(
    part: str,
    orders: tuple[float, float],
    both: float,
    unread: tuple[int, int],
    only: tuple[int, int],
    released: Read,
) -> None:
    names = ("positive-first", "negative-first")
    files = [f"sugarcrepe_gpt4v/{order}/gpt4v-{part}.json" for order in names]
    summary = judge(f"sugarcrepe/{part}", *files)
    assert reached(summary, 2, *names, "all orders") == [*orders, both]
    assert summary.status == "incomplete"
    flags = " ".join(summary.flags)
    for order, count in zip(names, unread, strict=True):
        assert f"{order}: {count} answers refused or unreadable" in flags
    assert f"{only[0]} items are right only in positive-first, {only[1]} only in negative" in flags
    known = json.loads(released("EXPECTED.json"))[f"sugarcrepe/{part}"]["computed"]
    half = [round((summary.metrics[order].half or 0) / 100, 4) for order in names]
    assert half == known["invalid_as_half"]
    assert f"exact McNemar p {known['mcnemar_exact_p']:.3g})" in flags
    assert "first option" not in flags  # it is always right in one order, by what that order is


@pytest.mark.parametrize(
    ("split", "n", "f1"),
    [("random", 2910, 87.14), ("popular", 3000, 86.25), ("adversarial", 3000, 84.46)],
)
def test_pope_of_llava_by_split(split: str, n: int, f1: float, released: Read) -> None:
    summary = judge(f"pope/{split}", "pope_llava15_13b.jsonl")
    assert reached(summary, 2, "f1") == [f1]
    assert summary.metrics["f1"].n == n
    # The split once had 2,910 rows: what it lacks is counted, not scored.
    assert summary.coverage["failed"] == 3000 - n
    known = json.loads(released("EXPECTED.json"))[f"pope/llava13b/{split}"]["computed"]
    names = ("accuracy", "precision", "recall", "yes ratio")
    values = [round((summary.metrics[name].value or 0) / 100, 4) for name in names]
    assert values == [known[key] for key in ("acc", "precision", "recall", "yes")]


def test_pope_joined_by_line_would_be_chance(tmp_path: Path, released: Read) -> None:
    # Naive: the answer of line k to question k.
    rows = [json.loads(line) for line in released("pope_llava15_13b.jsonl").splitlines()]
    said = [r["text"] for r in rows if r["category"] == "random"]
    truth = [json.loads(line) for line in released("pope/coco_pope_random.json").splitlines()]
    right = sum((a == "Yes") == (t["label"] == "yes") for a, t in zip(said, truth, strict=False))
    assert round(100 * right / len(said), 1) == 50.2


@pytest.mark.parametrize(
    ("part", "answers", "spearman", "kendall"),
    [
        ("tifa160", "instructblip_dsg", 0.442, 0.364),
        ("tifa160-no-dependencies", "instructblip_dsg", 0.436, 0.355),
        ("tifa160-vq2a", "instructblip_vq2a", 0.426, 0.352),
        ("tifa160-vq2a", "mplug_vq2a", 0.212, 0.164),
    ],
)
def test_dsg(part: str, answers: str, spearman: float, kendall: float) -> None:
    summary = judge(f"dsg/{part}", f"dsg/{answers}.csv")
    assert reached(summary, 3, "spearman", "kendall") == [spearman, kendall]
    # Always yes has no correlation: n/a, never 0.
    assert summary.controls.scores["always yes"].metrics["spearman"].value is None


def test_a_truncated_file_of_dsg_is_incomplete_not_wrong(tmp_path: Path, released: Read) -> None:
    lines = released("dsg/instructblip_vq2a.csv").splitlines(keepends=True)
    kept = [lines[0], *(line for line in lines[1:] if ",sd2dot1," not in line)]
    path = tmp_path / "answers.csv"
    path.write_text("".join(kept))
    benchmark, records = judge_predictions("dsg/tifa160-vq2a", [path], shipped_data())
    summary = summarize(records, benchmark.card)
    assert (summary.coverage["failed"], summary.coverage["answered"]) == (160, 640)
    assert summary.metrics["spearman"].n == 640
    assert "160 items failed" in " ".join(summary.flags)
    with pytest.raises(EvaluationError, match="the questions of vq2a, but dsg/tifa160 asks"):
        judge_predictions("dsg/tifa160", [path], shipped_data())


@pytest.mark.parametrize(
    ("column", "known"),
    [
        ("tifa_mplug-large", [0.5967, 0.5922, 0.4717]),
        ("tifa_blip2-flant5xl", [0.5590, 0.5581, 0.4360]),
        ("clipscore_vitb32", [0.3318, 0.3198, 0.2314]),
        ("bleu", [0.1833, 0.2590, 0.1879]),
    ],
)
def test_tifa(column: str, known: list[float]) -> None:
    summary = judge("tifa", "tifa/human_annotations_with_scores.json", column=column)
    assert reached(summary, 4, "pearson", "spearman", "kendall") == known


def test_tifa_sample() -> None:
    summary = judge("tifa-questions", "tifa/sample_evaluation_result.json")
    assert reached(summary, 4, "mean score") == [0.8125]


@pytest.mark.parametrize(
    ("column", "known"),
    [
        ("CLIP Score", [0.343, 0.236]),
        ("X-CLIP Score", [0.257, 0.175]),
        ("T2VScore-A (GPT-4V)", [0.477, 0.353]),
    ],
)
def test_t2vscore(column: str, known: list[float]) -> None:
    summary = judge("vqascore/t2vscore", "t2vscore/t2vscore_results.csv", column=column)
    assert reached(summary, 3, "spearman", "kendall") == known


def test_sugarcrepe_is_not_blind_proof() -> None:
    benchmark, records = audit("sugarcrepe", shipped_data())
    summary = summarize(records, benchmark.card)
    assert summary.metrics["accuracy"].value == 0  # a constant scorer
    assert summary.metrics["accuracy"].half == 50
    half = {
        name: [round(metrics["accuracy"].half or 0, 1) for metrics in table.categories.values()]
        for name, table in summary.controls.scores.items()
    }
    assert list(summary.categories) == [
        "add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj",
    ]  # fmt: skip
    assert half["length"] == [99.6, 99.0, 53.4, 50.5, 64.2, 49.2, 54.9]
    assert all(62 <= value <= 66 for value in half["format"])
    assert round(sum(half["n-gram"]) / 7, 1) == 75.0
    flags = " ".join(summary.flags)
    assert all(f"control {name!r} gets" in flags for name in ("length", "format", "n-gram"))
    counts = [m["accuracy"].n for m in summary.categories.values()]
    assert counts == [692, 2062, 788, 1652, 1406, 666, 245]


def test_pope_leaks_by_order_and_by_the_name_of_the_object() -> None:
    benchmark, records = audit("pope", shipped_data())
    summary = summarize(records, benchmark.card)
    tables = summary.controls.scores
    assert tables["line parity"].metrics["accuracy"].value == 100
    prior = [round(m["accuracy"].half or 0, 1) for m in tables["prior"].categories.values()]
    assert prior == [68.1, 86.9, 69.8]
    assert any("control 'line parity' gets 100.00" in flag for flag in summary.flags)
    assert summary.metrics["accuracy"].value == 50  # always yes
    assert round(summary.metrics["f1"].value or 0, 1) == 66.7
