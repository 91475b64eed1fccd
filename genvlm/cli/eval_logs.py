"""`genvlm eval rescore` and `genvlm eval diff`: results from logs, without a model."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.eval_table import finish
from genvlm.cli.parsing import Subparsers, add_command

if TYPE_CHECKING:
    from genvlm.evaluation.comparison import ComparedLogs, Difference


def add_parsers(actions: Subparsers) -> None:
    """Declare the actions."""
    parser = add_command(
        actions,
        "rescore",
        rescore,
        summary="Rebuild every table from a log: no model and no picture is needed.",
        example="genvlm eval rescore runs/demo/eval/scenes/items.jsonl",
    )
    parser.add_argument("log", type=Path, help="items.jsonl of genvlm eval run")
    parser.add_argument(
        "--allow-partial", action="store_true", help="show numbers of an incomplete result, exit 0"
    )
    parser.add_argument("--json", action="store_true", help="print the summary and nothing else")
    parser = add_command(
        actions,
        "diff",
        diff,
        summary="Compare two logs of one benchmark item by item: paired differences with "
        "intervals, exact tests of whole groups, Holm's correction over categories.",
        example="genvlm eval diff runs/a/items.jsonl runs/b/items.jsonl",
    )
    parser.add_argument("first", type=Path, help="log of one scorer")
    parser.add_argument("second", type=Path, help="log of another, on the same items")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def rescore(arguments: argparse.Namespace) -> int:
    """Print the summary of a log; exit code 2 when it is incomplete."""
    from genvlm.evaluation.cards import load_card
    from genvlm.evaluation.records import read_records
    from genvlm.evaluation.summary import summarize

    log = read_records(arguments.log)
    card = load_card(log.benchmark)
    summary = summarize(log.records, card, num_truncated=log.num_truncated)
    return finish(summary, as_json=arguments.json, allow_partial=arguments.allow_partial)


def diff(arguments: argparse.Namespace) -> int:
    """Print the differences, second minus first."""
    from genvlm.evaluation.cards import load_card
    from genvlm.evaluation.comparison import compare
    from genvlm.evaluation.records import read_records

    first, second = read_records(arguments.first), read_records(arguments.second)
    compared = compare(first.records, second.records, load_card(first.benchmark))
    if arguments.json:
        print(json.dumps(compared.to_json()))
    else:
        _print(compared)
    return 0


def _print(compared: "ComparedLogs") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    title = f"{compared.benchmark} ({compared.version}): B minus A"
    table = Table(
        "", "A", "B", "difference", "only A right", "only B right", "p", "p (Holm)", "n",
        title=title,
    )  # fmt: skip
    for metric, found in compared.metrics.items():
        table.add_row(metric, *_cells(found), style="bold")
        for tag, by_metric in compared.categories.items():
            table.add_row(escape(f"  {tag}"), *_cells(by_metric[metric]))
    console = Console()
    console.print(table)
    console.print(f"A: {compared.first}\nB: {compared.second}", markup=False)
    for metric, found in compared.metrics.items():
        if found.num_groups < found.n:
            console.print(
                f"{metric}: {found.n} items of {found.num_groups} groups; interval and p value "
                "take each group as a whole"
            )
        if found.detectable is not None:
            console.print(
                f"{metric}: {found.n} independent items would show a difference of "
                f"{found.detectable:.1f} points (power 0.8)"
            )


def _cells(found: "Difference") -> list[str]:
    interval = "" if found.interval is None else " [{:+.1f}, {:+.1f}]".format(*found.interval)
    return [
        f"{found.first:.2f}",
        f"{found.second:.2f}",
        f"{found.difference:+.2f}{interval}",
        str(found.first_only),
        str(found.second_only),
        "n/a" if found.p_value is None else f"{found.p_value:.2g}",
        "" if found.adjusted_p_value is None else f"{found.adjusted_p_value:.2g}",
        str(found.n),
    ]
