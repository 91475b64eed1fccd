"""DSG: does a generated picture show what its prompt says? Asked as a graph of yes-no questions.

Cho et al. 2024, https://arxiv.org/abs/2310.18235. On TIFA-160 the scores are compared with people.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from genvlm.data.images import ImageFiles, picture_path
from genvlm.errors import EvaluationError
from genvlm.evaluation.answers import yes_no
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.correlation import mean_by_key, read_dependencies
from genvlm.evaluation.data_folder import DataFolder, parse_csv, read_file
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

PARTS = ("tifa160", "tifa160-no-dependencies", "tifa160-vq2a", "1k")
ANNOTATIONS, LIKERT = "dsg/dsg-1k-anns.csv", "dsg/tifa160-likert-anns.csv"
VQ2A = "dsg/instructblip_vq2a.csv"
"""VQ2A's questions are published in answer files alone."""
DEFAULT_MODEL = "sd2dot1"
"""Of the released answers, the one text-to-image model that drew all prompts."""
UNANSWERED = "tifa160_134"
"""The prompt that no released file answers; its question 1 does not exist."""
_SPLIT = "tifa160"


class _Asked(NamedTuple):
    """The questions of one prompt by number, and what each depends on."""

    questions: Mapping[int, str]
    parents: Mapping[int, Sequence[int]]
    malformed: bool


