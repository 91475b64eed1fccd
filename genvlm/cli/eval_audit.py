"""`genvlm eval list` and `genvlm eval audit`: what there is, and what it gives away."""

import argparse
import json
from pathlib import Path

from genvlm.cli.eval_table import print_controls
from genvlm.cli.parsing import Subparsers, add_command
from genvlm.errors import ConfigError


def add_parsers(actions: Subparsers) -> None:
    """Declare the actions."""
    parser = add_command(
        actions,
        "list",
        show_list,
        summary="Every benchmark: rule, metrics, chance, parts, licence, what must be fetched.",
        example="genvlm eval list --json",
    )
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser = add_command(
        actions,
        "audit",
        audit,
        summary="What length, format, word statistics, order and priors reach on a benchmark "
        "without any picture.",
        example="genvlm eval audit sugarcrepe",
    )
    parser.add_argument("benchmark", help="NAME or NAME/PART of a benchmark made of files")
    parser.add_argument("--data", type=Path, help="folder laid out as eval/data; default: shipped")
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")


def show_list(arguments: argparse.Namespace) -> int:
    """Print every benchmark."""
    from dataclasses import asdict

    from genvlm.evaluation.cards import card_names, load_card
    from genvlm.evaluation.catalog import FILE_BENCHMARKS
    from genvlm.studies.evaluations import DEMO_BENCHMARKS

    rows = []
    for name in (*(n for n in DEMO_BENCHMARKS if not n.startswith("scenes-")), *FILE_BENCHMARKS):
        parts = FILE_BENCHMARKS[name].parts if name in FILE_BENCHMARKS else ()
        run_as = [f"{name}/{part}" for part in parts] or [name]
        # A benchmark may have a card for each way of asking, or for each part.
        cards = [c for c in card_names() if c == name or c.startswith(f"{name}-")]
        for card in (load_card(c) for c in cards if c == name or c not in FILE_BENCHMARKS):
            rows.append({**asdict(card), "run_as": run_as})
    if arguments.json:
        print(json.dumps(rows))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("card", "run as", "rule", "metrics (chance)", "to run a model")
    for row in rows:
        metrics = ", ".join(
            metric + (f" ({row['chance'][metric]:.4g})" if metric in row["chance"] else "")
            for metric in row["metrics"]
        )
        table.add_row(
            row["name"], " ".join(row["run_as"]), row["rule"], metrics, row["fetch"] or "-"
        )
    Console().print(table)
    return 0


def audit(arguments: argparse.Namespace) -> int:
    """Print what each control gets, and a warning for each that is above chance."""
    from genvlm.evaluation.catalog import FILE_BENCHMARKS, shipped_data
    from genvlm.evaluation.catalog import audit as audit_files
    from genvlm.evaluation.data_folder import DataFolder
    from genvlm.evaluation.summary import summarize

    if arguments.benchmark.partition("/")[0] not in FILE_BENCHMARKS:
        raise ConfigError(
            f"{arguments.benchmark!r} is not made of files; its controls stand beside every result "
            f"of genvlm eval run. Choose one of {', '.join(FILE_BENCHMARKS)}"
        )
    data = shipped_data() if arguments.data is None else DataFolder(arguments.data)
    benchmark, records = audit_files(arguments.benchmark, data)
    summary = summarize(records, benchmark.card)
    if arguments.json:
        print(json.dumps(summary.to_json()))
        return 0
    title = f"{summary.benchmark} ({summary.version}), percent, no picture seen"
    print_controls(title, summary.controls.scores, benchmark.card.chance)
    for flag in summary.flags:
        if "control" in flag:
            print(f"note: {flag}")
    return 0
