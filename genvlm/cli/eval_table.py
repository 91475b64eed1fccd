"""How a result is printed: one table of model, categories and controls, or JSON alone."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genvlm.evaluation.results import Measured, Summary, Table

INCOMPLETE = 2


def finish(summary: "Summary", *, as_json: bool, allow_partial: bool) -> int:
    """Print a summary; the exit code is 2 when it is incomplete and that was not allowed."""
    hidden = summary.status == "incomplete" and not allow_partial
    if as_json:
        print(json.dumps(summary.to_json()))
    else:
        print_summary(summary, hide_headline=hidden)
    return INCOMPLETE if hidden else 0


def print_summary(summary: "Summary", *, hide_headline: bool = False) -> None:
    """The table, with what a reader must know below it."""
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    table = _table(f"{summary.benchmark} ({summary.version})", list(summary.metrics))
    own = ["incomplete"] * len(summary.metrics) if hide_headline else _cells(summary.metrics)
    table.add_row(escape(summary.scorer), *own, style="bold")
    for category, metrics in summary.categories.items():
        whole = all(m.n == summary.metrics[name].n for name, m in metrics.items())
        if not hide_headline and not whole:
            table.add_row(escape(f"  {category}"), *_cells(metrics, list(summary.metrics)))
    for name, scores in summary.controls.scores.items():
        table.add_row(f"control: {name}", *_cells(scores.metrics))
    console.print(table)
    for metric, gain in () if hide_headline else summary.controls.gain.metrics.items():
        interval = "" if gain.interval is None else " [{:.1f}, {:.1f}]".format(*gain.interval)
        console.print(f"gain in {metric}: {gain.value:+.1f}{interval} over {gain.over}")
    counts = ", ".join(f"{count} {what}" for what, count in summary.coverage.items())
    if summary.status == "incomplete":
        console.print(f"incomplete: {counts}; --allow-partial shows the numbers")
    for flag in summary.flags:
        if hide_headline and "ties matter" in flag:
            continue
        console.print(f"note: {flag}", markup=False)


def print_controls(title: str, scores: "dict[str, Table]", chance: Mapping[str, float]) -> None:
    """What needs no picture: value when a tie is wrong, and when it is decided by chance.

    Of the metrics with a chance level, or of all. Where no tie tells the two apart, once.
    """
    from rich.console import Console
    from rich.markup import escape

    first = next(iter(scores.values()))
    metrics = [name for name in first.metrics if name in chance] or list(first.metrics)
    rows = [
        (label, label == name, measured)
        for name, found in scores.items()
        for label, measured in (
            (name, found.metrics),
            *((f"  {tag}", by_metric) for tag, by_metric in found.categories.items()),
        )
    ]
    columns = []
    for metric in metrics:
        known = [measured[metric] for _, _, measured in rows if metric in measured]
        unit = ", %" if first.metrics[metric].unit == "percent" else ""
        columns.append((metric, "value", metric + unit))
        if any(one.half != one.value for one in known):
            columns.append((metric, "half", f"{metric}{unit}, ties half"))
    table = _table(title, [heading for _, _, heading in columns])
    for label, whole, measured in rows:
        found = [
            getattr(measured[metric], kind) if metric in measured else None
            for metric, kind, _ in columns
        ]
        cells = ["n/a" if value is None else f"{value:.4g}" for value in found]
        table.add_row(escape(label), *cells, style="bold" if whole else "")
    Console().print(table)


def _table(title: str, columns: list[str]) -> Any:
    from rich.table import Table

    return Table("", *columns, title=title)


def _cells(metrics: "dict[str, Measured]", names: list[str] | None = None) -> list[str]:
    return [_cell(metrics.get(name)) for name in names or metrics]


def _cell(metric: "Measured | None") -> str:
    if metric is None:
        return ""
    if metric.value is None:
        return "n/a"
    digits = 2 if metric.unit == "percent" else 4
    text = f"{metric.value:.{digits}f}"
    if metric.interval:
        text += " [{:.{d}f}, {:.{d}f}]".format(*metric.interval, d=1 if digits == 2 else 3)
    return text
