"""Folders laid out as IntPhys: truth by either key, frames at even distances, damage named."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from genvlm.data.images import save_image
from genvlm.errors import DataError
from genvlm.evaluation.benchmarks.intphys import NUM_FRAMES, build_intphys, is_possible
from genvlm.evaluation.summary import summarize
from genvlm.evaluation.video_benchmark import VideoBenchmark, run_video_benchmark
from genvlm.scoring.protocols import ClipSet, Plausibility, ScorerInfo

NUM_OF_SCENE = 65


def write_set(folder: Path, possible: tuple[int, int], *, first_release: bool = False) -> None:
    """Scene k is of grey 10 k, and its frame t has t in a corner."""
    for scene in range(1, 5):
        where = folder / str(scene)
        (where / "scene").mkdir(parents=True)
        truth = scene in possible
        status = {"possible": truth} if first_release else {"header": {"is_possible": truth}}
        (where / "status.json").write_text(json.dumps(status))
        for t in range(NUM_OF_SCENE):
            frame = np.full((4, 4, 3), 10 * scene, np.uint8)
            frame[0, 0] = t
            save_image(frame, where / f"scene/scene_{t + 1:03d}.png")


class Grey:
    """Darker is more plausible."""

    info = ScorerInfo(name="grey", unit="arbitrary")

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        return [Plausibility(np.array([-float(c[0, 1, 1, 0]) for c in s.clips])) for s in sets]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dev")
    write_set(root / "O1/0001", (1, 2))
    write_set(root / "O1/0002", (3, 4), first_release=True)
    write_set(root / "O3/0001", (1, 3))
    return root


def test_sets_of_all_blocks_are_found_with_their_truth(dev: Path) -> None:
    benchmark = build_intphys(dev)
    assert [item.id for item in benchmark.items] == ["O1/0001", "O1/0002", "O3/0001"]
    records = run_video_benchmark(benchmark, Grey(), {})
    assert [r.scores for r in records] == [
        ((-10, -30), (-20, -40)),
        ((-30, -10), (-40, -20)),
        ((-10, -20), (-30, -40)),
    ]
    result = summarize(records, benchmark.card)
    assert list(result.metrics) == ["auc", "quadruplet"]
    assert result.categories["block: O1"]["quadruplet"].value == 50
    assert result.categories["block: O3"]["quadruplet"].value == 100


def test_frames_are_taken_at_even_distances_from_the_first_to_the_last(dev: Path) -> None:
    ((possible, _), _) = build_intphys(dev).items[0].load()
    assert possible.shape == (NUM_FRAMES, 4, 4, 3)
    assert possible[:, 0, 0, 0].tolist() == list(range(0, NUM_OF_SCENE, 2))


@pytest.mark.parametrize(("at", "ids"), [("O1", ["0001", "0002"]), ("O1/0001", ["0001"])])
def test_a_block_and_a_single_set_can_be_named_too(dev: Path, at: str, ids: list[str]) -> None:
    assert [item.id for item in build_intphys(dev / at).items] == ids


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"header": {"is_possible": True}}, True),
        ({"possible": 0}, False),
        ({"possible": True, "header": {"max_depth": 12.5}}, True),
    ],
)
def test_truth_is_found_by_either_key(tmp_path: Path, said: object, expected: bool) -> None:
    (tmp_path / "status.json").write_text(json.dumps(said))
    assert is_possible(tmp_path / "status.json") is expected


def test_a_set_named_by_a_dot_has_the_names_of_its_folders(
    dev: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dev / "O1/0001")
    (item,) = build_intphys(Path()).items
    assert (item.id, item.tags) == ("0001", ("block: O1",))


def broken(dev: Path, tmp_path: Path, change: str) -> VideoBenchmark:
    write_set(tmp_path / "O1/0001", (1, 2))
    folder = tmp_path / "O1/0001/2"
    match change:
        case "untrue":
            (folder / "status.json").write_text('{"header": {}}')
        case "no json":
            (folder / "status.json").write_text("{")
        case "three":
            (folder / "status.json").write_text('{"header": {"is_possible": false}}')
        case "missing":
            (folder / "status.json").unlink()
        case "few":
            for path in sorted((folder / "scene").iterdir())[32:]:
                path.unlink()
        case "damaged":
            (folder / "scene/scene_001.png").write_bytes(b"\x89PNG\r\n")
        case "sizes":
            save_image(np.zeros((5, 4, 3), np.uint8), folder / "scene/scene_001.png")
    return build_intphys(tmp_path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("untrue", r"status\.json does not say.*use the dev set"),
        ("no json", r"status\.json is no JSON"),
        ("three", "1 possible scenes of 4"),
        ("missing", r"no file .*2/status\.json"),
        ("few", "32 frames are too few to sample 33"),
        ("damaged", r"scene_001\.png is"),
        ("sizes", "frames of different sizes"),
    ],
)
def test_what_is_wrong_with_a_set_is_said_when_it_is_read(
    dev: Path, tmp_path: Path, change: str, why: str
) -> None:
    (item,) = broken(dev, tmp_path, change).items
    with pytest.raises(DataError, match=why):
        item.load()


def test_folders_that_hold_no_set_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no set of scenes.*fetch the dev set"):
        build_intphys(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        build_intphys(tmp_path / "none")
