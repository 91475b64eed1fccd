"""ScienceQA: school questions with two to five options, half of them about a picture.

Lu et al. 2022, https://arxiv.org/abs/2209.09513. Ids, letters and truth of the test split ship; the
questions are CC BY-NC-SA and do not. A model is asked in every rotation of the options.
"""

import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genvlm.data.images import ImageFiles, picture_path
from genvlm.errors import DataError
from genvlm.evaluation.answers import option_letter
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, check_object, read_rows, text_field
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

PARTS = ("image",)
ORDERS = ("given", "rotated 1", "rotated 2", "rotated 3", "rotated 4")
"""By how many places the options were moved up."""
TRUTH, PROBLEMS = "scienceqa_llava15_13b.jsonl", "scienceqa/problems.json"
_INSTRUCTION = "Answer with the option's letter from the given choices directly."


@dataclass(frozen=True)
class _Row:
    id: str
    options: list[str]
    """Letters."""
    answer: str
    has_image: bool
    question: str = ""
    """With its context."""
    choices: tuple[str, ...] = ()

    @property
    def orders(self) -> tuple[str, ...]:
        """Those in which it can be asked: without its choices, as answered elsewhere."""
        return ORDERS[: len(self.choices) or 1]

    def prompt(self, order: str) -> str:
        """The letters keep their places, the choices move."""
        shift = ORDERS.index(order)
        moved = self.choices[shift:] + self.choices[:shift]
        shown = [f"{k}. {text}" for k, text in zip(self.options, moved, strict=False)]
        return "\n".join([self.question, *shown, _INSTRUCTION])


def ask_scienceqa(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One item a question: of the test split of DATA/scienceqa/problems.json, or without words.

    Raises:
        DataError: a row without what it needs.
    """
    card = load_card("scienceqa-image" if part else "scienceqa")
    folder = images or data.root / "scienceqa/images/test"
    rows = [row for row in _rows(data) if row.has_image or not part]
    items = []
    for row in rows:
        name, where = f"{row.id}/image.png", f"{data.root}: question {row.id!r}"
        paths = [picture_path(folder, name, where)] if row.has_image else []
        picture = ImageFiles(paths, card.fetch)
        questions = {
            order: Question(item_id=f"{row.id}/{order}", images=picture, prompt=row.prompt(order))
            for order in row.orders
        }
        items.append(
            AskedItem(
                id=row.id,
                questions=questions,
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
        controls={
            "majority": {
                row.id: {order: _meant(majority, row.options, order) for order in row.orders}
                for row in rows
            }
        },
        predictions_only=""
        if source == PROBLEMS
        else f"its questions are CC BY-NC-SA and do not ship; {card.fetch}",
    )


def read_scienceqa(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """JSON lines of {"question_id", "pred" or "text"}, of all questions or of the part, with the
    options in the given order."""
    left_out = {row.id for row in _rows(data) if part and not row.has_image}
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        for where, row in read_rows(path):
            key = text_field(row, "question_id", where)
            raw = RawAnswer(ORDERS[0], text_field(row, ("pred", "text"), where))
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
    if not 0 <= answer < len(choices) <= len(ORDERS):
        raise DataError(
            f"{where}: the answer is number {answer} of {len(choices)} choices, expected one of at "
            f"most {len(ORDERS)}"
        )
    letters = list(string.ascii_uppercase[: len(choices)])
    hint = row.get("hint")
    question = text_field(row, "question", where) + (f"\nContext: {hint}" if hint else "")
    shown = tuple(str(choice) for choice in choices)
    return _Row(key, letters, letters[answer], bool(row.get("image")), question, shown)


def _letter(raw: str, item: AskedItem, question: str) -> Parsed:
    letters = item.target["options"]
    letter = option_letter(raw, letters)
    meant = None if letter is None else _meant(letter, letters, question)
    return Parsed(None, "unparseable") if meant is None else Parsed(meant)


def _meant(letter: str, letters: Sequence[str], order: str) -> str | None:
    """The letter that the choice has in the given order; None where it is not offered."""
    if letter not in letters:
        return None
    return letters[(letters.index(letter) + ORDERS.index(order)) % len(letters)]
