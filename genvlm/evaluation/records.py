"""The log of an evaluation: one JSON line per item, enough to rebuild every table."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from genvlm.errors import EvaluationError
from genvlm.evaluation.decisions import RuleName
from genvlm.evaluation.measures import Evidence, Target
from genvlm.evaluation.rules import Credit, check_finite

SCHEMA = 3
Status = Literal["answered", "refused", "unparseable", "failed"]
ControlEvidence: TypeAlias = tuple[tuple[float, ...], ...] | dict[str, str | None]
AnswerStatus = Literal["answered", "refused", "unparseable"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """One question of an item, and what was answered."""

    question: str
    """Its id within the item: the order in which options were shown, a proposition, or ""."""
    prompt: str | None
    """None where a released prediction does not tell."""
    raw: str
    parsed: str | None
    """None where the answer could not be read."""
    parse_rule: str
    status: AnswerStatus = "answered"


@dataclass(frozen=True, kw_only=True)
class ItemRecord:
    """One item as it was scored or answered.

    Matrices are images x texts in the benchmark's own order; of clips, pairs x (lawful, broken).
    """

    id: str
    group: str
    """Cluster of items that are not independent; resampled as a whole."""
    tags: tuple[str, ...]
    benchmark: str
    version: str
    num_items: int
    """Items of the whole benchmark, so that a log that was cut short is seen to be short."""
    rule: RuleName
    target: Target
    """What is right, in the form that the rule says."""
    status: Status = "answered"
    """refused and unparseable count as undecided; failed (no finite score) counts nowhere."""
    order_seed: int | None = None
    image_order: tuple[int, ...] = ()
    """image_order[k] is the image, or clip, that was shown to the scorer in place k."""
    text_order: tuple[int, ...] = ()
    scores: tuple[tuple[float, ...], ...] | None = None
    num_tokens: tuple[tuple[int, ...], ...] | None = None
    latents: tuple[tuple[float, ...], ...] = ()
    """Of clips, in the order of the scores row by row: what each latent frame behind the given
    ones adds to the score."""
    answers: tuple[Said, ...] = ()
    credit: dict[str, Credit]
    """By metric, as computed when the item was scored."""
    controls: dict[str, ControlEvidence] = field(default_factory=dict)
    """What each control gave: a score matrix, or its answer to each question."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Controls of the model that were not run, and why."""
    fingerprint: str
    """Of the scorer or answerer, or of the prediction file."""
    scorer: str
    """Its name."""
    dtype: str | None = None
    problem: str = ""
    """Why the item failed."""
    schema: int = SCHEMA

    def evidence(self, control: str | None = None) -> Evidence:
        """What the scorer, or one control, gave.

        Raises:
            EvaluationError: a score is NaN or infinite; the item is named.
        """
        if control is None and self.answers:
            return {said.question: said.parsed for said in self.answers}
        found = self.scores if control is None else self.controls[control]
        if isinstance(found, dict):
            return found
        source = "the scorer" if control is None else f"control {control!r}"
        return check_finite(np.asarray(found, np.float64), self.id, source)


class Log(NamedTuple):
    """Records read from a file."""

    records: list[ItemRecord]
    num_truncated: int
    """1 when the last line was cut short (the writer was killed), else 0."""

    @property
    def benchmark(self) -> str:
        """Its benchmark. Raises EvaluationError: the log is empty."""
        if not self.records:
            raise EvaluationError("the log holds no whole item: run the evaluation again")
        return self.records[0].benchmark


def write_records(records: Iterable[ItemRecord], path: str | Path) -> None:
    """Write a log; it appears under its name only once it is whole."""
    path = Path(path)
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("w", encoding="utf-8") as file:
        for record in records:
            # allow_nan: NaN is no JSON, and no score either.
            line = json.dumps(asdict(record) | {"credit": _credit_json(record)}, allow_nan=False)
            file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_records(path: str | Path) -> Log:
    """Read a log. A last line that was cut short is counted, any other damage is an error."""
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        raise EvaluationError(f"no log at {path}: check the path") from None
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_parse(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines) and not line.endswith(b"\n"):
                return Log(records, 1)
            raise EvaluationError(
                f"{path}, line {number} is no item record ({error}): restore it or run again"
            ) from None
    return Log(records, 0)


def _credit_json(record: ItemRecord) -> dict[str, dict[str, float | bool]]:
    return {metric: credit._asdict() for metric, credit in record.credit.items()}


def _parse(line: dict) -> ItemRecord:
    if line["schema"] != SCHEMA:
        raise ValueError(f"schema {line['schema']}, this version reads schema {SCHEMA}")
    unknown = line.keys() - {f.name for f in fields(ItemRecord)}
    if unknown:
        raise ValueError(f"unknown key {sorted(unknown)[0]!r}")
    matrices = {key: _matrix(line[key]) for key in ("scores", "num_tokens")}
    controls = {
        name: found if isinstance(found, dict) else _matrix(found)
        for name, found in line["controls"].items()
    }
    tuples = {key: tuple(line[key]) for key in ("tags", "image_order", "text_order")}
    tuples["latents"] = _matrix(line.get("latents", ())) or ()
    said = tuple(Said(**answer) for answer in line["answers"])
    credit = {metric: Credit(**parts) for metric, parts in line["credit"].items()}
    return ItemRecord(
        **{**line, **matrices, **tuples, "controls": controls, "answers": said, "credit": credit}
    )


def _matrix(rows: list[list] | None) -> tuple[tuple, ...] | None:
    return None if rows is None else tuple(tuple(row) for row in rows)
