"""`genvlm train` of a video tokenizer, from its configuration to codes that a model shares."""

import re
from pathlib import Path

import numpy as np
import pytest

from genvlm.cli.main import main
from genvlm.studies import video_tokenizers
from genvlm.testing.tiny import tiny_image_tokenizer
from genvlm.tokenization.video import load_video_tokenizer
from genvlm.training.run_folder import read_log

YAML = """kind: video_vq
initial: {image}
encoder_width: 8
encoder_blocks: 1
decoder_width: 8
decoder_blocks: 1
sources:
  - {{kind: physics, num: 2, num_frames: 9}}
  - {{kind: moving_emoji, num: 2}}
num_frames: 5
num_steps: 22
batch_size: 2
warmup_steps: 2
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(video_tokenizers, "_NUM_CLIPS", 1)
    tiny_image_tokenizer().save(tmp_path / "image")
    path = tmp_path / "recipe.yaml"
    path.write_text(YAML.format(image=tmp_path / "image"))
    return path


def test_a_recipe_becomes_a_tokenizer_that_shares_the_ids_of_pictures(
    recipe: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr("genvlm.cli.parsing.SECONDS_A_LINE", 0.0)
    assert main(["train", str(recipe), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out / "tokenizer")
    assert "drawing the clips" in said.err
    assert re.search(r"training the video tokenizer: step 22/22  loss \d+\.\d{4}\n", said.err)
    assert "measuring held-out clips: 4 of 5\nmeasuring held-out clips: 5\n" in said.err
    *_, record = read_log(out / "log.jsonl")
    assert [r["step"] for r in read_log(out / "log.jsonl")] == [20, 22]
    assert {"loss", "psnr", "grad_norm", "codes_in_batch", "step", "seconds"} == record.keys()
    video, image = load_video_tokenizer(out / "tokenizer"), tiny_image_tokenizer()
    # Stored as float16, and yet the codebook is the image tokenizer's to the last bit.
    assert video.codebook_fingerprint == image.codebook_fingerprint
    frame = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    np.testing.assert_array_equal(video.encode([frame])[0], image.encode([frame[0]]))
    names = {p.name for p in (out / "tokenizer").iterdir()}
    assert {"README.md", "metrics.json", "recipe.yaml", "reconstructions.png"} < names
    assert main(["train", str(recipe), "--out", str(out)]) == 2
    assert "holds a run already" in capsys.readouterr().err
    measured = (out / "tokenizer/metrics.json").stat().st_mtime_ns
    assert main(["train", str(recipe), "--out", str(out), "--resume"]) == 0
    said = capsys.readouterr()
    assert "resumed at step 22" in said.err
    assert "tokenizer is whole: nothing to do" in said.err
    assert said.out.strip() == str(out / "tokenizer")
    assert (out / "tokenizer/metrics.json").stat().st_mtime_ns == measured
    assert main(["report", str(out)]) == 2
    assert "trained a tokenizer" in capsys.readouterr().err


def test_mistakes_of_a_recipe_are_one_sentence(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for override, sentence in (
        (["--num-frames", "6"], "num_frames is 6: with frames_per_latent 4 it must be 5, 9, 13"),
        (["--num-frames", "13"], "sources.0 has clips of 9 frames, and num_frames is 13"),
        (["--initial", str(tmp_path)], "is no image tokenizer: it lacks image.yaml"),
    ):
        assert main(["train", str(recipe), "--out", str(tmp_path / "run"), *override]) == 2
        said = capsys.readouterr().err
        assert sentence in said
        assert "Traceback" not in said
    assert not (tmp_path / "run/checkpoints").exists()
