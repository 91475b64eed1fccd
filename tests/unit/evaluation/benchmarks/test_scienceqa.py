"""ScienceQA end to end: the released answers, letters, questions of problems.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from genvlm.config.assets import asset_path
from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation.catalog import audit, judge_predictions, shipped_data
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.questions import QuestionBenchmark, run_questions
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize
from genvlm.scoring.protocols import Answer, Question, ScorerInfo

LLAVA = asset_path("eval/data/scienceqa_llava15_13b.jsonl.gz")
PROBLEMS: dict[str, dict[str, Any]] = {
    "1": {
        "question": "Which is a mammal?", "choices": ["cat", "carp"], "answer": 0, "hint": "",
        "image": None, "split": "test",
    },
    "2": {
        "question": "What is shown?", "choices": ["a map", "a lake", "a hill"], "answer": 2,
        "hint": "Look at the picture.", "image": "image.png", "split": "test",
    },
    "3": {
        "question": "Left?", "choices": ["yes", "no"], "answer": 1, "hint": "", "image": None,
        "split": "train",
    },
}  # fmt: skip


class Says:
    """Answers every question with the same text."""

    info = ScorerInfo(name="says", unit="arbitrary")

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[Question] = []

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked += questions
        return [Answer(self.text) for _ in questions]


def write(root: Path, problems: dict[str, dict[str, Any]]) -> DataFolder:
    (root / "scienceqa").mkdir(exist_ok=True)
    (root / "scienceqa/problems.json").write_text(json.dumps(problems))
    return DataFolder(root)


def judge(name: str, path: Path, data: DataFolder | None = None) -> Summary:
    benchmark, records = judge_predictions(name, [path], data or shipped_data())
    return summarize(records, benchmark.card)


def test_the_released_answers_have_their_known_accuracies() -> None:
    known = shipped_data().json("EXPECTED.json")["scienceqa/llava13b"]["computed"]
    result = judge("scienceqa", LLAVA)
    accuracy = result.metrics["given"]
    assert round(accuracy.value or 0, 2) == round(100 * known["all"], 2) == 74.46
    assert accuracy.n == known["n"][0]
    image = result.categories["image"]["given"]
    assert round(image.value or 0, 2) == round(100 * known["image"], 2) == 71.64
    assert image.n == known["n"][1]
    # Letters that are no option are unparseable: wrong, and the result is incomplete.
    assert result.coverage["unparseable"] == 35
    assert result.status == "incomplete"
    assert (accuracy.half or 0) > (accuracy.value or 0)


def test_the_part_with_pictures_reads_the_whole_file() -> None:
    result = judge("scienceqa/image", LLAVA)
    assert round(result.metrics["given"].value or 0, 2) == 71.64
    assert result.coverage["expected"] == 2017
    assert result.coverage["failed"] == 0
    assert result.benchmark == "scienceqa-image"


@pytest.mark.parametrize(("name", "majority"), [("scienceqa", 40.08), ("scienceqa/image", 35.99)])
def test_chance_and_majority_are_what_the_cards_say(name: str, majority: float) -> None:
    benchmark, records = audit(name, shipped_data())
    result = summarize(records, benchmark.card)
    assert result.metrics["given"].value == pytest.approx(majority, abs=0.01)
    assert f"{majority:.1f}" in " ".join(benchmark.card.artefacts)
    numbers = [len(item.target["options"]) for item in benchmark.items]
    chance = benchmark.card.chance
    assert chance["given"] == pytest.approx(100 * sum(1 / n for n in numbers) / len(numbers))
    assert chance["accuracy"] == chance["given"]
    every = 100 * sum((1 / n) ** n for n in numbers) / len(numbers)
    assert chance["all orders"] == pytest.approx(every)


def test_without_the_questions_no_model_can_be_asked() -> None:
    benchmark, _ = audit("scienceqa", shipped_data())
    assert isinstance(benchmark, QuestionBenchmark)
    with pytest.raises(EvaluationError, match=r"CC BY-NC-SA.*problems\.json"):
        run_questions(benchmark, Says("A"))


def test_with_the_questions_a_model_is_asked_in_every_rotation(tmp_path: Path) -> None:
    data = write(tmp_path, PROBLEMS)
    benchmark, records = audit("scienceqa", data)
    assert [record.id for record in records] == ["1", "2"]
    assert benchmark.version.startswith("1+data=")
    assert isinstance(benchmark, QuestionBenchmark)
    answerer = Says("A")
    records = run_questions(benchmark, answerer, shuffled=False, blind=False)
    prompts = [question.prompt for question in answerer.asked]
    instruction = "Answer with the option's letter from the given choices directly."
    assert prompts[0] == f"Which is a mammal?\nA. cat\nB. carp\n{instruction}"
    assert prompts[1] == f"Which is a mammal?\nA. carp\nB. cat\n{instruction}"
    assert "\nContext: Look at the picture.\nA. a hill\nB. a map\nC. a lake" in prompts[4]
    assert [len(question.images) for question in answerer.asked] == [0, 0, 1, 1, 1]
    # Always A is right once in as many rotations as there are options.
    assert [r.credit["accuracy"].strict for r in records] == [1 / 2, 1 / 3]
    metrics = summarize(records, benchmark.card).metrics
    assert [metrics[name].value for name in ("given", "all orders", "agreement")] == [50, 0, 0]
    assert metrics["accuracy"].value == pytest.approx(100 * (1 / 2 + 1 / 3) / 2)


class Knows:
    """Names the letter of the choice that it knows to be right."""

    info = ScorerInfo(name="knows", unit="arbitrary")

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        lines = [question.prompt.splitlines() for question in questions]
        right = [next(x for x in found if x[3:] in ("cat", "a hill")) for found in lines]
        return [Answer(line[0]) for line in right]


def test_who_knows_the_answer_is_right_in_every_rotation(tmp_path: Path) -> None:
    benchmark, _ = audit("scienceqa", write(tmp_path, PROBLEMS))
    assert isinstance(benchmark, QuestionBenchmark)
    records = run_questions(benchmark, Knows(), shuffled=False, blind=False)
    metrics = summarize(records, benchmark.card).metrics
    for name in ("given", "accuracy", "all orders", "agreement"):
        assert metrics[name].value == 100


def test_answers_may_be_texts(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    rows = [{"question_id": "1", "text": "A. cat"}, {"question_id": "2", "text": "D"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = judge("scienceqa", path, write(tmp_path, PROBLEMS))
    assert result.metrics["given"].value == 50
    assert result.coverage["unparseable"] == 1
    # Of three options one in three guesses is right.
    assert result.metrics["given"].half == pytest.approx(100 * (1 + 1 / 3) / 2)


def test_an_answer_to_an_unknown_question_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"question_id": "0", "text": "A"}\n')
    for name in ("scienceqa", "scienceqa/image"):
        with pytest.raises(EvaluationError, match="such as '0'"):
            judge(name, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": 2}, r"problems\.json, '1': the answer is number 2 of 2 choices"),
        ({"choices": "cat"}, r"problems\.json, '1' needs a list of choices"),
        ({"question": None}, r"problems\.json, '1' needs question as text"),
    ],
)
def test_damaged_problems_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    data = write(tmp_path, {"1": {**PROBLEMS["1"], **change}})
    with pytest.raises(DataError, match=message):
        audit("scienceqa", data)