def ask_dsg(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One item a picture, with all its questions.

    Parts: tifa160, 800 pictures of five models with human ratings; the same without dependencies;
    with the questions of VQ2A; 1k, 1,060 prompts drawn by one model, without ratings. Pictures are
    `IMAGES/MODEL/ITEM.png`, those of 1k `IMAGES/ITEM.png`.
    """
    card = load_card("dsg")
    asked = _vq2a(data) if part == "tifa160-vq2a" else _graphs(data)
    ratings = _ratings(data) if part != "1k" else {("", item): None for item in asked}
    folder = images or data.root / "dsg/images"
    items = []
    for (model, prompt), human in ratings.items():
        graph = asked.get(prompt, _Asked({}, {}, False))
        parents = {} if part == "tifa160-no-dependencies" else graph.parents
        item_id = f"{model}/{prompt}" if model else prompt
        path = picture_path(folder, f"{item_id}.png", f"{data.root}, dsg: {item_id!r}")
        picture = ImageFiles([path], card.fetch)
        items.append(
            AskedItem(
                id=item_id,
                questions={
                    str(number): Question(
                        item_id=f"{item_id}/{number}", images=picture, prompt=question
                    )
                    for number, question in (graph.questions or {1: ""}).items()
                },
                group=prompt,
                target={
                    "human": human,
                    "parents": {str(child): list(found) for child, found in parents.items()},
                },
                tags=(
                    *((f"model: {model}",) if model else ()),
                    *(("malformed dependencies",) if graph.malformed else ()),
                ),
            )
        )
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=build_version(
            card, part=(part, ""), data=(data.changed(_files(part), card.files), "")
        ),
        parser=Parser("yes if it equals 'yes', else no (official)", _equals_yes),
        controls={"always yes": {i.id: dict.fromkeys(i.questions, "yes") for i in items}},
    )


def read_dsg(data: DataFolder, part: str, paths: Sequence[Path], column: str | None) -> Predictions:
    """The released CSV of answers: t2i_model, item_id, question, answer, and question_id for DSG.

    Pictures of the one prompt that no released file answers get an empty answer to each question
    and so score 0, as in the released code; any other that is missing is missing.

    Args:
        column: the text-to-image model of part 1k.
    """
    benchmark = ask_dsg(data, part, None)
    models = {item.id.rpartition("/")[0] for item in benchmark.items}
    unrated: set[str] = set()
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        columns = ("dsg_prompt_split", "t2i_model", "item_id", "question", "answer")
        numbers: dict[str, int] = defaultdict(int)
        asked_by = "vq2a" if part == "tifa160-vq2a" else "dsg"
        for row in parse_csv(read_file(path), path, columns):
            if row.get("qg_model", asked_by) != asked_by:
                raise EvaluationError(
                    f"{path}: answers to the questions of {row['qg_model']}, but dsg/{part} asks "
                    f"those of {asked_by}"
                )
            if part == "1k":
                if row["t2i_model"] != (column or DEFAULT_MODEL):
                    continue
                item = row["item_id"]
            else:
                if row["dsg_prompt_split"] != _SPLIT:
                    continue
                item = f"{row['t2i_model']}/{row['item_id']}"
                if row["t2i_model"] not in models:
                    unrated.add(item)
                    continue
            numbers[item] += 1
            question = row.get("question_id") or str(numbers[item])
            raw = RawAnswer(question, row["answer"], row["question"])
            add_answer(answers, item, raw, str(path))
    answered_by = {item.rpartition("/")[0] for item in answers}
    for asked in benchmark.items if part != "tifa160-vq2a" else ():
        known = asked.id.rpartition("/")[0] in answered_by
        if known and asked.group == UNANSWERED and asked.id not in answers:
            answers[asked.id] = [RawAnswer(question, "") for question in asked.questions]
    info = describe_files(paths, column)
    if unrated:
        note = f"{info.label}; {len(unrated)} pictures of models that nobody rated are left out"
        info = replace(info, label=note)
    return Predictions(info, answers=answers)


def _graphs(data: DataFolder) -> dict[str, _Asked]:
    columns = ("item_id", "proposition_id", "dependency", "question_natural_language")
    rows = data.csv(ANNOTATIONS, columns)
    dependencies = read_dependencies(
        (row["item_id"], int(row["proposition_id"]), row["dependency"]) for row in rows
    )
    questions: dict[str, dict[int, str]] = defaultdict(dict)
    for row in rows:
        number = int(row["proposition_id"])
        if number in questions[row["item_id"]]:
            raise EvaluationError(
                f"{data.root / ANNOTATIONS}: {row['item_id']} has the question {number} twice"
            )
        questions[row["item_id"]][number] = row["question_natural_language"]
    graphs = {}
    for item, found in questions.items():
        parents = dependencies.parents[item]
        # tifa160_134 depends on a question that does not exist: malformed too.
        known = all(parent in found for mine in parents.values() for parent in mine)
        malformed = item in dependencies.malformed or not known
        graphs[item] = _Asked(found, parents if known else {}, malformed)
    return graphs


def _vq2a(data: DataFolder) -> dict[str, _Asked]:
    """Numbered in the order in which they stand, which is the same for every model."""
    questions: dict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for row in data.csv(VQ2A, ("dsg_prompt_split", "t2i_model", "item_id", "question")):
        if row["dsg_prompt_split"] == _SPLIT:
            mine = questions[row["t2i_model"], row["item_id"]]
            mine[len(mine) + 1] = row["question"]
    return {item: _Asked(found, {}, False) for (_, item), found in questions.items()}


def _ratings(data: DataFolder) -> dict[tuple[str, str], float | None]:
    rows = data.csv(LIKERT, ("t2i_model", "item_id", "answer"))
    return dict(mean_by_key(((r["t2i_model"], r["item_id"]), float(r["answer"])) for r in rows))


def _files(part: str) -> list[str]:
    if part == "1k":
        return [ANNOTATIONS]
    return [LIKERT, VQ2A if part == "tifa160-vq2a" else ANNOTATIONS]


def _equals_yes(raw: str, item: AskedItem, question: str) -> Parsed:
    # Official: equal to "yes". A full stop is forgiven; what says neither, such as "1000", is a no.
    answer = "yes" if raw.strip().rstrip(".!").lower() == "yes" else "no"
    return Parsed(answer) if yes_no(raw) is not None else Parsed(answer, "unparseable")
