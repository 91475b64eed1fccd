"""`genvlm eval run`: a benchmark with its controls, from a model folder to a log and a summary."""

import argparse
import json
import sys
from pathlib import Path

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command, positive, progress_bar


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "eval",
        run,
        summary="Run a benchmark beside its controls: scenes (-rich: three icons and counts; "
        "-fluent: icons of the unseen vendor), emoji-pairs, emoji-classes.",
        example="genvlm eval run scenes --model runs/demo/model --out runs/demo/eval/scenes",
    )
    parser.add_argument("action", choices=("run",))
    parser.add_argument(
        "benchmark",
        help="scenes, scenes-fluent, scenes-rich, scenes-rich-fluent, emoji-pairs or emoji-classes",
    )
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for items and summary")
    parser.add_argument(
        "--direction",
        choices=("image_given_text", "text_given_image"),
        help="default: emoji-classes by log p(image | text), the others by log p(text | image)",
    )
    parser.add_argument(
        "--alpha", type=float, default=0.0,
        help="subtract alpha times the unconditional log-probability (1: PMI)",
    )  # fmt: skip
    parser.add_argument("--limit", type=positive, help="items per set; a smaller, other version")
    parser.add_argument("--json", action="store_true", help="print the summary and nothing else")


def run(arguments: argparse.Namespace) -> int:
    """Run and print a table; exit code 2 when the coverage is not complete."""
    from genvlm.models.pretrained import load_pretrained
    from genvlm.studies.evaluations import check_benchmark, evaluate, save_evaluation

    check_output_folder(arguments.out)
    check_benchmark(arguments.benchmark)
    pretrained = load_pretrained(arguments.model)
    with progress_bar(arguments.benchmark) as bar:
        evaluation = evaluate(
            arguments.benchmark,
            pretrained,
            direction=arguments.direction,
            alpha=arguments.alpha,
            limit=arguments.limit,
            progress=bar,
        )
    save_evaluation(evaluation, arguments.out)
    summary = evaluation.summary.to_json()
    if arguments.json:
        print(json.dumps(summary))
    else:
        _print_table(summary)
        print(f"log and summary in {arguments.out}", file=sys.stderr)
    return 0 if summary["status"] == "complete" else 2


def _print_table(summary: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(summary["metrics"])
    table = Table("percent", *names, title=f"{summary['benchmark']} ({summary['version']})")

    def cell(metric: dict) -> str:
        if metric["value"] is None:
            return "n/a"
        text = f"{metric['value']:.1f}"
        if metric["interval"]:
            text += " [{:.1f}, {:.1f}]".format(*metric["interval"])
        return text

    table.add_row("model", *(cell(summary["metrics"][n]) for n in names), style="bold")
    for category, metrics in summary["categories"].items():
        table.add_row(f"  {category}", *(cell(metrics[n]) for n in names))
    for control, scores in summary["controls"]["scores"].items():
        table.add_row(f"control: {control}", *(cell(scores["metrics"][n]) for n in names))
    console = Console()
    console.print(table)
    for flag in summary["flags"]:
        console.print(f"note: {flag}")
