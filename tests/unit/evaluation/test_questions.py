from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from genvlm.data.images import ImageFiles, RGBImage
from genvlm.errors import EvaluationError
from genvlm.evaluation.cards import Card
from genvlm.evaluation.questions import (
    AskedItem,
    Parsed,
    Parser,
    QuestionBenchmark,
    run_questions,
)
from genvlm.evaluation.summary import summarize
from genvlm.scoring.protocols import Answer, Question, ScorerInfo
from genvlm.studies.evaluations import evaluate_answerer

CARD = Card(
    name="toy",
    version="1",
    rule="yes-no",
    chance={"accuracy": 50.0},
    licence="none",
    artefacts=[],
    description="is it bright?",
    metrics={"accuracy": "right"},
)


def picture(level: int) -> RGBImage:
    return np.full((4, 4, 3), level, np.uint8)


def read(raw: str, item: AskedItem, question: str) -> Parsed:
    if raw in ("yes", "no"):
        return Parsed(raw)
    return Parsed(None, "refused" if "sorry" in raw else "unparseable")


def benchmark(**changes: object) -> QuestionBenchmark:
    items = tuple(
        AskedItem(
            id=f"item-{k}",
            questions={
                "": Question(
                    item_id=f"item-{k}",
                    images=[picture(250 if k % 2 else 5)],
                    prompt="Is it bright?",
                )
            },
            group=f"group-{k}",
            target="yes" if k % 2 else "no",
        )
        for k in range(6)
    )
    settings = {
        "name": "toy",
        "items": items,
        "card": CARD,
        "version": "1",
        "parser": Parser("yes or no", read),
        "controls": {"always yes": {item.id: {"": "yes"} for item in items}},
    }
    return QuestionBenchmark(**{**settings, **changes})  # type: ignore[arg-type]


class Seeing:
    """Answers by brightness; says sorry without a picture."""

    info = ScorerInfo(name="seeing", unit="arbitrary", settings={"dtype": "float32"})

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        return [self.one(q) for q in questions]

    def one(self, question: Question) -> Answer:
        if not len(question.images):
            return Answer("I am sorry")
        return Answer("yes" if question.images[0].mean() > 128 else "no")


def test_questions_are_asked_again_blindly_and_about_another_picture() -> None:
    records = run_questions(benchmark(), Seeing())
    result = summarize(records, CARD)
    assert result.status == "complete"
    assert result.metrics["accuracy"].value == 100
    controls = result.controls.scores
    assert controls["always yes"].metrics["accuracy"].value == 50
    assert controls["blind"].metrics["accuracy"][:2] == (0, 50)
    # Each picture is shown once, and the truth of another item is asked of it.
    shown = [r.controls["shuffled-image"] for r in records]
    assert sorted(str(answers) for answers in shown).count("{'': 'yes'}") == 3
    said = records[1].answers[0]
    assert (said.prompt, said.raw, said.parsed, said.parse_rule) == (
        "Is it bright?", "yes", "yes", "yes or no",
    )  # fmt: skip
    assert records[0].dtype == "float32"


def test_one_question_has_no_other_picture_and_says_so() -> None:
    one = benchmark(items=benchmark().items[:1])
    summary = evaluate_answerer(one, Seeing(), blind=False).summary
    assert list(summary.controls.scores) == ["random", "always yes"]
    assert summary.flags[:2] == (
        "the control 'shuffled-image' was left out: one group holds 1 of 1 items",
        "the control 'blind' was left out: not asked for",
    )


def test_what_is_refused_or_unreadable_is_undecided_and_counted() -> None:
    class Shy(Seeing):
        def one(self, question: Question) -> Answer:
            if question.item_id == "item-0":
                return Answer("sorry, no")
            if question.item_id == "item-1":
                return Answer("perhaps")
            if question.item_id == "item-2":
                return Answer("no", "refused")
            return super().one(question)

    result = summarize(run_questions(benchmark(), Shy(), shuffled=False, blind=False), CARD)
    assert result.status == "incomplete"
    assert result.coverage == {
        "expected": 6, "answered": 3, "refused": 2, "unparseable": 1, "failed": 0,
    }  # fmt: skip
    # The answerer itself says that item-2 was refused; what it said is still read.
    assert result.metrics["accuracy"].value == pytest.approx(100 * 4 / 6)
    assert result.metrics["accuracy"].half == pytest.approx(100 * 5 / 6)


def test_an_item_that_fails_is_recorded_with_its_reason() -> None:
    class Broken(Seeing):
        def one(self, question: Question) -> Answer:
            if question.item_id == "item-3":
                return Answer("", "failed")
            return super().one(question)

    records = run_questions(benchmark(), Broken(), shuffled=False)
    assert [r.id for r in records if r.status == "failed"] == ["item-3"]
    assert "could not be answered" in records[3].problem
    assert summarize(records, CARD).metrics["accuracy"].n == 5

    missing = benchmark().items[:1]
    gone = Question(item_id="item-9", images=ImageFiles([Path("nowhere.png")]), prompt="?")
    items = (*missing, AskedItem(id="item-9", questions={"": gone}, group="g", target="no"))
    records = run_questions(benchmark(items=items, controls={}), Seeing(), shuffled=False)
    assert (records[1].status, "no picture at nowhere.png" in records[1].problem) == (
        "failed",
        True,
    )


def test_an_answerer_that_never_answers_is_an_error() -> None:
    class Mute(Seeing):
        def one(self, question: Question) -> Answer:
            return Answer("", "failed")

    with pytest.raises(EvaluationError, match="all 6 items of toy failed, 'item-0'"):
        run_questions(benchmark(), Mute())


def test_what_only_judges_predictions_cannot_be_asked() -> None:
    with pytest.raises(EvaluationError, match="cannot be asked of a model: no pictures"):
        run_questions(benchmark(predictions_only="no pictures"), Seeing())
