"""`genvlm report`: the HTML page of a run folder, while it runs or afterwards."""

import argparse
from pathlib import Path

from genvlm.cli.parsing import Subparsers, add_command


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "report",
        run,
        summary="Write one HTML page about a run: curves, pictures, stories, tables.",
        example="genvlm report runs/demo",
    )
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder")


def run(arguments: argparse.Namespace) -> int:
    """Write the page and print its path."""
    from genvlm.studies.run_report import build_report

    print(build_report(arguments.run_folder))
    return 0
