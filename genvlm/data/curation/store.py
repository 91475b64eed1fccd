"""Measures of all documents, made by several processes and kept in files, a chunk each.

A chunk is written whole, so that a kill loses the chunks in the making and nothing else. Which
documents are in a chunk depends on the sources alone.
"""

import json
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from genvlm.data.curation.measures import Measures, from_json, measure
from genvlm.data.raw import Media
from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError
from genvlm.nn.whole_files import write_whole

CHUNK = 128
"""Documents that a process measures at a time, and that a kill loses."""
Pair = tuple[str, str, Media]
"""Id, caption, picture."""
Progress = Callable[[int, int | None], None]
"""Told (done, total); total None: not known yet."""


def measure_all(
    pairs: Iterable[Pair],
    folder: Path,
    num_workers: int,
    progress: Progress,
    skips: SkipBudget,
) -> list[Measures]:
    """Measures of all pairs, in their order; those that `folder` holds already are not made again.

    Args:
        num_workers: processes; 1 measures in this one.
        skips: counts the pictures that cannot be decoded, and the others.

    Raises:
        DataError: `folder` holds measures of other documents, a file is gone, a process died, or
            `skips` had enough.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measured: list[Measures] = []
    with ExitStack() as stack:
        submit = _submitter(num_workers, stack)
        # At most this many chunks of undecoded pictures are in memory.
        waiting: deque[tuple[Path, Sequence[Pair], Callable[[], list[dict[str, Any]]] | None]] = (
            deque()
        )

        def collect() -> None:
            for measures in _collect(*waiting.popleft()):
                if measures.picture is None:
                    skips.skip(measures.id, measures.error)
                else:
                    skips.keep()
                measured.append(measures)
            progress(len(measured), None)

        for number, batch in enumerate(_chunks(pairs, CHUNK)):
            path = folder / f"{number:06d}.jsonl"
            waiting.append((path, batch, None if path.is_file() else submit(batch)))
            if len(waiting) > 2 * num_workers:
                collect()
        while waiting:
            collect()
    return measured


def _chunks(pairs: Iterable[Pair], size: int) -> Iterator[Sequence[Pair]]:
    iterator = iter(pairs)
    while batch := list(islice(iterator, size)):
        yield batch


def _submitter(
    num_workers: int, stack: ExitStack
) -> Callable[[Sequence[Pair]], Callable[[], list[dict[str, Any]]]]:
    """What begins to measure a chunk, and gives what waits for the result."""
    if num_workers == 1:
        return lambda batch: lambda: measure(batch)
    # spawn: a fork would copy the threads' locks of libraries that are loaded by now.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(num_workers, context, initializer=_end_with_parent)
    stack.callback(pool.shutdown, wait=True, cancel_futures=True)

    def submit(batch: Sequence[Pair]) -> Callable[[], list[dict[str, Any]]]:
        future: Future[list[dict[str, Any]]] = pool.submit(measure, batch)
        return future.result

    return submit


def _collect(
    path: Path, batch: Sequence[Pair], result: Callable[[], list[dict[str, Any]]] | None
) -> list[Measures]:
    if result is None:
        return _stored(path, batch)
    try:
        rows = result()
    except BrokenProcessPool:
        raise DataError(
            f"a process died while it measured the documents {batch[0][0]!r} to {batch[-1][0]!r} "
            "(was it out of memory, or killed?): resume, perhaps with fewer workers"
        ) from None
    write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return [from_json(row) for row in rows]


def _stored(path: Path, batch: Sequence[Pair]) -> list[Measures]:
    try:
        rows = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1]]
        measured = [from_json(row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): delete it, it is made again") from None
    if [(m.id, m.caption) for m in measured] != [(i, caption) for i, caption, _ in batch]:
        raise DataError(
            f"{path} holds measures of other documents: the sources have changed since; curate "
            "into another folder"
        )
    return measured


def _end_with_parent() -> None:
    """End this worker when the process that started it was killed, which closes no queue."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def wait() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=wait, daemon=True).start()
