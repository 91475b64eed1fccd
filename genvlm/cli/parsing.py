"""What several commands share: a parser with an example, and a progress bar."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SECONDS_A_LINE = 30.0
"""Between two lines of progress where there is no terminal."""
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

    Without a terminal it is a line now and then, and nothing at all of what is soon done.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield progress_lines(description)
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def progress_lines(description: str) -> Callable[[int, int | None], None]:
    """Prints (done, total) on standard error when half a minute has passed since it last did."""
    last = time.monotonic()

    def show(done: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last < SECONDS_A_LINE:
            return
        last = time.monotonic()
        # Of files, totals are not known before they are read: the same number then says nothing.
        of = f" of {total:,}" if total is not None and total > done else ""
        print(f"{description}: {done:,}{of}", file=sys.stderr, flush=True)

    return show
