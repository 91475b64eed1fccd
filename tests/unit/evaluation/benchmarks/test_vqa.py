"""VQA in the official format, on a miniature: accuracies, controls, wrong input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genvlm.errors import DataError, EvaluationError, ImageError
from genvlm.evaluation.catalog import audit, judge_predictions
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize

# Id, picture, question, type of question, type of answer, answers of ten annotators.
ROWS = [
    (10, 1, "Is it day?", "is it", "yes/no", ["yes"] * 10),
    (11, 1, "Is it wet?", "is it", "yes/no", ["no"] * 6 + ["yes"] * 4),
    (20, 2, "Is it cold?", "is it", "yes/no", ["no"] * 9 + ["yes"]),
    (30, 3, "Is it full?", "is it", "yes/no", ["no"] * 10),
    (31, 3, "How many?", "how many", "number", ["2"] * 10),
    (32, 3, "What is on it?", "what is", "other", ["a cup"] * 3 + ["Mug"] * 7),
    (40, 4, "What is that?", "what is", "other", ["red"] + [f"{k} things" for k in range(20, 29)]),
]
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def write(root: Path, change: Change | None = None) -> DataFolder:
    questions: dict[str, Any] = {
        "data_subtype": "val2014",
        "questions": [
            {"image_id": image, "question": text, "question_id": key}
            for key, image, text, *_ in ROWS
        ],
    }
    annotations: dict[str, Any] = {
        "annotations": [
            {
                "question_id": key,
                "question_type": kind,
                "answer_type": answer,
                "answers": [{"answer": text} for text in answers],
            }
            for key, _, _, kind, answer, answers in ROWS
        ]
    }
    if change is not None:
        change(questions, annotations)
    (root / "vqa").mkdir(exist_ok=True)
    (root / "vqa/questions.json").write_text(json.dumps(questions))
    (root / "vqa/annotations.json").write_text(json.dumps(annotations))
    return DataFolder(root)


def judge(data: DataFolder, answers: dict[int, str]) -> tuple[Summary, dict[str, float]]:
    path = data.root / "results.json"
    path.write_text(json.dumps([{"question_id": k, "answer": a} for k, a in answers.items()]))
    benchmark, records = judge_predictions("vqa", [path], data)
    earned = {r.id: r.credit["accuracy"].strict for r in records if r.status != "failed"}
    return summarize(records, benchmark.card), earned


def test_answers_earn_what_the_official_rule_gives(tmp_path: Path) -> None:
    answers = {10: "yes", 11: "yes", 20: "yes", 30: "no", 31: "two", 32: "cup", 40: "Red."}
    result, earned = judge(write(tmp_path), answers)
    # All ten agree: 1 though no annotation has an answer_id; four of ten: 1; one of ten: 0.3.
    assert earned["10"] == 1
    assert earned["11"] == 1
    assert earned["20"] == pytest.approx(0.3)
    # Annotators agree on "2": nothing is normalised, and "two" is wrong.
    assert earned["31"] == 0
    # They disagree: "a cup" is "cup". Three matches earn 0.9, where min(3 / 3, 1) would give 1.
    assert earned["32"] == pytest.approx(0.9)
    assert earned["40"] == pytest.approx(0.3)
    assert result.metrics["accuracy"].value == pytest.approx(100 * (3 + 0.3 + 0.9 + 0.3) / 7)
    assert result.categories["answer type: other"]["accuracy"].value == pytest.approx(60)
    assert result.status == "complete"


@pytest.mark.parametrize(("matches", "earned"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1)])
def test_matches_of_ten_earn_their_share(tmp_path: Path, matches: int, earned: float) -> None:
    def change(questions: dict[str, Any], annotations: dict[str, Any]) -> None:
        others = [f"thing {k}" for k in range(10 - matches)]
        answers = [{"answer": text} for text in ["hat"] * matches + others]
        annotations["annotations"][0]["answers"] = answers

    _, found = judge(write(tmp_path, change), {10: "hat"})
    assert found["10"] == pytest.approx(earned)


def test_the_prior_asks_other_pictures_about_the_same_type(tmp_path: Path) -> None:
    data = write(tmp_path)
    result, _ = judge(data, {key: "yes" for key, *_ in ROWS})
    benchmark, records = audit("vqa", data)
    prior = {r.id: r.controls["prior"] for r in records}
    # Of the other pictures two questions say no and one yes; of picture 3 the votes are even.
    assert prior["10"] == {"": "no"}
    assert prior["30"] == {"": "no"}
    assert prior["31"] == {"": None}
    assert prior["32"] == {"": "red"}
    assert prior["40"] == {"": "Mug"}
    assert result.controls.scores["always yes"].metrics == result.metrics
    assert summarize(records, benchmark.card).scorer == "always yes"
    assert result.controls.gain.metrics["accuracy"].value <= 0


def test_questions_name_the_pictures_of_coco(tmp_path: Path) -> None:
    benchmark, _ = audit("vqa", write(tmp_path))
    question = benchmark.items[0].questions[""]  # type: ignore[union-attr]
    assert question.prompt.startswith("Is it day?\n")
    with pytest.raises(ImageError, match=r"vqa/images/COCO_val2014_000000000001\.jpg.*--images"):
        question.images[0]


def test_missing_answers_are_counted_and_foreign_ones_are_errors(tmp_path: Path) -> None:
    data = write(tmp_path)
    result, _ = judge(data, {10: "yes"})
    assert result.status == "incomplete"
    assert result.coverage["failed"] == 6
    with pytest.raises(EvaluationError, match="such as '99'"):
        judge(data, {10: "yes", 99: "no"})
    path = tmp_path / "broken.json"
    path.write_text('[{"question_id": 10}]')
    with pytest.raises(DataError, match=r"broken\.json, entry 1 needs answer as text"):
        judge_predictions("vqa", [path], data)


def _without_annotation(questions: dict[str, Any], annotations: dict[str, Any]) -> None:
    del annotations["annotations"][0]


def _without_question(questions: dict[str, Any], annotations: dict[str, Any]) -> None:
    del questions["questions"][0]


def _twice(questions: dict[str, Any], annotations: dict[str, Any]) -> None:
    questions["questions"].append(questions["questions"][0])


def _without_list(questions: dict[str, Any], annotations: dict[str, Any]) -> None:
    del questions["questions"]


def _one_answer(questions: dict[str, Any], annotations: dict[str, Any]) -> None:
    del annotations["annotations"][2]["answers"][1:]


def _named_picture(questions: dict[str, Any], annotations: dict[str, Any]) -> None:
    questions["questions"][1]["image_id"] = "dog"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_annotation, r"annotations\.json has nothing on the question '10'"),
        (_without_question, r"questions\.json lacks the question '10'"),
        (_twice, r"questions entry 8: the question_id '10' occurs twice"),
        (_without_list, r"questions\.json has no list 'questions'"),
        (_one_answer, r"annotations entry 3 needs a list of two or more answers"),
        (_named_picture, r"questions entry 2: the image_id 'dog' is no number"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(DataError, match=message):
        audit("vqa", write(tmp_path, change))
