"""The log of an evaluation: one JSON line per item, enough to rebuild every table."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float64

from genvlm.errors import EvaluationError
from genvlm.evaluation.rules import Credit, Rule, check_finite, credit_item

SCHEMA = 2
Status = Literal["answered", "refused", "unparseable", "failed"]


@dataclass(frozen=True, kw_only=True)
class ItemRecord:
    """One item as it was scored. Matrices are images x texts in the benchmark's own order."""

    id: str
    group: str
    """Cluster of items that are not independent; resampled as a whole."""
    tags: tuple[str, ...]
    benchmark: str
    version: str
    num_items: int
    """Items of the whole benchmark, so that a log that was cut short is seen to be short."""
    rule: Rule
    correct: int | None
    """Index of the correct text (choice)."""
    status: Status = "answered"
    order_seed: int
    image_order: tuple[int, ...]
    """image_order[k] is the image that was shown to the scorer in place k."""
    text_order: tuple[int, ...]
    scores: tuple[tuple[float, ...], ...]
    num_tokens: tuple[tuple[int, ...], ...] | None = None
    credit: dict[str, Credit]
    """By metric, as computed when the item was scored."""
    controls: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    """Score matrices of the controls, by name."""
    fingerprint: str
    """Of the scorer."""
    scorer: str
    """Its name."""
    schema: int = SCHEMA

    @property
    def values(self) -> Float64[np.ndarray, "images texts"]:
        """The scores as float64."""
        return np.asarray(self.scores, np.float64)

    def recompute_credit(self, control: str | None = None) -> dict[str, Credit]:
        """Credit by metric, from the raw scores of the scorer or of one control."""
        values = self.values if control is None else np.asarray(self.controls[control], np.float64)
        check_finite(values, self.id, f"control {control!r}" if control else "the scorer")
        return credit_item(self.rule, values, self.correct, self.id)


class Log(NamedTuple):
    """Records read from a file."""

    records: list[ItemRecord]
    num_truncated: int
    """1 when the last line was cut short (the writer was killed), else 0."""


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
    matrices = {
        "scores": _matrix(line["scores"]),
        "num_tokens": None if line["num_tokens"] is None else _matrix(line["num_tokens"]),
        "controls": {name: _matrix(rows) for name, rows in line["controls"].items()},
    }
    tuples = {key: tuple(line[key]) for key in ("tags", "image_order", "text_order")}
    credit = {metric: Credit(**parts) for metric, parts in line["credit"].items()}
    return ItemRecord(**{**line, **matrices, **tuples, "credit": credit})


def _matrix(rows: list[list]) -> tuple[tuple, ...]:
    return tuple(tuple(row) for row in rows)
