"""What several commands share: a parser with an example, and a progress bar."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Subparsers = Any
"""argparse keeps the class of `add_subparsers()` private."""


def add_command(
    commands: Subparsers,
    name: str,
    run: Callable[[argparse.Namespace], int | None],
    *,
    summary: str,
    example: str,
) -> argparse.ArgumentParser:
    """A subcommand whose --help ends in an example."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def seed(text: str) -> int:
    """An argparse type: a whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no seed: give a whole number from 0 on")
    return int(text)


def positive(text: str) -> int:
    """An argparse type: a whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Declare --device; results of the same seed are the same on the CPU alone."""
    parser.add_argument(
        "--device", default="cpu", help="where the model computes: cpu (default), cuda, cuda:1"
    )


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error; call it with (done, total), total None while it is not known.

    Silent when not a terminal.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
