"""Child processes that are forked, so that a command starts in milliseconds and can be killed."""

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from genvlm.cli.main import main


@dataclass(frozen=True)
class Ended:
    """How a child ended."""

    code: int
    """As of `subprocess`: the negative number of a signal that ended it."""
    said: str
    """What it wrote to standard output and standard error."""


def run_command(arguments: Sequence[str]) -> Callable[[], int]:
    """`genvlm ARGUMENTS`, to be run in a child."""

    def run() -> int:
        return main(arguments)

    return run


class Child:
    """A forked copy of this process that does one thing.

    Args:
        output: file for what it says.
    """

    def __init__(self, run: Callable[[], int | None], output: Path) -> None:
        self._output, self._ended = output, None
        output.touch()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_run_in_child(run, output))

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, if it has not ended yet."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float = 120) -> Ended:
        """Its end; one that hangs is killed and fails. Raises TimeoutError."""
        until = time.monotonic() + timeout
        pause = 0.001
        while time.monotonic() < until:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return Ended(code, self._output.read_text(errors="replace"))
            time.sleep(pause)
            pause = min(0.05, pause * 1.2)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise TimeoutError(f"hung for {timeout:.0f} s: {self._output.read_text()[-300:]}")


def _run_in_child(run: Callable[[], int | None], output: Path) -> int:
    """Whatever happens, the child must not go on as a copy of its parent."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        descriptor = os.open(output, os.O_WRONLY | os.O_APPEND)
        for number in (1, 2):
            os.dup2(descriptor, number)
        # Captured or redirected ones of the parent must not be written to.
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        return run() or 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        return 70
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
