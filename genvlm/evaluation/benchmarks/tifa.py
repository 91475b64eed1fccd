"""TIFA: does a generated picture show what its prompt says? Asked as questions with choices.

Hu et al. 2023, https://arxiv.org/abs/2303.11897. 800 pictures of TIFA-160 are rated by people.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genvlm.data.images import ImageFiles, picture_path
from genvlm.errors import EvaluationError
from genvlm.evaluation.answers import match_choice
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, parse_json, read_file
from genvlm.evaluation.predictions import (
    Predictions,
    RawAnswer,
    add_answer,
    add_once,
    describe_files,
    number,
)
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Grid, Question

RATED = "tifa/human_annotations_with_scores.json"
QUESTIONS, SAMPLE = "tifa/question_answers.json", "tifa/sample_question_answers.json"


def build_tifa(data: DataFolder, part: str, images: Path | None) -> Benchmark:
    """One picture, one prompt and the mean rating of people; a scorer is judged by correlation."""
    card = load_card("tifa")
    folder = images or data.root / "tifa/images"
    items = [
        Item(
            grid=Grid(
                item_id=item_id,
                images=ImageFiles(
                    [picture_path(folder, row["image_path"], f"{data.root / RATED}: {item_id!r}")],
                    card.fetch,
                ),
                texts=[row["text"]],
            ),
            group=row["text_id"],
            target={"human": float(row["human_avg"])},
            tags=(),
        )
        for item_id, row in data.json(RATED).items()
    ]
    version = build_version(card, data=(data.changed([RATED], card.files), ""))
    return Benchmark(card.name, tuple(items), card, version)


def read_tifa(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """JSON of {id: {column: score}}, such as the released file, which holds nine systems.

    Raises:
        EvaluationError: no such column; the numeric ones are named.
    """
    scores: dict[str, list[list[float]]] = {}
    for path in paths:
        for item_id, row in parse_json(read_file(path), path).items():
            if column is None or column not in row:
                numeric = [name for name, value in row.items() if isinstance(value, float)]
                raise EvaluationError(
                    f"{path}: name one of its systems with --column: {', '.join(numeric)}"
                )
            where = f"{path}: {item_id!r}"
            add_once(scores, item_id, [[number(row[column], where)]], where)
    return Predictions(describe_files(paths, column), scores)


def ask_tifa(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """The questions about each prompt, from `tifa/question_answers.json` in the official format.

    Without that file the two prompts of the published sample. Pictures are `IMAGES/ID.png`.
    """
    card = load_card("tifa-questions")
    file = QUESTIONS if data.has(QUESTIONS) else SAMPLE
    folder = images or data.root / "tifa/images"
    by_prompt: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in data.json(file):
        by_prompt[row["id"]].append(row)
    items = []
    for prompt, rows in by_prompt.items():
        path = picture_path(folder, f"{prompt}.png", data.root / file)
        picture = ImageFiles([path], card.fetch)
        items.append(
            AskedItem(
                id=prompt,
                questions={
                    row["question"]: Question(
                        item_id=f"{prompt}/{row['question']}",
                        images=picture,
                        prompt=f"{row['question']} Choose one of: {', '.join(row['choices'])}.",
                    )
                    for row in rows
                },
                group=prompt,
                target={
                    "human": None,
                    "answers": {row["question"]: row["answer"] for row in rows},
                    "choices": {row["question"]: row["choices"] for row in rows},
                },
            )
        )
    version = build_version(card, data=(data.changed([file], card.files), ""))
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=version,
        parser=Parser("the choice that equals the answer after VQA's normalisation", _choice),
        controls={
            "first choice": {i.id: {q: c[0] for q, c in i.target["choices"].items()} for i in items}
        },
    )


def read_tifa_answers(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """The official result file: {"question_details": {id: {question: {"multiple_choice_vqa"}}}}."""
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        content = parse_json(read_file(path), path)
        if "question_details" not in content:
            raise EvaluationError(f"{path} has no 'question_details': is it a TIFA result file?")
        for prompt, rows in content["question_details"].items():
            for question, row in rows.items():
                raw = RawAnswer(question, row["multiple_choice_vqa"])
                add_answer(answers, prompt, raw, str(path))
    return Predictions(describe_files(paths, column), answers=answers)


def _choice(raw: str, item: AskedItem, question: str) -> Parsed:
    found = match_choice(raw, item.target["choices"][question])
    return Parsed(found, "unparseable" if found is None else "answered")
