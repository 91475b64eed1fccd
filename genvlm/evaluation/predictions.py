"""Released predictions as log lines: what a model has said elsewhere, judged by our rules.

A reader of a benchmark's own format gives scores or answers by item id; here they are matched with
the benchmark's items. What is missing or no number is recorded as failed; what is too much, or
there twice, is an error, because the file then belongs to something else.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmark import Benchmark, failed_record, scored_record
from genvlm.evaluation.data_folder import DataFolder, parse_jsonl, read_file
from genvlm.evaluation.questions import (
    AskedItem,
    Given,
    QuestionBenchmark,
    answered_record,
    read_answer,
)
from genvlm.evaluation.records import ItemRecord, Said
from genvlm.scoring.protocols import ScorerInfo

NOT_PREDICTED = "no prediction"
Matrix = Sequence[Sequence[float]]


class RawAnswer(NamedTuple):
    """One answer as a file holds it."""

    question: str
    """Id of the question within its item."""
    text: str
    prompt: str | None = None


@dataclass(frozen=True)
class Predictions:
    """The content of one or more prediction files."""

    info: ScorerInfo
    scores: Mapping[str, Matrix] = field(default_factory=dict)
    """Matrices of images x texts by item id."""
    answers: Mapping[str, Sequence[RawAnswer]] = field(default_factory=dict)
    """Answers by item id."""


def describe_files(paths: Sequence[Path], column: str | None = None) -> ScorerInfo:
    """Files as a scorer: its fingerprint is of their content, never of their paths."""
    digests = [hashlib.sha256(read_file(path)).hexdigest() for path in paths]
    many = len({path.name for path in paths}) < len(paths)  # told apart by their folders
    names = " + ".join(
        str(Path(path.parent.name if many else "", path.name.removesuffix(".gz"))) for path in paths
    )
    return ScorerInfo(
        name="predictions",
        label=f"predictions {names}" + (f", column {column}" if column else ""),
        unit="arbitrary",
        settings={"kind": "predictions", "files": digests, "column": column},
    )


def read_plain_predictions(paths: Sequence[Path]) -> Predictions | None:
    """Our own format, for any benchmark: JSONL of {"id", "scores": [[...]]}, images x texts, or
    {"id", "question"?, "answer"}. None where the first line is neither.

    Raises:
        EvaluationError: an empty file, a line of another form, an id or question that occurs twice.
    """
    scores: dict[str, Matrix] = {}
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        content = read_file(path)
        if not content.strip():
            raise EvaluationError(f"{path} is empty: write the predictions anew")
        if not _is_plain(content):
            return None
        for number, row in enumerate(parse_jsonl(content, path), start=1):
            where = f"{path}, line {number}"
            item = _string(row, "id", where)
            if "scores" in row:
                add_once(scores, item, row["scores"], where)
            elif "answer" not in row:
                raise EvaluationError(
                    f"{where} has neither 'scores' nor 'answer', but {', '.join(map(repr, row))}"
                )
            else:
                raw = RawAnswer(str(row.get("question", "")), _string(row, "answer", where))
                add_answer(answers, item, raw, where)
    if scores and answers:
        raise EvaluationError(
            f"{paths[0]} holds scores of {len(scores)} items and answers of {len(answers)}: judge "
            "them apart"
        )
    return Predictions(describe_files(paths), scores, answers)


def number(value: Any, where: str) -> float:
    """A score as a file holds it; what is missing (null, an empty cell) is NaN.

    Raises:
        EvaluationError: it is no number.
    """
    if value is None or value == "":
        return float("nan")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise EvaluationError(f"{where}: {value!r} is no number") from None


def refuse_other_formats(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """The reader of a benchmark whose authors publish no format of predictions."""
    raise EvaluationError(
        f"{paths[0]} is not in the form of genvlm, and this benchmark has no other: write one JSON "
        'line an item, {"id", "scores": [[...]]} (images x texts) or {"id", "answer"}'
    )


def add_once(found: dict[str, Any], item: str, value: Any, where: str) -> None:
    """Raises EvaluationError: the id was there before."""
    if item in found:
        raise EvaluationError(f"{where}: the id {item!r} occurs twice; remove one")
    found[item] = value


def add_answer(found: dict[str, list[RawAnswer]], item: str, answer: RawAnswer, where: str) -> None:
    """Raises EvaluationError: this question of the item was answered before."""
    known = found.setdefault(item, [])
    if any(one.question == answer.question for one in known):
        what = f"the question {answer.question!r} of {item!r}" if answer.question else repr(item)
        raise EvaluationError(f"{where}: {what} is answered twice; remove one")
    known.append(answer)


def judge_scores(
    benchmark: Benchmark,
    predictions: Predictions,
    controls: Mapping[str, Mapping[str, np.ndarray]],
) -> list[ItemRecord]:
    """Log lines of a benchmark of scores.

    Args:
        controls: score matrices by control and item id.

    Raises:
        EvaluationError: ids that the benchmark does not have, or a matrix of another shape.
    """
    _check_surplus(predictions.scores, benchmark)
    records = []
    for item in benchmark.items:
        if item.id not in predictions.scores:
            records.append(failed_record(benchmark, item, predictions.info, NOT_PREDICTED))
            continue
        values = _matrix(predictions.scores[item.id], item.id)
        shape = (len(item.grid.images), len(item.grid.texts))
        if values.shape != shape:
            raise EvaluationError(
                f"item {item.id!r}: predictions of shape {values.shape}, expected {shape}: "
                "images x texts"
            )
        if not np.isfinite(values).all():
            problem = f"a score that is no number: {values.tolist()}"
            records.append(failed_record(benchmark, item, predictions.info, problem))
            continue
        mine = {name: found[item.id] for name, found in controls.items()}
        records.append(scored_record(benchmark, item, predictions.info, values, mine))
    return records


def judge_answers(benchmark: QuestionBenchmark, predictions: Predictions) -> list[ItemRecord]:
    """Log lines of a benchmark of questions.

    Raises:
        EvaluationError: ids or questions that the benchmark does not have.
    """
    _check_surplus(predictions.answers, benchmark)
    benchmark, orders = _of_orders(benchmark, predictions)
    records = []
    for item in benchmark.items:
        raw = predictions.answers.get(item.id)
        if not raw:
            records.append(failed_record(benchmark, item, predictions.info, NOT_PREDICTED))
            continue
        said = [_said(benchmark, item, one) for one in raw]
        asked = {one.question for one in said}
        expected = {q for q in item.questions if not orders or q in orders}
        if asked != expected:
            problem = f"{len(expected - asked)} of {len(expected)} questions have no prediction"
            records.append(failed_record(benchmark, item, predictions.info, problem))
            continue
        controls: dict[str, Given] = {
            name: {q: a for q, a in given[item.id].items() if q in asked}
            for name, given in benchmark.controls.items()
        }
        records.append(answered_record(benchmark, item, predictions.info, said, controls))
    return records


def _of_orders(
    benchmark: QuestionBenchmark, predictions: Predictions
) -> tuple[QuestionBenchmark, set[str]]:
    """The orders of options that the predictions hold; fewer than all are another version."""
    if benchmark.card.rule != "options":
        return benchmark, set()
    given = {one.question for raw in predictions.answers.values() for one in raw}
    held = [order for order in benchmark.card.orders if order in given]
    every = {order for item in benchmark.items for order in item.questions}
    if set(held) >= every:
        return benchmark, set(held)
    version = f"{benchmark.version}+orders={','.join(held)}"
    return replace(benchmark, version=version), set(held)


def _matrix(scores: Any, item_id: str) -> np.ndarray:
    try:
        # null, as NaN, is no score
        values = np.array(scores, dtype=np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(
            f"item {item_id!r}: scores must be a list of lists of numbers, images x texts, got "
            f"{str(scores)[:60]}"
        ) from None
    return values


def _said(benchmark: QuestionBenchmark, item: AskedItem, raw: RawAnswer) -> Said:
    if raw.question not in item.questions:
        raise EvaluationError(
            f"item {item.id!r}: an answer to the question {raw.question!r}, which {benchmark.name} "
            f"({benchmark.version}) does not ask; are the predictions of another version?"
        )
    return read_answer(benchmark, item, raw.question, raw.text, prompt=raw.prompt)


def _check_surplus(found: Iterable[str], benchmark: Benchmark | QuestionBenchmark) -> None:
    known = {item.id for item in benchmark.items}
    surplus = [item for item in found if item not in known]
    if surplus:
        raise EvaluationError(
            f"{len(surplus)} predictions are of ids that {benchmark.name} ({benchmark.version}) "
            f"does not have, such as {surplus[0]!r}: they are of another benchmark, part or version"
        )


def _is_plain(content: bytes) -> bool:
    try:
        first = json.loads(content.split(b"\n", 1)[0])
    except ValueError:
        return False
    if not isinstance(first, dict) or "id" not in first:
        return False
    # No format of others is an id and nothing that says more: the scores were forgotten, or are
    # under another name, and the error should be about that.
    return "scores" in first or "answer" in first or first.keys() <= {"id", "question", "score"}


def _string(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise EvaluationError(f"{where}: {key!r} is {value!r}, expected a string")
    return value
