"""What an evaluation comes to: numbers with intervals, beside their controls. Plain records."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

from genvlm.evaluation.statistics import Interval


class Measured(NamedTuple):
    """One number of a result, in its unit."""

    value: float | None
    """A tie or an unreadable answer is wrong: the official rule. None where it is undefined."""
    half: float | None
    n: int
    interval: Interval | None
    """95 % interval of `value`; None where it is undefined (a flag says why) or exact."""
    tie_rate: float | None
    """Percent of items on which the two values differ."""
    unit: Literal["percent", "number"] = "percent"


class Gain(NamedTuple):
    """Half credit of the scorer minus that of the best control that never sees the picture."""

    value: float
    interval: Interval | None
    over: str
    """The control that was best."""


class Table(NamedTuple):
    """Metrics over all items and over each category."""

    metrics: dict[str, Measured]
    categories: dict[str, dict[str, Measured]]


class GainTable(NamedTuple):
    """Gains over all items and over each category."""

    metrics: dict[str, Gain]
    categories: dict[str, dict[str, Gain]]


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What needs no understanding, beside the scorer."""

    scores: dict[str, Table]
    gain: GainTable


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The result of one scorer on one benchmark. `to_json` is what `--json` prints."""

    schema: int
    benchmark: str
    version: str
    status: Literal["complete", "incomplete"]
    coverage: dict[str, int]
    metrics: dict[str, Measured]
    categories: dict[str, dict[str, Measured]]
    controls: Controls
    flags: tuple[str, ...]
    fingerprint: str
    scorer: str

    def to_json(self) -> dict[str, object]:
        """Plain dictionaries and lists for `json.dumps`."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def _plain(value: object) -> object:
    """Named tuples of a result as dictionaries, intervals and other tuples as lists."""
    if isinstance(value, Interval):
        return list(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
