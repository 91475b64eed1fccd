"""`genvlm surprise` and `genvlm eval run` on clips: what a user types, on a tiny model."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genvlm.cli.main import main
from genvlm.evaluation.records import read_records
from genvlm.models.pretrained import save_pretrained
from genvlm.testing.tiny import tiny_pretrained


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "model"
    save_pretrained(tiny_pretrained(resolution=8, video=True), folder, "tiny")
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[str, str]:
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def write_gif(path: Path, num_frames: int) -> Path:
    rng = np.random.default_rng(num_frames)
    frames = rng.integers(0, 256, (num_frames, 8, 8, 3), np.uint8)
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=100)
    return path


def test_videos_that_cannot_be_measured_are_named_and_the_others_go_on(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [write_gif(tmp_path / f"{n}.gif", n) for n in (13, 15)]
    short, empty = write_gif(tmp_path / "short.gif", 11), tmp_path / "empty.mp4"
    empty.write_bytes(b"")
    asked = ["surprise", "--model", model, "--videos", *good, short, empty, tmp_path / "no.mp4"]
    out, err = run(capsys, *asked, "--out", tmp_path / "out", "--json", code=2)
    found = json.loads(out)
    assert [video["num_frames"] for video in found["videos"]] == [13, 13]
    assert found["videos"][1]["left_out"] == "2 frames at its end do not fit the tokenizer"
    assert "regions" not in found["videos"][0]["latent_frames"][3]
    assert found["failed"].keys() == {str(short), str(empty), str(tmp_path / "no.mp4")}
    assert "3 of 5 left out" in err
    assert "has 11 frames, and a context of 9 needs 13" in err
    lines = (tmp_path / "out/surprise.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert np.shape(records[0]["latent_frames"][3]["regions"]) == (2, 2)
    assert "15.gif" in (tmp_path / "out/report.html").read_text()
    out, _ = run(capsys, "surprise", "--model", model, "--videos", good[0], "--context", "5")
    assert "frames 9-12:" in out
    _, err = run(capsys, "surprise", "--model", model, "--videos", empty, code=2)
    assert "none of 1 videos could be measured" in err
    _, err = run(
        capsys, "surprise", "--model", model, "--videos", good[0], "--context", "6", code=2
    )
    assert "6 frames do not fit" in err


def test_of_many_videos_the_first_ones_are_shown_and_all_are_named(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("genvlm.studies.surprise.MAX_SHOWN", 1)
    videos = [write_gif(tmp_path / f"{n}.gif", n) for n in (13, 17)]
    run(capsys, "surprise", "--model", model, "--videos", *videos, "--out", tmp_path / "out")
    page = (tmp_path / "out/report.html").read_text()
    assert page.count('class="block films"') == 1
    assert "13.gif" in page
    assert "17.gif" in page
    assert len((tmp_path / "out/surprise.jsonl").read_text().splitlines()) == 2


def test_physics_is_run_beside_its_controls_and_rebuilt_from_its_log(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["eval", "run", "physics", "--model", model, "--limit", "1", "--out", tmp_path]
    out, _ = run(capsys, *asked, "--json")
    found = json.loads(out)
    assert found["version"] == "1+quadruplets=1"
    assert found["coverage"]["answered"] == 4
    controls = found["controls"]["scores"]
    assert controls.keys() == {
        "random", "constant", "frame difference", "single frame", "shuffled frames", "untrained",
    }  # fmt: skip
    for name in ("constant", "frame difference", "single frame"):
        assert controls[name]["metrics"]["quadruplet"]["value"] == 50
    for name in ("frame difference", "single frame"):
        assert controls[name]["metrics"]["pair"]["half"] == 50
    records = read_records(tmp_path / "items.jsonl").records
    np.testing.assert_allclose(
        [np.sum(r.latents, 1) for r in records], [np.ravel(r.scores) for r in records], rtol=1e-6
    )
    again, _ = run(capsys, "eval", "rescore", tmp_path / "items.jsonl", "--json")
    assert json.loads(again) == found
    page = (tmp_path / "report.html").read_text()
    assert page.count('class="block films"') == 4
    assert "surprise in nats a latent frame" in page
    log = tmp_path / "items.jsonl"
    out, _ = run(capsys, "eval", "diff", log, log, "--json")
    assert json.loads(out)["metrics"]["pair"]["difference"] == 0


def test_folders_of_intphys_are_run_and_a_damaged_set_makes_the_result_incomplete(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for number in (1, 2):
        for scene in (1, 2, 3, 4):
            folder = tmp_path / f"dev/O2/{number:04d}/{scene}"
            (folder / "scene").mkdir(parents=True)
            said = {"header": {"is_possible": scene in (2, 3)}}
            (folder / "status.json").write_text(json.dumps(said))
            for t, frame in enumerate(rng.integers(0, 256, (33, 8, 8, 3), np.uint8), 1):
                Image.fromarray(frame).save(folder / f"scene/scene_{t:03d}.png")
    (tmp_path / "dev/O2/0001/3/scene/scene_005.png").write_bytes(b"\x89PNG")
    out = tmp_path / "out"
    asked = ["eval", "run", "intphys", "--model", model, "--data", tmp_path / "dev", "--out", out]
    shown, _ = run(capsys, *asked, "--json", code=2)
    found = json.loads(shown)
    assert found["coverage"] == {
        "expected": 2, "answered": 1, "refused": 0, "unparseable": 0, "failed": 1,
    }  # fmt: skip
    assert "O2/0001" in found["flags"][0]
    assert "scene_005.png" in found["flags"][0]
    assert list(found["metrics"]) == ["auc", "quadruplet"]
    assert found["categories"].keys() == {"block: O2"}
    assert "block: O2" in (out / "report.html").read_text()
    shown, _ = run(capsys, *asked, "--json", "--limit", "1", "--allow-partial")
    assert json.loads(shown)["version"] == "1+limit=1"


def test_what_benchmarks_of_clips_do_not_take_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["eval", "run", "physics", "--model", model, "--out", tmp_path / "out"]
    for option in (["--method", "cosine"], ["--alpha", "1"], ["--copies", "2"], ["--data", "x"]):
        _, err = run(capsys, *asked, *option, code=2)
        assert f"physics takes no {option[0]}" in err
    _, err = run(capsys, "eval", "run", "physics", "--model", model, code=2)
    assert "needs --model FOLDER and --out FOLDER" in err
    _, err = run(
        capsys, "eval", "run", "intphys", "--model", model, "--out", tmp_path / "out", code=2
    )
    assert "give --data FOLDER" in err
    still = tmp_path / "still"
    save_pretrained(tiny_pretrained(resolution=8), still, "no video")
    asked = ["eval", "run", "physics", "--limit", "1", "--model", still, "--out", tmp_path / "out"]
    _, err = run(capsys, *asked, code=2)
    assert "no video tokenizer" in err


def test_the_example_that_encodes_a_video_says_one_sentence_of_a_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = Path(__file__).resolve().parents[2] / "examples/encode_a_video.py"
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "text.mp4").write_bytes(b"text")
    monkeypatch.chdir(tmp_path)
    for argument, sentence in (
        (videos, r"^encode_a_video: .*text\.mp4 is not a video"),
        (videos / "text.mp4", r"^encode_a_video: no folder at .*text\.mp4: check the path"),
    ):
        monkeypatch.setattr(sys, "argv", ["x", str(argument)])
        with pytest.raises(SystemExit, match=sentence):
            runpy.run_path(str(example), run_name="__main__")
    monkeypatch.setattr(sys, "argv", ["x"])
    runpy.run_path(str(example), run_name="__main__")
    assert (tmp_path / "runs/clip.gif").is_file()
