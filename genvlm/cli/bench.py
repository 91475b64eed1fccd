"""`genvlm bench NAME`: speed and memory beside other libraries, with equal answers."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command, positive

if TYPE_CHECKING:
    from genvlm.studies.bench.report import Result

_BENCHES = {
    "decode": "Greedy text, token by token, batch 1 and 8, against transformers' Chameleon.",
    "score-text": "log p(text | image) of 100 captions of one picture, against transformers.",
    "score-image": "log p(image | text) of one picture under 100 classes, against transformers.",
    "score-matrix": "100 pictures against 100 captions in both directions, by a model of yours.",
    "loss": "Linear head and cross-entropy in pieces, against plain logits: memory and time.",
    "train": "Optimizer steps, against transformers' Chameleon.",
    "vq": "Nearest code of 16,384, against taming-transformers.",
    "loader": "How long a training step waits for its batch.",
    "video": "Reading and tokenising clips, against decord and frame by frame: time and memory.",
}


def add_parser(commands: Subparsers) -> None:
    """Declare the command and its benchmarks."""
    summary = "Measure speed and memory beside other libraries; docs/bench.md says how."
    parser = commands.add_parser("bench", help=summary, description=summary)
    benches = parser.add_subparsers(title="benchmarks", metavar="NAME", required=True)
    for name, described in _BENCHES.items():
        _add_bench(benches, name, described)


def _add_bench(benches: Subparsers, name: str, summary: str) -> None:
    needs_model = name == "score-matrix"
    given = " --model runs/demo/model" if needs_model else ""
    parser = add_command(
        benches, name, run, summary=summary, example=f"genvlm bench {name}{given} --out runs/bench"
    )
    if needs_model:
        parser.add_argument("--model", type=Path, required=True, help="model folder of genvlm")
    parser.set_defaults(bench=name)
    parser.add_argument("--repetitions", type=positive, default=9, help="at least 9")
    parser.add_argument(
        "--threads", type=positive, default=os.cpu_count() or 1, help="of torch; default: all"
    )
    parser.add_argument("--quick", action="store_true", help="seconds: shows the table, no result")
    parser.add_argument("--out", type=Path, help="folder for JSON, table and pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print the table, write files."""
    from genvlm.studies.bench.report import save_result
    from genvlm.studies.bench.timing import Settings

    if arguments.out is not None:
        check_output_folder(arguments.out)
    settings = Settings(
        repetitions=arguments.repetitions,
        threads=arguments.threads,
        quick=arguments.quick,
        say=lambda stage: print(f"genvlm bench {arguments.bench}: {stage}", file=sys.stderr),
    )
    result = _measure(arguments, settings)
    if arguments.out is not None:
        save_result(result, arguments.out)
    if arguments.json:
        print(json.dumps(result.to_json()))
    else:
        _print_table(result)
    return 0


def _measure(arguments: argparse.Namespace, settings: Any) -> "Result":
    from genvlm.studies.bench import (
        decode,
        loader,
        loss,
        score_image,
        score_matrix,
        score_text,
        train,
        video,
        vq,
    )  # fmt: skip

    if arguments.bench == "score-matrix":
        return score_matrix.run(settings, arguments.model)
    measures = {
        "decode": decode.run,
        "score-text": score_text.run,
        "score-image": score_image.run,
        "loss": loss.run,
        "train": train.run,
        "vq": vq.run,
        "loader": loader.run,
        "video": video.run,
    }
    return measures[arguments.bench](settings)


def _print_table(result: "Result") -> None:
    from rich.console import Console
    from rich.table import Table

    from genvlm.studies.bench.report import COLUMNS, cells, notes

    quick = ", quick: no result" if result.settings.quick else ""
    table = Table(*COLUMNS, title=f"bench {result.bench}{quick}")
    for row in result.rows:
        table.add_row(*cells(row))
    console = Console()
    if result.rows:
        console.print(table)
    console.print(f"shape: {result.shape}", style="dim")
    for note in notes(result):
        console.print(note, markup=False, highlight=False)
