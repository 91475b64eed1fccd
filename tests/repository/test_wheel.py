"""An installed wheel has what a checkout has: code, configurations, benchmarks, tokenizers."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    result = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, cwd=ROOT)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed and nothing of the checkout."""
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", target, wheel, cwd=target)
    return target


def shipped_files() -> set[str]:
    """Where each data file of the checkout must lie in the wheel."""
    folders = {
        "configs": "genvlm/assets/configs",
        "eval/benchmarks": "genvlm/assets/eval/benchmarks",
        "tokenizers": "genvlm/assets/tokenizers",
        "genvlm/data/emoji_pack": "genvlm/data/emoji_pack",
        "genvlm/data/gloss_pack": "genvlm/data/gloss_pack",
    }
    return {
        f"{inside}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, inside in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }


def test_the_wheel_holds_every_shipped_file_and_the_licences(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert shipped_files() - names == set()
    for folder in ("configs", "eval/benchmarks", "tokenizers"):
        assert any(name.startswith(f"genvlm/assets/{folder}/") for name in names), folder
    for name in ("LICENSE", "NOTICE"):
        assert any(n.endswith(f".dist-info/licenses/{name}") for n in names), name
    assert not any(name.startswith("tests/") for name in names)


def test_the_installed_command_shows_its_help(site: Path) -> None:
    out = run(sys.executable, "-m", "genvlm.cli.main", "--help", cwd=site, PYTHONPATH=str(site))
    assert "genvlm" in out


def test_the_installed_command_trains_and_scores(site: Path, tmp_path: Path) -> None:
    def command(*arguments: str) -> str:
        return run(
            sys.executable, "-m", "genvlm.cli.main", *arguments, cwd=tmp_path, PYTHONPATH=str(site)
        )

    command("train", "configs/debug/tiny.yaml", "--out", "run", "--num-steps", "2")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    (tmp_path / "pairs.jsonl").write_text('{"id": "1", "image": "red.png", "text": "red circle"}')
    command("score", "--model", "run/model", "--pairs", "pairs.jsonl", "--out", "scores.jsonl")
    row = json.loads((tmp_path / "scores.jsonl").read_text())
    assert row["log_p_image_given_text"] < 0
    assert row["tokens_image_given_text"] == 64


def test_the_installed_package_finds_its_assets_and_the_emoji_pack(site: Path) -> None:
    program = """
from pathlib import Path
from genvlm.config.assets import asset_path
from genvlm.data.emoji import load_drawings
for relative in ("configs", "eval/benchmarks/scenes.yaml", "tokenizers"):
    print(asset_path(relative).resolve())
assert asset_path("eval/benchmarks/scenes.yaml").read_text("utf-8")
assert load_drawings("noto").shape == (1594, 64, 64, 3)
"""
    out = run(sys.executable, "-c", program, cwd=site, PYTHONPATH=str(site))
    assets = site.resolve() / "genvlm" / "assets"
    assert all(Path(line).is_relative_to(assets) for line in out.split())
    assert len(out.split()) == 3
