"""What a benchmark found: rows with bars, as JSON, as a table, as files."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from genvlm.studies.bench.plots import Curves, draw_curves, draw_ratios
from genvlm.studies.bench.timing import Ratio, Settings
from genvlm.training.objectives.next_token import bfloat16_supported

SCHEMA = 1
_LIBRARIES = ("torch", "transformers", "taming-transformers")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement of genvlm beside another one of the same work."""

    name: str
    against: str
    """What it is compared with."""
    unit: Literal["s", "MiB", "share"]
    ours: float | None = None
    """Median, mean or peak; None where this machine cannot measure it."""
    theirs: float | None = None
    ratio: float | None = None
    """How many times better ours is: theirs / ours of times and of memory."""
    low: float | None = None
    high: float | None = None
    """95 % interval of the ratio; memory is measured once and has none."""
    bar: float | None = None
    """What the ratio has to reach."""
    bar_on: Literal["ratio", "low"] = "ratio"
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """All rows of one benchmark."""

    bench: str
    shape: str
    """Of the model and of the work."""
    method: str
    """What exactly was measured."""
    settings: Settings
    rows: Sequence[Row]
    facts: Mapping[str, float | str]
    """Numbers beside the rows."""
    curves: Sequence[Curves] = ()

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "schema": SCHEMA,
            "bench": self.bench,
            "quick": self.settings.quick,
            "shape": self.shape,
            "method": self.method,
            "repetitions": self.settings.num,
            "machine": machine(self.settings),
            "rows": [asdict(row) for row in self.rows],
            "facts": dict(self.facts),
            "curves": [asdict(curves) for curves in self.curves],
        }


def time_row(
    name: str,
    against: str,
    ours: float,
    theirs: float,
    ratio: Ratio,
    settings: Settings,
    *,
    bar: float | None = None,
    bar_on: Literal["ratio", "low"] = "ratio",
    note: str = "",
) -> Row:
    """A row of median or mean seconds."""
    reached = ratio.value if bar_on == "ratio" else ratio.low
    return Row(
        name=name, against=against, unit="s", ours=ours, theirs=theirs, ratio=ratio.value,
        low=ratio.low, high=ratio.high, bar=bar, bar_on=bar_on, note=note,
        met=None if bar is None or settings.quick else reached >= bar,
    )  # fmt: skip


def memory_row(
    name: str,
    against: str,
    ours: int | None,
    theirs: int | None,
    settings: Settings,
    *,
    bar: float,
) -> Row:
    """A row of peak bytes of two fresh processes."""
    if ours is None or theirs is None:
        return Row(name=name, against=against, unit="MiB", bar=bar, note="not measured here")
    ratio = theirs / max(ours, 1)
    return Row(
        name=name, against=against, unit="MiB", ours=ours / 2**20, theirs=theirs / 2**20,
        ratio=ratio, bar=bar, met=None if settings.quick else ratio >= bar,
    )  # fmt: skip


def machine(settings: Settings) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "processor": _processor(),
        "threads": settings.threads,
        "bfloat16": bfloat16_supported(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
    }


def save_result(result: Result, folder: Path) -> list[Path]:
    """Write `<bench>.json`, `<bench>.md` and pictures; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        f"{result.bench}.json": (json.dumps(result.to_json(), indent=1) + "\n").encode(),
        f"{result.bench}.md": markdown(result).encode(),
    }
    if any(row.ratio is not None for row in result.rows):
        content[f"{result.bench}.png"] = draw_ratios(
            [
                (f"{r.name}, {r.against}", r.ratio, r.low, r.high, r.bar)
                for r in result.rows
                if r.ratio is not None
            ]
        )
    for curves in result.curves:
        content[f"{result.bench}-{curves.name}.png"] = draw_curves(curves)
    for name, written in content.items():
        (folder / name).write_bytes(written)
    return [folder / name for name in content]


def markdown(result: Result) -> str:
    """The table as a page."""
    lines = [f"# genvlm bench {result.bench}", ""]
    if result.settings.quick:
        lines += ["Quick run: tiny shapes, no result.", ""]
    lines += [
        f"Shape: {result.shape}.", "", result.method, "",
        ", ".join(f"{key} {value}" for key, value in machine(result.settings).items()) + ".", "",
    ]  # fmt: skip
    if result.rows:
        lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in result.rows]
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(result))]) + "\n"


def notes(result: Result) -> list[str]:
    """What stands below the table."""
    said = [f"{row.name}, {row.against}: {row.note}" for row in result.rows if row.note]
    return said + [f"{name}: {_number(value)}" for name, value in result.facts.items()]


COLUMNS = ("work", "against", "genvlm", "other", "ratio (95 %)", "bar", "met")


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, for `COLUMNS`."""
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    if row.low is not None:
        ratio += f" [{row.low:.2f}, {row.high:.2f}]"
    bar = "-" if row.bar is None else f">= {row.bar:g}" + (" (low)" if row.bar_on == "low" else "")
    met = {True: "yes", False: "NO", None: "-"}[row.met]
    values = (_value(v, row.unit) for v in (row.ours, row.theirs))
    return (row.name, row.against, *values, ratio, bar, met)


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "not measured here"
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "MiB":
        return f"{value:.1f} MiB"
    return f"{value:.3f} s" if value >= 1 else f"{1000 * value:.3g} ms"


def _number(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
