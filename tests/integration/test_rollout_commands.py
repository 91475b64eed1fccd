"""Videos on the command line: rolled out, drawn behind a text, told of; what cannot be done."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from genvlm.cli.main import main
from genvlm.data.images import save_image
from genvlm.models.pretrained import save_pretrained
from genvlm.testing.tiny import tiny_pretrained
from genvlm.testing.videos import video_bytes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 2x2 codes a frame, one of 64x64 frames, one without video, a video, a picture."""
    folder = tmp_path_factory.mktemp("videos")
    save_pretrained(tiny_pretrained(resolution=8, context_length=60, video=True), folder / "m", "")
    save_pretrained(tiny_pretrained(resolution=8), folder / "without", "")
    (folder / "clip.mp4").write_bytes(video_bytes(num_frames=11))
    save_image(np.full((9, 9, 3), 200, np.uint8), folder / "picture.png")
    return folder


def num_frames(path: Path) -> int:
    with Image.open(path) as image:
        return len(list(ImageSequence.Iterator(image)))


def test_a_video_is_continued_reported_and_shown(folder: Path, tmp_path: Path, capsys) -> None:
    command = ["rollout", "--model", str(folder / "m"), "--video", str(folder / "clip.mp4")]
    command += ["--context", "5", "--frames", "8", "--num", "2", "--text", "a red square"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.read_text().count('class="film"') == 4
    assert "8 frames in 2 latent frames. The truth ends after 6 of them" in page.read_text()
    assert "dB over 6 frames" in page.read_text()
    names = ("truth", "reconstruction", "sample-0", "sample-1")
    clips = {f"{name}.{suffix}" for name in names for suffix in ("gif", "mp4")}
    assert {p.name for p in page.parent.iterdir()} == clips | {"index.html", "rollout.json"}
    assert all(num_frames(page.parent / f"{name}.gif") == 13 for name in names)
    found = json.loads((tmp_path / "a/rollout.json").read_text())
    assert (found["text"], found["frames_per_second"]) == ("a red square", 10)
    assert [len(sample["nll_per_code"]) for sample in found["samples"]] == [2, 2]
    assert [len(sample["psnr"]) for sample in found["samples"]] == [6, 6]
    assert found["truth"]["num_frames"] == 6


def test_a_picture_is_the_first_frame_of_what_follows(folder: Path, tmp_path: Path) -> None:
    command = ["rollout", "--model", str(folder / "m"), "--image", str(folder / "picture.png")]
    assert main([*command, "--frames", "4", "--num", "1", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "rollout.json").read_text())
    assert (found["num_context"], found["truth"]) == (1, None)
    assert num_frames(tmp_path / "sample-0.gif") == 5
    assert (tmp_path / "index.html").read_text().count('class="film"') == 1
    assert not (tmp_path / "truth.gif").exists()


def test_a_second_rollout_leaves_nothing_of_the_first(folder: Path, tmp_path: Path) -> None:
    command = ["rollout", "--model", str(folder / "m"), "--image", str(folder / "picture.png")]
    command += ["--frames", "4", "--out", str(tmp_path)]
    assert main([*command, "--num", "3"]) == 0
    for name in ("sample-7.gif", "mine.gif"):
        (tmp_path / name).write_bytes(b"of the user")
    assert main([*command, "--num", "1"]) == 0
    clips = {p.name for p in tmp_path.glob("*.gif")}
    assert clips == {"sample-0.gif", "sample-7.gif", "mine.gif"}
    assert {p.name for p in tmp_path.glob("sample-*.mp4")} == {"sample-0.mp4"}


def test_a_second_generation_leaves_nothing_of_the_first(folder: Path, tmp_path: Path) -> None:
    command = ["generate", "--model", str(folder / "m"), "--prompt", "red", "--video-frames", "5"]
    command += ["--out", str(tmp_path)]
    assert main([*command, "--num", "3"]) == 0
    (tmp_path / "0007-1.gif").write_bytes(b"of the user")
    assert main([*command, "--num", "1"]) == 0
    assert {p.name for p in tmp_path.glob("*.gif")} == {"0000-1.gif", "0007-1.gif"}


def test_a_video_behind_a_text_can_be_a_prompt_again(folder: Path, tmp_path: Path, capsys) -> None:
    command = ["generate", "--model", str(folder / "m"), "--prompt", "a red square", "--num", "2"]
    command += ["--video-frames", "5", "--temperature", "2"]
    assert main([*command, "--out", str(tmp_path / "a")]) == 0
    lines = [json.loads(x) for x in (tmp_path / "a/documents.jsonl").read_text().splitlines()]
    for line in lines:
        assert [list(s) for s in line["segments"]] == [["text"], ["video"]]
        assert num_frames(tmp_path / "a" / line["segments"][1]["video"]) == 5
    assert "data:image/gif" in (tmp_path / "a/index.html").read_text()
    prompt = {"id": "p", "segments": [lines[0]["segments"][1]]}
    (tmp_path / "a/prompt.jsonl").write_text(json.dumps(prompt))
    told = ["generate", "--model", str(folder / "m"), "--num", "1", "--stream", "--document"]
    assert main([*told, str(tmp_path / "a/prompt.jsonl"), "--out", str(tmp_path / "b")]) == 0
    (again,) = (tmp_path / "b/documents.jsonl").read_text().splitlines()
    assert list(json.loads(again)["segments"][0]) == ["video"]


MODEL, VIDEO = ["--model", "{folder}/m"], ["--video", "{folder}/clip.mp4"]
REFUSED = {
    "holds the input": ["rollout", *MODEL, "--video", "{tmp}/out"],
    "10 frames do not fit": ["rollout", *MODEL, *VIDEO, "--context", "10"],
    "ask for 48 or 52": ["rollout", *MODEL, *VIDEO, "--frames", "50"],
    "11 frames, fewer than the 13": ["rollout", *MODEL, *VIDEO, "--context", "13"],
    "no video tokenizer": ["rollout", "--model", "{folder}/without", *VIDEO],
    "a picture is one frame": [
        "rollout", *MODEL, "--image", "{folder}/picture.png", "--context", "5",
    ],
    "cannot be read": ["rollout", *MODEL, "--video", "{folder}/gone.mp4"],
    "is not a video": ["rollout", *MODEL, "--video", "{folder}/m/config.yaml"],
    "is of one video": ["rollout", *MODEL, "--physics", "3", "--text", "red"],
    "64x64": ["rollout", *MODEL, "--physics", "3"],
    "lead towards a text": ["rollout", *MODEL, *VIDEO, "--guidance-scale", "2"],
    "give a --text, or --captions": [
        "rollout", *MODEL, "--physics", "3", "--contrastive-top-k", "2",
    ],
    "--fps is of videos with times": ["rollout", *MODEL, "--video", "{folder}", "--fps", "5"],
    "name a file in it, such as clip.mp4": [
        "rollout", *MODEL, "--video", "{tmp}/videos", "--fps", "5",
    ],
    "it holds tokenizers (image, text, video) and no model": [
        "rollout", "--model", "{folder}/m/tokenizers", *VIDEO,
    ],
    "--fps 0": ["rollout", *MODEL, *VIDEO, "--fps", "0"],
    "give it 5 or 9": ["generate", *MODEL, "--prompt", "red", "--video-frames", "7"],
    "does not fit into 60: ask for 49 frames, or fewer": [
        "generate", *MODEL, "--prompt", "red", "--video-frames", "65",
    ],
    "more than the 53 frames": ["generate", *MODEL, "--document", "{tmp}/long.jsonl"],
    "is more than the 53 that": ["generate", *MODEL, "--document", "{tmp}/many.jsonl"],
    'write "frames": 9': ["generate", *MODEL, "--document", "{tmp}/odd.jsonl"],
    "'video' is missing": ["generate", *MODEL, "--document", "{tmp}/number.jsonl"],
}  # fmt: skip


@pytest.mark.parametrize("said", REFUSED)
def test_what_cannot_be_done_is_one_sentence(said: str, folder: Path, tmp_path, capsys) -> None:
    (tmp_path / "long.mp4").write_bytes(video_bytes(num_frames=54, width=16, height=16))
    (tmp_path / "odd.mp4").write_bytes(video_bytes(num_frames=11, width=16, height=16))
    for name, video in (("long", "long.mp4"), ("odd", "odd.mp4"), ("number", 3)):
        segments: list[dict] = [{"video": video}]
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": "a", "segments": segments}))
    many = {"id": "a", "segments": [{"video": "odd.mp4", "frames": 10**9}]}
    (tmp_path / "many.jsonl").write_text(json.dumps(many))
    if said == "holds the input":
        (tmp_path / "out").mkdir()
        save_image(np.zeros((9, 9, 3), np.uint8), tmp_path / "out" / "0.png")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").write_bytes(b"")
    command = [w.format(folder=folder, tmp=tmp_path) for w in REFUSED[said]]
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out/index.html").exists()
    assert said == "holds the input" or not (tmp_path / "out").exists()
