import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parents[3] / "eval/data"


@pytest.fixture(scope="session")
def released() -> Callable[[str], str]:
    """The text of a released file of predictions or answers under eval/data, by its path there."""

    def read(name: str) -> str:
        return gzip.decompress((DATA / f"{name}.gz").read_bytes()).decode("utf-8")

    return read
