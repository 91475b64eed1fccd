"""Two processes agree on what they resume, or none of them trains."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from genvlm.errors import CheckpointError
from genvlm.training import run_checkpoints
from genvlm.training.checkpoint import list_checkpoints, newest_valid
from genvlm.training.engine import Engine
from genvlm.training.run_checkpoints import RunCheckpoints

INPUTS = {"text tokenizer": "t", "corpus": "c"}


class Meeting:
    """Where threads that stand in for processes wait for each other; one that is missing fails."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=20)
        self.told = [0, 0]


class OneOfTwo:
    """What `RunCheckpoints` asks of an engine."""

    num_processes = 2

    def __init__(self, meeting: Meeting, rank: int) -> None:
        self.meeting, self.rank, self.is_main = meeting, rank, rank == 0
        self.loaded: list[str] = []

    def numbers(self, number: int) -> list[int]:
        self.meeting.told[self.rank] = number
        self.wait()
        told = list(self.meeting.told)
        self.wait()
        return told

    def wait(self) -> None:
        self.meeting.barrier.wait()

    def check_finite(self, step: int) -> None:
        pass

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"part-{self.rank}").write_text("a part")

    def load(self, folder: Path) -> None:
        assert (folder / f"part-{self.rank}").read_text() == "a part"
        self.loaded.append(folder.name)


def together(
    act: Callable[[RunCheckpoints, int], Any], *roots: Path
) -> tuple[list[Any], list[OneOfTwo]]:
    """What `act` returns or raises in each of two processes."""
    meeting = Meeting()
    engines = [OneOfTwo(meeting, rank) for rank in range(2)]

    def one(rank: int) -> Any:
        try:
            return act(RunCheckpoints(roots[rank], cast(Engine, engines[rank]), None), rank)
        except CheckpointError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, range(2))), engines


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Checkpoints of two processes at steps 1 and 2."""
    folder = tmp_path / "run" / "checkpoints"
    folder.parent.mkdir()

    def save(checkpoints: RunCheckpoints, _: int) -> None:
        for step in (1, 2):
            checkpoints.save(step)

    assert together(save, folder, folder)[0] == [None, None]
    assert [p.name for p in list_checkpoints(folder)] == ["step-00000001", "step-00000002"]
    return folder


def test_one_process_verifies_and_all_load_what_it_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "step-00000002" / "part-1").write_text("damaged")
    verifying, said = [], [list[str](), list[str]()]

    def verify(folder: Path, warn: Callable[[str], None]) -> Path | None:
        verifying.append(threading.get_ident())
        return newest_valid(folder, warn)

    def resume(checkpoints: RunCheckpoints, rank: int) -> int:
        checkpoints.agree(INPUTS)
        return checkpoints.resume(9, said[rank].append)

    monkeypatch.setattr(run_checkpoints, "newest_valid", verify)
    starts, engines = together(resume, root, root)
    assert starts == [1, 1]
    assert [e.loaded for e in engines] == [["step-00000001"]] * 2
    assert len(verifying) == 1
    assert ["step-00000002" in said[0][0], said[0][1], said[1]] == [True, "resumed at step 1", []]
    assert not list(root.glob(".*"))


def test_an_empty_folder_begins_at_step_0_in_all(tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    starts, engines = together(lambda c, _: (c.agree(INPUTS), c.resume(9, str))[1], root, root)
    assert starts == [0, 0]
    assert [e.loaded for e in engines] == [[], []]


def test_without_a_valid_checkpoint_no_process_begins_again(root: Path) -> None:
    for folder in list_checkpoints(root):
        (folder / "part-0").unlink()
    (first, second), _ = together(lambda c, _: c.resume(9, str), root, root)
    assert "none of the 2 checkpoints" in first
    assert "process 0 found no valid checkpoint in" in second


@pytest.mark.parametrize("there", [True, False])
def test_a_process_that_sees_another_folder_is_named_by_all(
    root: Path, tmp_path: Path, there: bool
) -> None:
    """As on two machines that have an --out of one name each."""
    other = tmp_path / "other" / "checkpoints"
    if there:
        other.mkdir(parents=True)
    told, _ = together(lambda c, _: c.agree(INPUTS), root, other)
    for sentence in told:
        assert "process 0 does not see what process 1 writes into" in sentence
        assert "an --out on a disk that they share" in sentence
    assert not list(root.glob(".*"))


def test_a_process_that_trains_with_something_else_is_named_by_all(root: Path) -> None:
    def agree(checkpoints: RunCheckpoints, rank: int) -> None:
        checkpoints.agree(INPUTS | {"corpus": f"of {rank}"})

    told, _ = together(agree, root, root)
    assert told == ["process 1 has another corpus than process 0: give both the same files"] * 2
