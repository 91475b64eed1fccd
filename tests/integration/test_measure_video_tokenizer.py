"""`scripts/measure_video_tokenizer` on a folder with a damaged video."""

import json
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest

from genvlm.testing.tiny import tiny_image_tokenizer, tiny_video_tokenizer
from genvlm.testing.videos import timed_video_bytes

pytest.importorskip("av")
SCRIPT = Path(__file__).resolve().parents[2] / "scripts/measure_video_tokenizer"


@pytest.fixture
def script() -> ModuleType:
    loader = SourceFileLoader("measure_video_tokenizer", str(SCRIPT))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_damaged_videos_are_left_out_counted_and_named_where_they_are_allowed(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_image_tokenizer().save(tmp_path / "image")
    tiny_video_tokenizer().save(tmp_path / "video")
    videos, out = tmp_path / "videos", tmp_path / "measured"
    videos.mkdir()
    (videos / "mine.gif").write_bytes(timed_video_bytes("gif", range(0, 800, 40)))
    (videos / "text.mp4").write_bytes(b"text")
    command = ["x", str(videos), "--out", str(out), "--frames", "9"]
    command += ["--video", str(tmp_path / "video"), "--image", str(tmp_path / "image")]
    monkeypatch.setattr(sys, "argv", command)
    assert script.main() == 2
    said = capsys.readouterr().err
    assert "text.mp4 is not a video" in said
    assert "or give --max-bad-share" in said
    assert not out.exists()
    monkeypatch.setattr(sys, "argv", [*command, "--max-bad-share", "0.4"])
    assert script.main() == 0
    said = capsys.readouterr()
    assert "left out 1 of 3 samples as damaged" in said.err
    assert said.out.startswith("2 clips of 9 frames")
    skipped = json.loads((out / "skipped.json").read_text())
    assert (skipped["num_good"], skipped["num_skipped"]) == (2, 1)
    assert skipped["examples"][0]["id"] == "text.mp4"
    assert json.loads((out / "metrics.json").read_text())["video tokenizer"]["clips"] == 2
    monkeypatch.setattr(sys, "argv", [*command, "--max-bad-share", "2"])
    with pytest.raises(SystemExit):
        script.main()
    assert "'2' is no share: give a number from 0 to 1" in capsys.readouterr().err
