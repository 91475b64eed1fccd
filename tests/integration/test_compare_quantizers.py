"""`scripts/compare_quantizers` at tiny size."""

import json
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
import torch

from genvlm.testing.tiny import tiny_image_tokenizer

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/compare_quantizers"
YAML = """kind: video_vq
initial: {image}
encoder_width: 8
encoder_blocks: 1
decoder_width: 8
decoder_blocks: 1
sources: [{{kind: moving_emoji, num: 2}}]
num_frames: 5
num_steps: 4000
batch_size: 2
"""


@pytest.fixture
def script() -> ModuleType:
    loader = SourceFileLoader("compare_quantizers", str(SCRIPT))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_three_quantizers_are_trained_and_measured(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_image_tokenizer(codebook_size=8192).save(tmp_path / "image")
    (tmp_path / "recipe.yaml").write_text(YAML.format(image=tmp_path / "image"))
    command = ["x", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path), "--num-steps", "2"]
    command += ["--num-clips", "1"]
    monkeypatch.setattr(sys, "argv", command)
    with torch.random.fork_rng(devices=[]):
        script.main()
    found = json.loads((tmp_path / "quantizers.json").read_text())
    assert found["config"]["num_steps"] == 2
    assert found["variants"]["fsq"]["metrics"]["physics"]["clips"] == 1
    decibels = {
        name: variant["metrics"]["physics"]["psnr_db"]
        for name, variant in found["variants"].items()
    }
    assert list(decibels) == ["shared", "own", "fsq"]
    assert len(set(decibels.values())) == 3
    rows = (tmp_path / "quantizers.md").read_text().splitlines()
    assert len({row.count("|") for row in rows}) == 1
    assert len(rows) == 5


def test_an_image_tokenizer_of_fewer_codes_is_refused(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_image_tokenizer().save(tmp_path / "image")
    (tmp_path / "recipe.yaml").write_text(YAML.format(image=tmp_path / "image"))
    command = ["x", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match="has 16 codes, and FSQ here 8192"):
        script.main()
    assert not (tmp_path / "out").exists()
