"""ScienceQA: school questions with two to five options, half of them about a picture.

Lu et al. 2022, https://arxiv.org/abs/2209.09513. Ids, letters and truth of the test split ship; the
questions are CC BY-NC-SA and do not. Options are asked in the given order only.
"""

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genvlm.data.images import ImageFiles
from genvlm.errors import DataError
from genvlm.evaluation.answers import option_letter
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, check_object, read_rows, text_field
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

PARTS = ("image",)
TRUTH, PROBLEMS = "scienceqa_llava15_13b.jsonl", "scienceqa/problems.json"
_INSTRUCTION = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class _Row:
    id: str
    options: list[str]
    """Letters."""
    answer: str
    has_image: bool
    prompt: str = ""


def ask_scienceqa(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One question an item: of the test split of DATA/scienceqa/problems.json, or without words.

    Raises:
        DataError: a row without what it needs.
    """
    card = load_card("scienceqa-image" if part else "scienceqa")
    folder = images or data.root / "scienceqa/images/test"
    rows = [row for row in _rows(data) if row.has_image or not part]
    items = []
    for row in rows:
        paths = [folder / row.id / "image.png"] if row.has_image else []
        question = Question(item_id=row.id, images=ImageFiles(paths, card.fetch), prompt=row.prompt)
        items.append(
            AskedItem(
                id=row.id,
                questions={"": question},
                group=row.id,
                target={"answer": row.answer, "options": row.options},
                tags=("image" if row.has_image else "text",),
            )
        )
    counts = Counter(row.answer for row in rows)
    majority = min(counts, key=lambda letter: (-counts[letter], letter), default="A")
    source = PROBLEMS if data.has(PROBLEMS) else TRUTH
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=build_version(card, data=(data.changed([source], card.files), "")),
        parser=Parser("letter of an option", _letter),
        controls={"majority": {row.id: {"": majority} for row in rows}},
        predictions_only=""
        if source == PROBLEMS
        else f"its questions are CC BY-NC-SA and do not ship; {card.fetch}",
    )


def read_scienceqa(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """JSON lines of {"question_id", "pred" or "text"}, of all questions or of the part."""
    left_out = {row.id for row in _rows(data) if part and not row.has_image}
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        for where, row in read_rows(path):
            key = text_field(row, "question_id", where)
            raw = RawAnswer("", text_field(row, ("pred", "text"), where))
            if key not in left_out:
                add_answer(answers, key, raw, where)
    return Predictions(describe_files(paths, column), answers=answers)


def _rows(data: DataFolder) -> list[_Row]:
    if data.has(PROBLEMS):
        problems = check_object(data.json(PROBLEMS), data.root / PROBLEMS)
        places = {key: f"{data.root / PROBLEMS}, {key!r}" for key in problems}
        return [
            _problem(key, row, places[key])
            for key, row in problems.items()
            if check_object(row, places[key]).get("split") == "test"
        ]
    rows = []
    for number, row in enumerate(data.jsonl(TRUTH), start=1):
        where = f"{data.root / TRUTH}, row {number}"
        answer = text_field(row, "ground_truth", where)
        if answer not in row.get("options", ()):
            raise DataError(f"{where}: the truth {answer!r} is none of its options")
        key = text_field(row, "question_id", where)
        rows.append(_Row(key, list(row["options"]), answer, bool(row.get("is_multimodal"))))
    return rows


def _problem(key: str, row: Mapping[str, Any], where: str) -> _Row:
    choices, answer = row.get("choices"), row.get("answer")
    if not isinstance(choices, list) or not isinstance(answer, int):
        raise DataError(f"{where} needs a list of choices and the number of the answer")
    if not 0 <= answer < len(choices) <= len(string.ascii_uppercase):
        raise DataError(f"{where}: the answer is number {answer} of {len(choices)} choices")
    letters = list(string.ascii_uppercase[: len(choices)])
    hint = row.get("hint")
    lines = [
        text_field(row, "question", where),
        *([f"Context: {hint}"] if hint else []),
        *(f"{letter}. {choice}" for letter, choice in zip(letters, choices, strict=True)),
        _INSTRUCTION,
    ]
    return _Row(key, letters, letters[answer], bool(row.get("image")), "\n".join(lines))


def _letter(raw: str, item: AskedItem, question: str) -> Parsed:
    letter = option_letter(raw, item.target["options"])
    return Parsed(letter) if letter is not None else Parsed(None, "unparseable")
