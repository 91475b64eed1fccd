"""The progress bar of training: loss by term, speed, time left, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from genvlm.training import steps

_RATE = "_per_second"


@contextmanager
def training_progress() -> Iterator[steps.Progress]:
    """Callbacks that draw."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"), BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[shown]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        encoding = bar.add_task("encoding pictures", total=1, shown="", visible=False)
        training = bar.add_task("training", total=1, shown="", visible=False)

        def encode(done: int, total: int) -> None:
            bar.update(encoding, completed=done, total=total, visible=done < total)

        def step(record: dict[str, float], num_steps: int) -> None:
            losses = " ".join(
                f"{name.removeprefix('loss_')} {value:.3f}"
                for name, value in record.items()
                if name.startswith("loss_")
            )
            (rate,) = (name for name in record if name.endswith(_RATE))
            shown = f"loss: {losses}  {record[rate]:.0f} {rate.removesuffix(_RATE)}/s"
            bar.update(
                training, completed=record["step"], total=num_steps, shown=shown, visible=True
            )

        yield steps.Progress(encode=encode, step=step, say=lambda m: console.print(m))
