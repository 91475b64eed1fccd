"""GenEval: do drawn pictures show the objects, counts, colours and places of their prompts?

Ghosh et al. 2023, https://arxiv.org/abs/2310.11513. A detector decides, elsewhere: here the result
files of the official evaluator are judged.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, read_rows, text_field
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

PROMPTS = "geneval/evaluation_metadata.jsonl"
IMAGES_PER_PROMPT = 4
_SAMPLE = re.compile(r"(?:.*[/\\])?(\d+)[/\\]samples[/\\](\d+)\.png")


def ask_geneval(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One item for each of four pictures a prompt: "00012/3" is the fourth of the folder 00012."""
    card = load_card("geneval")
    items = []
    for key, (task, prompt) in _prompts(data).items():
        for sample in range(IMAGES_PER_PROMPT):
            item = f"{key}/{sample}"
            items.append(
                AskedItem(
                    id=item,
                    questions={"": Question(item_id=item, images=(), prompt=prompt)},
                    group=key,
                    target={"answer": "correct", "options": ["correct", "wrong"]},
                    tags=(f"task: {task}",),
                )
            )
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=build_version(card, data=(data.changed([PROMPTS], card.files), "")),
        parser=Parser("the official evaluator's verdict", lambda raw, item, question: Parsed(raw)),
        predictions_only="its judge is a detector that genvlm does not have; draw the pictures, "
        "run the official evaluator on them, and name its result file with --predictions",
    )


def read_geneval(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """JSON lines of the official evaluator: {"filename", "tag", "prompt", "correct", ...}.

    Raises:
        DataError: a row without what it needs.
        EvaluationError: a prompt or task that is not that of the picture's folder.
    """
    prompts = _prompts(data)
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        for where, row in read_rows(path):
            name = text_field(row, "filename", where)
            found = _SAMPLE.fullmatch(name)
            if not found:
                raise DataError(
                    f"{where}: the filename {name!r} is not of the form .../00000/samples/00000.png"
                )
            key = f"{int(found[1]):05d}"
            told = text_field(row, "tag", where), text_field(row, "prompt", where)
            if key in prompts and told != prompts[key]:
                raise EvaluationError(
                    f"{where}: {name!r} is of {told[1]!r} ({told[0]}), but prompt {key} is "
                    f"{prompts[key][1]!r} ({prompts[key][0]}): the pictures are of another list"
                )
            correct = row.get("correct")
            if not isinstance(correct, bool):
                raise DataError(f"{where}: correct is {correct!r}, expected true or false")
            raw = RawAnswer("", "correct" if correct else "wrong", told[1])
            add_answer(answers, f"{key}/{int(found[2])}", raw, where)
    return Predictions(describe_files(paths, column), answers=answers)


def _prompts(data: DataFolder) -> dict[str, tuple[str, str]]:
    """Task and prompt by the folder that the official generator makes."""
    found = {}
    for number, row in enumerate(data.jsonl(PROMPTS)):
        where = f"{data.root / PROMPTS}, row {number + 1}"
        found[f"{number:05d}"] = text_field(row, "tag", where), text_field(row, "prompt", where)
    return found
