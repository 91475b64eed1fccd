"""The next batches are made while a step computes."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class _Made(NamedTuple):
    value: object
    error: BaseException | None


@contextlib.contextmanager
def prefetch(
    make: Callable[[int], T], steps: Iterable[int], *, ahead: int = 2
) -> Iterator[Iterator[T]]:
    """`make(step)` for each step in order, made by a thread that is at most `ahead` steps ahead.

    What `make` raises is raised where its value is asked for, behind all earlier values. However
    the context is left, the thread ends with the value that it is making.
    """
    made: queue.Queue[_Made] = queue.Queue(maxsize=ahead)
    left = threading.Event()

    def work() -> None:
        for step in steps:
            try:
                one = _Made(make(step), None)
            except BaseException as error:  # raised again below
                one = _Made(None, error)
            made.put(one)
            if left.is_set() or one.error is not None:
                return

    def values() -> Iterator[T]:
        for _ in steps:
            value, error = made.get()
            if error is not None:
                raise error
            yield value  # type: ignore[misc]

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        yield values()
    finally:
        left.set()
        while thread.is_alive():
            with contextlib.suppress(queue.Empty):
                made.get_nowait()  # it may wait for room
            thread.join(0.01)
