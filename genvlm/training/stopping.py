"""Ctrl-C and SIGTERM end a run between two steps, after a checkpoint; a second one at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from genvlm.errors import TrainingError


class StoppedError(TrainingError):
    """The run was told to stop; a checkpoint holds what it had done."""

    def __init__(self, step: int, signal_number: int) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped at step {step} by {name}; go on with --resume")
        self.exit_code = 128 + signal_number


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the loop stops between two steps."""
    received: list[int] = []

    def remember(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {s: signal.signal(s, remember) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever runs us there handles signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
