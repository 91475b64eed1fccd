"""Ctrl-C and SIGTERM end a run between two steps, after a checkpoint; a second one at once.

Outside of the steps (starting up, encoding pictures, writing the model) there is nothing to finish
first: there SIGTERM raises `Terminated`, as Ctrl-C raises KeyboardInterrupt.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from genvlm.errors import GenvlmError, TrainingError

Handler = Callable[[int, FrameType | None], object]
_ours = set[int]()
"""Signals that are caught now: a child that is forked must die of SIGTERM as any other."""


class StoppedError(TrainingError):
    """The run was told to stop; a checkpoint holds what it had done."""

    def __init__(
        self, step: int | None, signal_number: int, how: str = "go on with --resume"
    ) -> None:
        self.step, self.signal_number = step, signal_number
        name = signal.Signals(signal_number).name
        super().__init__(
            f"stopped by {name} before anything was to be saved: start it again"
            if step is None
            else f"stopped at step {step} by {name}; {how}"
        )
        self.exit_code = 128 + signal_number


class Terminated(BaseException):
    """SIGTERM where no step is to be finished; what catches errors must not swallow it."""

    exit_code = 128 + signal.SIGTERM


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises Terminated inside."""
    received = list[int]()

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise Terminated

    with _caught(end, signal.SIGTERM):
        try:
            yield
        except GenvlmError:
            raise
        except Exception as error:
            if not received:
                raise
            # Compiled code, such as pydantic's, makes errors of its own of what a handler raised.
            raise Terminated from error


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the loop stops between two steps."""
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        if received:
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        received.append(number)

    with _caught(remember, signal.SIGINT, signal.SIGTERM):
        yield received


@contextmanager
def _caught(handler: Handler, *numbers: int) -> Iterator[None]:
    """Not in the main thread, whoever runs us there handles signals."""
    previous = {}
    try:
        for number in numbers:
            previous[number] = signal.signal(number, handler)
    except ValueError:
        yield
        return
    _ours.update(numbers)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
            if before in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler):
                _ours.discard(number)


def _as_others() -> None:
    if signal.SIGTERM in _ours:
        _ours.discard(signal.SIGTERM)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_as_others)
