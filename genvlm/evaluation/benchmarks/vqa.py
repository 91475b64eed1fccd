"""VQA v2: open questions, each answered by ten people (Antol et al. 2015, Goyal et al. 2017).

https://arxiv.org/abs/1612.00837. Nothing ships; files and pictures are the official ones.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genvlm.data.images import ImageFiles
from genvlm.errors import DataError
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, check_object, read_rows, text_field
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Given, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

QUESTIONS, ANNOTATIONS = "vqa/questions.json", "vqa/annotations.json"
PROMPT = "{}\nAnswer the question using a single word or phrase."


@dataclass(frozen=True)
class _Row:
    id: str
    image: int
    question: str
    question_type: str
    answer_type: str
    answers: list[str]


def ask_vqa(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One open question an item.

    Raises:
        DataError: a question without annotation or the reverse, or a row without what it needs.
    """
    card = load_card("vqa")
    folder = images or data.root / "vqa/images"
    rows = _rows(data)
    items = [
        AskedItem(
            id=row.id,
            questions={
                "": Question(
                    item_id=row.id,
                    images=ImageFiles([folder / f"COCO_val2014_{row.image:012d}.jpg"], card.fetch),
                    prompt=PROMPT.format(row.question),
                )
            },
            group=str(row.image),
            target=row.answers,
            tags=(f"answer type: {row.answer_type}",),
        )
        for row in rows
    ]
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=build_version(card, data=(data.changed([QUESTIONS, ANNOTATIONS], card.files), "")),
        parser=Parser("VQA: normalised where annotators disagree", _whole),
        controls={"always yes": {row.id: {"": "yes"} for row in rows}, "prior": _prior(rows)},
    )


def read_vqa(data: DataFolder, part: str, paths: Sequence[Path], column: str | None) -> Predictions:
    """The official result file, a JSON list of {"question_id", "answer"}."""
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        for where, row in read_rows(path):
            raw = RawAnswer("", text_field(row, "answer", where))
            add_answer(answers, text_field(row, "question_id", where), raw, where)
    return Predictions(describe_files(paths, column), answers=answers)


def _rows(data: DataFolder) -> list[_Row]:
    annotations = _by_question(data, ANNOTATIONS, "annotations")
    rows = []
    for key, (where, question) in _by_question(data, QUESTIONS, "questions").items():
        if key not in annotations:
            raise DataError(
                f"{data.root / ANNOTATIONS} has nothing on the question {key!r} of {QUESTIONS}: "
                "are the two of one split?"
            )
        told, annotation = annotations.pop(key)
        answers = annotation.get("answers")
        if not isinstance(answers, list) or len(answers) < 2:
            raise DataError(f"{told} needs a list of two or more answers")
        image = text_field(question, "image_id", where)
        if not image.isdecimal():
            raise DataError(f"{where}: the image_id {image!r} is no number of COCO")
        rows.append(
            _Row(
                id=key,
                image=int(image),
                question=text_field(question, "question", where),
                question_type=text_field(annotation, "question_type", told),
                answer_type=text_field(annotation, "answer_type", told),
                answers=[text_field(check_object(a, told), "answer", told) for a in answers],
            )
        )
    if annotations:
        raise DataError(
            f"{data.root / QUESTIONS} lacks the question {next(iter(annotations))!r} of "
            f"{ANNOTATIONS}: are the two of one split?"
        )
    return rows


def _by_question(data: DataFolder, name: str, key: str) -> dict[str, tuple[str, dict]]:
    """Place and row by question_id."""
    where = data.root / name
    rows = check_object(data.json(name), where).get(key)
    if not isinstance(rows, list):
        raise DataError(f"{where} has no list {key!r}: expected the official format of VQA v2")
    found: dict[str, tuple[str, dict]] = {}
    for number, row in enumerate(rows, start=1):
        place = f"{where}, {key} entry {number}"
        question = text_field(check_object(row, place), "question_id", place)
        if question in found:
            raise DataError(f"{place}: the question_id {question!r} occurs twice; remove one")
        found[question] = place, row
    return found


def _prior(rows: Sequence[_Row]) -> dict[str, Given]:
    """The most common answer to the questions of the same type about other pictures."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    of_image: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for row in rows:
        (answer, _), *_ = Counter(row.answers).most_common(1)
        votes[row.question_type][answer] += 1
        of_image[row.question_type, row.image][answer] += 1
    ranked = {kind: sorted(found, key=lambda a: (-found[a], a)) for kind, found in votes.items()}
    given: dict[str, Given] = {}
    for row in rows:
        found, mine = votes[row.question_type], of_image[row.question_type, row.image]
        # An answer that this picture has no part in keeps its rank: the first of them is enough.
        foreign = next((a for a in ranked[row.question_type] if a not in mine), None)
        candidates = [*mine, *([] if foreign is None else [foreign])]
        best = min(candidates, key=lambda a: (mine[a] - found[a], a))
        given[row.id] = {"": best if found[best] > mine[best] else None}
    return given


def _whole(raw: str, item: AskedItem, question: str) -> Parsed:
    return Parsed(raw.strip())
