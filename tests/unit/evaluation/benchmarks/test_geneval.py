"""GenEval end to end, from result files in the form of the official evaluator."""

import json
from pathlib import Path
from typing import Any

import pytest

from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation.benchmarks.geneval import ask_geneval
from genvlm.evaluation.catalog import audit, judge_predictions, shipped_data
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.questions import run_questions
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize
from genvlm.scoring.protocols import Answer, Question, ScorerInfo

# Three prompts of one task, one of another: the two averages differ.
PROMPTS = [
    {"tag": "counting", "prompt": "two cats"},
    {"tag": "counting", "prompt": "three cats"},
    {"tag": "counting", "prompt": "four cats"},
    {"tag": "colors", "prompt": "a red cat"},
]


class Draws:
    info = ScorerInfo(name="draws", unit="arbitrary")

    def answer(self, questions: list[Question]) -> list[Answer]:
        raise AssertionError("asked")


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    (tmp_path / "geneval").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in PROMPTS)
    (tmp_path / "geneval/evaluation_metadata.jsonl").write_text(lines)
    return DataFolder(tmp_path)


def result_row(number: int, sample: int, correct: object, **more: object) -> dict[str, Any]:
    return {
        "filename": f"out/images/{number:05d}/samples/{sample:05d}.png",
        **PROMPTS[number],
        "correct": correct,
        "reason": "",
        "metadata": "{}",
        "details": "{}",
        **more,
    }


def judge(data: DataFolder, rows: list[dict[str, Any]]) -> Summary:
    path = data.root / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark, records = judge_predictions("geneval", [path], data)
    return summarize(records, benchmark.card)


def test_the_headline_is_the_mean_of_tasks_and_not_of_pictures(data: DataFolder) -> None:
    rows = [result_row(p, s, p == 3) for p in range(4) for s in range(4)]
    result = judge(data, rows)
    assert result.metrics["macro accuracy"].value == 50
    assert result.metrics["accuracy"].value == 25
    assert list(result.metrics)[-1] == "macro accuracy"
    assert result.status == "complete"
    assert result.categories["task: colors"]["accuracy"].value == 100


def test_missing_pictures_are_counted(data: DataFolder) -> None:
    result = judge(data, [result_row(0, 0, True)])
    assert result.status == "incomplete"
    assert result.coverage == {
        "expected": 16, "answered": 1, "refused": 0, "unparseable": 0, "failed": 15
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (result_row(0, 0, True, prompt="a dog"), "row 1: .* is of 'a dog'.*00000 is 'two cats'"),
        (result_row(0, 0, True, tag="colors"), "of another list"),
        (result_row(0, 4, True), "such as '00000/4'"),
        (result_row(3, 0, True, filename="9/samples/0.png"), "such as '00009/0'"),
        (result_row(0, 0, True, filename="0.png"), r"filename '0\.png' is not of the form"),
        (result_row(0, 0, "yes"), "row 1: correct is 'yes', expected true or false"),
    ],
)
def test_what_does_not_fit_is_named(data: DataFolder, row: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, EvaluationError), match=message):
        judge(data, [row])


def test_a_picture_that_is_judged_twice_is_named(data: DataFolder) -> None:
    with pytest.raises(EvaluationError, match=r"row 2: .*'00000/0' is answered twice"):
        judge(data, [result_row(0, 0, True), result_row(0, 0, False)])


def test_the_shipped_list_is_the_published_one() -> None:
    benchmark = ask_geneval(shipped_data(), "", None)
    assert len({item.group for item in benchmark.items}) == 553
    assert len(benchmark.items) == 4 * 553
    assert len({tag for item in benchmark.items for tag in item.tags}) == 6
    assert benchmark.version == "1"


def test_no_model_can_be_asked_and_nothing_audited(data: DataFolder) -> None:
    with pytest.raises(EvaluationError, match=r"geneval cannot be asked .* detector"):
        run_questions(ask_geneval(data, "", None), Draws())
    with pytest.raises(EvaluationError, match="geneval has no control"):
        audit("geneval", data)
