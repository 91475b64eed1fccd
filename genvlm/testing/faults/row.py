"""A row of the table of faults: how often something was broken, and when it was not survived."""

import random
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """What came of one kind of fault."""

    name: str
    count: int
    """Faults that were really made."""
    failures: tuple[str, ...]
    """One sentence for each that was not survived."""
    seconds: float
    note: str = ""
    """What is worth knowing beside the count; why it was skipped, where `count` is 0."""


Progress = Callable[[int, int], None]
"""Told how many faults were made, and how many there will be."""
Trial = Callable[[int, random.Random, Path], str | None]
"""Makes fault number so and so in an empty folder. Returns what it saw, for the note; raises when
it was not survived."""


def silent(_done: int, _total: int) -> None:
    """No progress."""


def run_trials(
    name: str,
    count: int,
    seed: int,
    folder: Path,
    trial: Trial,
    *,
    progress: Progress = silent,
) -> Row:
    """Make `count` faults, each in a folder of its own that goes when it was survived."""
    begin, failures, seen = time.monotonic(), list[str](), dict[str, int]()
    for number in range(count):
        own = folder / f"{number:05d}"
        own.mkdir(parents=True)
        try:
            outcome = trial(number, random.Random(f"{seed}-{name}-{number}"), own)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            told = " ".join(str(error).split())[:300]
            failures.append(
                f"{number}: {type(error).__name__}: {told} ({Path(where.filename).name}:"
                f"{where.lineno}); left in {own}"
            )
        else:
            shutil.rmtree(own)
            if outcome is not None:
                seen[outcome] = seen.get(outcome, 0) + 1
        progress(number + 1, count)
    note = ", ".join(f"{times} {outcome}" for outcome, times in sorted(seen.items()))
    return Row(name, count, tuple(failures), time.monotonic() - begin, note)


def demand(holds: object, otherwise: str) -> None:
    """Raise AssertionError: `assert` would go with `python -O`."""
    if not holds:
        raise AssertionError(otherwise)


def none_damaged(message: str) -> None:
    """What `newest_valid` tells where nothing may be damaged. Raises AssertionError."""
    raise AssertionError(f"a checkpoint is damaged: {message}")
