"""Shards of kept pairs: on the disk before they count as finished, and checked before they do."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from genvlm.data.curation.tar_writer import KeptPair, ShardWriter
from genvlm.errors import StorageError
from genvlm.nn.file_system import FileSystem
from genvlm.nn.whole_files import hash_file
from genvlm.testing.faults.simulated_disk import SURVIVORS, HastyDisk, SimulatedDisk
from genvlm.testing.files import picture_bytes

PAIRS = [
    KeptPair(record={"id": str(n), "caption": f"cow {n}"}, content=picture_bytes(n))
    for n in range(3)
]


class PowerLost(BaseException):
    """The machine stops here."""


def write(folder: Path, disk: FileSystem) -> list[int]:
    """Write what the folder wants of `PAIRS`, two a shard; the places that it wanted."""
    writer = ShardWriter(folder, [pair.record for pair in PAIRS], 2, disk=disk)
    wanted = [place for place in range(len(PAIRS)) if writer.wants(place)]
    writer.write((place, PAIRS[place]) for place in wanted)
    assert [row["pairs"] for row in writer.summary()] == [2, 1]
    for row in writer.summary():
        assert row["sha256"] == hash_file(folder / row["path"])
        assert row["bytes"] == (folder / row["path"]).stat().st_size
    return wanted


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "shards"
    assert write(folder, HastyDisk()) == [0, 1, 2]
    return folder


def test_power_may_be_lost_at_every_operation(whole: Path, tmp_path: Path) -> None:
    moments = 0
    while True:
        live = tmp_path / f"live-{moments}"
        live.mkdir()
        disk = SimulatedDisk(live, before=stopping(moments))
        try:
            write(live / "shards", disk)
        except PowerLost:
            for survivors in SURVIVORS[:2]:  # the others leave more
                left = tmp_path / f"left-{moments}-{survivors}"
                disk.leave(left, survivors, random.Random(moments))
                write(left / "shards", HastyDisk())
                assert files_of(left / "shards") == files_of(whole), (moments, survivors)
            moments += 1
            continue
        assert moments > 12
        return


def stopping(moments: int) -> Callable[[], None]:
    told = iter(range(moments))

    def before() -> None:
        if next(told, None) is None:
            raise PowerLost

    return before


@pytest.mark.parametrize("damage", [b"", b"another"])
def test_a_finished_shard_that_is_another_file_now_is_written_again(
    damage: bytes, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    write(folder, HastyDisk())
    (folder / "00001.tar").write_bytes(damage)
    assert write(folder, HastyDisk()) == [2]
    assert files_of(folder) == files_of(whole)
    (folder / "plan.json").write_bytes(damage)
    assert write(folder, HastyDisk()) == [0, 1, 2]
    assert files_of(folder) == files_of(whole)


def test_a_full_disk_is_told_and_what_was_finished_stays(whole: Path, tmp_path: Path) -> None:
    disk = SimulatedDisk(tmp_path)
    disk.space = 1500
    with pytest.raises(StorageError, match="make room there"):
        write(tmp_path / "shards", disk)
    assert write(tmp_path / "shards", HastyDisk()) == [2]
    assert files_of(tmp_path / "shards") == files_of(whole)
