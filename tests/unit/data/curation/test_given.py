"""What a model gave is kept block by block, whatever cuts its file."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from genvlm.data.curation import given
from genvlm.data.images import RGBImage

IDS = [str(number) for number in range(7)]


def pictures(places: Sequence[int]) -> Iterator[tuple[str, RGBImage]]:
    return ((IDS[place], np.full((1, 1, 3), place, np.uint8)) for place in places)


def scores_of(path: Path) -> tuple[list[float], list[str]]:
    """Scores, and the captions that the model was asked for."""
    asked: list[str] = []

    def compute(images: Sequence[RGBImage], captions: Sequence[str]) -> list[float]:
        asked.extend(captions)
        return [float(image.mean()) for image in images]

    return given.compute_values(path, IDS, pictures, compute, lambda done, total: None), asked


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "BLOCK", 2)


@pytest.mark.parametrize(
    ("cut", "asked"),
    [
        (lambda content: content, ""),
        (lambda content: content[:-1], "6"),
        (lambda content: content[: content.index(b"\n") + 9], "23456"),
        (lambda content: content[:60] + bytes(len(content) - 60), "23456"),
        (lambda content: bytes(len(content)), "0123456"),
        (lambda content: content.replace(b"2.0, ", b""), "23456"),
    ],
)  # fmt: skip
def test_values_behind_a_cut_are_asked_for_again(
    cut: Callable[[bytes], bytes], asked: str, tmp_path: Path
) -> None:
    path = tmp_path / "scores/a.jsonl"
    values, _ = scores_of(path)
    whole = path.read_bytes()
    path.write_bytes(cut(whole))
    assert scores_of(path) == (values, list(asked))
    assert path.read_bytes() == whole
