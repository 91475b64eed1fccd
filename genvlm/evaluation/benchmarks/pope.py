"""POPE: is this object in the picture? (Li et al. 2023, https://arxiv.org/abs/2305.10355).

Three splits with the same 1,500 positive questions. Pictures are COCO val2014.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genvlm.data.images import ImageFiles, picture_path
from genvlm.errors import EvaluationError
from genvlm.evaluation.answers import pope_yes
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, parse_jsonl, read_file
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Given, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

SPLITS = ("random", "popular", "adversarial")
# "imange" stands in some of the official questions.
_QUESTION = re.compile(r"Is there an? (.+) in the ima(?:n)?ge\?")


def ask_pope(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One yes-no question an item; `part` is a split or "" for all three."""
    card = load_card("pope")
    folder = images or data.root / "pope/images"
    items = [
        AskedItem(
            id=f"{split}/{row['question_id']}",
            questions={
                "": Question(
                    item_id=f"{split}/{row['question_id']}",
                    images=ImageFiles([_picture(data, folder, split, row)], card.fetch),
                    prompt=row["text"],
                )
            },
            group=row["image"],
            target=row["label"],
            tags=(f"split: {split}",),
        )
        for split, row in _rows(data, part)
    ]
    files = [_file(split) for split in ((part,) if part else SPLITS)]
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=build_version(card, part=(part, ""), data=(data.changed(files, card.files), "")),
        parser=Parser(
            "POPE: no if No, not or no stands before the first full stop, else yes", _yes
        ),
        controls={
            "always yes": {item.id: {"": "yes"} for item in items},
            "line parity": {
                f"{split}/{row['question_id']}": {"": "yes" if number % 2 == 0 else "no"}
                for split in ((part,) if part else SPLITS)
                for number, (_, row) in enumerate(_rows(data, split))
            },
            "prior": _object_prior(_rows(data, part)),
        },
    )


def read_pope(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """Answers as JSONL with "text" or "answer", "image" and "question"; "category" tells the split.

    Rows are joined on (picture, object), never on the line: files differ in length and order.

    Raises:
        EvaluationError: a row without picture or question, or of a split that cannot be told.
    """
    known = {
        (split, row["image"], _object(row["text"])): f"{split}/{row['question_id']}"
        for split, row in _rows(data, part)
    }
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        for number, row in enumerate(parse_jsonl(read_file(path), path), start=1):
            where = f"{path}, line {number}"
            split = row.get("category") or part
            if part and split != part:
                continue
            # The official question rows have the question as text.
            told, asked = row.get("text"), row.get("question")
            text, image = row.get("answer", told), row.get("image")
            if asked is None and "answer" in row:
                asked = told
            if split not in SPLITS or not isinstance(text, str) or not isinstance(image, str):
                raise EvaluationError(
                    f"{where}: needs the answer as text, the picture as image, the question, and "
                    f"the split as category ({', '.join(SPLITS)}), unless the benchmark is named "
                    "as pope/SPLIT"
                )
            key = split, image, _object(str(asked), where)
            add_answer(answers, known.get(key, " ".join(key)), RawAnswer("", text), where)
    return Predictions(describe_files(paths, column), answers=answers)


def _rows(data: DataFolder, part: str) -> list[tuple[str, dict[str, Any]]]:
    splits = (part,) if part else SPLITS
    return [(split, row) for split in splits for row in data.jsonl(_file(split))]


def _picture(data: DataFolder, folder: Path, split: str, row: Mapping[str, Any]) -> Path:
    where = f"{data.root / _file(split)}: question {row['question_id']}"
    return picture_path(folder, row["image"], where)


def _file(split: str) -> str:
    return f"pope/coco_pope_{split}.json"


def _object(question: str, where: str = "") -> str:
    found = _QUESTION.search(question)
    if not found:
        at = f"{where}: " if where else ""
        raise EvaluationError(
            f"{at}the question {question!r} is none of POPE: expected 'Is there a ...'"
        )
    return found[1]


def _object_prior(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Given]:
    """What the object's name alone gives: the majority label of its questions in the same split
    about other pictures; undecided where they are even."""
    votes: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for split, row in rows:
        signed = 1 if row["label"] == "yes" else -1
        votes[split, _object(row["text"])].update({"": signed, row["image"]: signed})
    given: dict[str, Given] = {}
    for split, row in rows:
        mine = votes[split, _object(row["text"])]
        others = mine[""] - mine[row["image"]]
        answer = None if others == 0 else "yes" if others > 0 else "no"
        given[f"{split}/{row['question_id']}"] = {"": answer}
    return given


def _yes(raw: str, item: AskedItem, question: str) -> Parsed:
    return Parsed("yes" if pope_yes(raw) else "no")
