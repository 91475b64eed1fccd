"""The progress of training on standard error: a bar, or without a terminal a line a log record."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from genvlm.cli.parsing import SECONDS_A_LINE, progress_bar, progress_lines
from genvlm.training import steps

_RATE = "_per_second"
_ENCODING = "encoding pictures and clips"


@contextmanager
def training_progress() -> Iterator[steps.Progress]:
    """Callbacks that draw, or print where there is no terminal."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield steps.Progress(encode=progress_lines(_ENCODING), step=_print_step, say=_print)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[shown]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        encoding = bar.add_task(_ENCODING, total=1, shown="", visible=False)
        training = bar.add_task("training", total=1, shown="", visible=False)

        def encode(done: int, total: int) -> None:
            bar.update(encoding, completed=done, total=total, visible=done < total)

        def step(record: dict[str, float], num_steps: int) -> None:
            shown = _losses_and_speed(record)
            bar.update(
                training, completed=record["step"], total=num_steps, shown=shown, visible=True
            )

        yield steps.Progress(encode=encode, step=step, say=lambda m: console.print(m))


@contextmanager
def tokenizer_progress(
    description: str, num_steps: int
) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A callback (step, terms): a bar, or without a terminal a line now and then and of the last.

    Call it with what training logs, of which `loss` is shown.
    """
    if Console(stderr=True).is_terminal:
        with progress_bar(description) as bar:
            yield lambda step, terms: bar(step, num_steps)
        return
    last = time.monotonic()

    def show(step: int, terms: dict[str, float]) -> None:
        nonlocal last
        if step < num_steps and time.monotonic() - last < SECONDS_A_LINE:
            return
        last = time.monotonic()
        _print(f"{description}: step {step:,}/{num_steps:,}  loss {terms['loss']:.4f}")

    yield show


def _losses_and_speed(record: dict[str, float]) -> str:
    losses = " ".join(
        f"{name.removeprefix('loss_')} {value:.3f}"
        for name, value in record.items()
        if name.startswith("loss_")
    )
    (rate,) = (name for name in record if name.endswith(_RATE))
    return f"loss: {losses}  {record[rate]:.0f} {rate.removesuffix(_RATE)}/s"


def _print_step(record: dict[str, float], num_steps: int) -> None:
    _print(f"step {record['step']:.0f}/{num_steps}  {_losses_and_speed(record)}")


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
