"""`genvlm eval list` and `genvlm eval audit`: what there is, and what it gives away."""

import argparse
import json
import shutil
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

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
    """Print every benchmark: a line for each thing to know, which a pipe does not cut."""
    rows = _list_rows()
    if arguments.json:
        print(json.dumps(rows))
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in rows:
        metrics = ", ".join(
            metric + (f" ({row['chance'][metric]:.4g})" if metric in row["chance"] else "")
            for metric in row["metrics"]
        )
        print(_wrapped(" ".join(row["run_as"]), "", width))
        for what, said in (
            ("asked in words", "--method answers, or answers as --predictions"),
            ("card", row["name"]),
            ("rule", row["rule"]),
            ("metrics (chance)", metrics),
            ("licence", row["licence"]),
            ("to run a model", row["fetch"]),
        ):
            if said and (row["by_answers"] or what != "asked in words"):
                print(_wrapped(f"{what}: {said}", "  ", width))
    return 0


def _wrapped(text: str, indent: str, width: int | None) -> str:
    """No name and no address is cut; without a width, one line."""
    if width is None:
        return indent + text
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=indent + "  ",
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _list_rows() -> list[dict[str, Any]]:
    """A row for each card, with the names under which `genvlm eval run` takes it."""
    from genvlm.evaluation.cards import card_names, load_card
    from genvlm.evaluation.catalog import FILE_BENCHMARKS
    from genvlm.studies.evaluations import CLASSES, PAIRS, SCENE_SETS, VALIDATION
    from genvlm.studies.video_evaluations import VIDEO_BENCHMARKS

    own = {"scenes": list(SCENE_SETS), PAIRS: [PAIRS], CLASSES: [CLASSES, VALIDATION]}
    own |= {name: [name] for name in VIDEO_BENCHMARKS}
    names: list[tuple[str, list[str], bool]] = [
        (card, run_as, False) for card, run_as in own.items()
    ]
    for name, source in FILE_BENCHMARKS.items():
        # A benchmark may have a card for some of its parts, or for another way of asking.
        of_parts = {
            card: [p for p in source.parts if f"-{p}".endswith(card.removeprefix(name))]
            for card in card_names()
            if card.startswith(f"{name}-") and card not in FILE_BENCHMARKS
        }
        others = [p for p in source.parts if not any(p in parts for parts in of_parts.values())]
        whole = [*([] if source.needs_part else [name]), *(f"{name}/{part}" for part in others)]
        if name in card_names():
            names.append((name, whole, False))
        for card, parts in of_parts.items():
            names.append((card, [f"{name}/{part}" for part in parts] or whole, not parts))
    return [
        {**asdict(load_card(card)), "run_as": run_as, "by_answers": by_answers}
        for card, run_as, by_answers in names
    ]


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
    title = f"{summary.benchmark} ({summary.version}), no picture seen"
    print_controls(title, summary.controls.scores, benchmark.card.chance)
    for flag in summary.flags:
        if "control" in flag:
            print(f"note: {flag}")
    return 0
