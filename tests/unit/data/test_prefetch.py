"""Batches made ahead: the same ones in the same order, and errors where their batch is."""

import threading

import pytest

from genvlm.data.prefetch import prefetch
from genvlm.errors import DataError


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "prefetch"]


def test_values_come_in_order_and_each_once() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return step * step

    with prefetch(make, range(3, 40), ahead=3) as values:
        assert list(values) == [s * s for s in range(3, 40)]
    assert made == list(range(3, 40))
    assert _threads() == []


def test_no_more_are_made_than_are_allowed_ahead() -> None:
    made: list[int] = []
    enough = threading.Event()

    def make(step: int) -> int:
        made.append(step)
        if len(made) >= 4:
            enough.set()
        return step

    with prefetch(make, range(1000), ahead=2) as values:
        for taken in range(1, 50):
            assert next(values) == taken - 1
            assert enough.wait(10)
            # One is in hand while those ahead of it wait.
            assert len(made) <= taken + 3
        assert len(made) < 60


def test_they_are_made_while_the_caller_works() -> None:
    """A caller who waits for the second value to be made before asking for it gets it."""
    second = threading.Event()

    def make(step: int) -> int:
        if step == 1:
            second.set()
        return step

    with prefetch(make, range(5)) as values:
        next(values)
        assert second.wait(10)
        assert next(values) == 1


def test_an_error_is_raised_behind_the_values_before_it() -> None:
    def make(step: int) -> int:
        if step == 3:
            raise DataError("shard 7 is gone")
        return step

    got = []
    with pytest.raises(DataError, match="shard 7 is gone"), prefetch(make, range(9)) as values:
        got.extend(values)
    with prefetch(make, range(9)) as values:
        assert [next(values) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(DataError):
            next(values)
    assert _threads() == []


@pytest.mark.parametrize("num_taken", [0, 1, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_leaving_early_ends_the_thread(num_taken: int, error: type[BaseException]) -> None:
    def leave() -> None:
        with prefetch(lambda step: step, range(10**9)) as values:
            for _ in range(num_taken):
                next(values)
            raise error

    with pytest.raises(error):
        leave()
    assert _threads() == []
