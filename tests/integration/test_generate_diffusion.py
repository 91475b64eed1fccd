"""`genvlm generate` with folders of diffusion models, ours and Stable Diffusion's, at tiny size."""

import json
from pathlib import Path

import numpy as np
import pytest

from genvlm.cli.main import main
from genvlm.data.images import load_image
from genvlm.generation.diffusion import SamplerSettings, sample_images
from genvlm.models.diffusion.folder import save_diffusion
from genvlm.models.diffusion.open import open_diffusion
from genvlm.models.pretrained import save_pretrained
from genvlm.testing.tiny import tiny_pretrained
from genvlm.testing.tiny_diffusion import tiny_diffusion, tiny_diffusion_config
from genvlm.testing.tiny_stable_diffusion import write_tiny_stable_diffusion

PROMPT = "red square"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    for name, prediction in (("ours", "v_prediction"), ("flow", "flow")):
        model = tiny_diffusion(prediction=prediction)
        save_diffusion(model, tiny_diffusion_config(prediction=prediction), root / name, "card")
    plain = tiny_diffusion(condition_dropout=0.0)
    save_diffusion(plain, tiny_diffusion_config(), root / "plain", "card")
    write_tiny_stable_diffusion(root / "sd")
    save_pretrained(tiny_pretrained(), root / "tokens", "card")
    return {path.name: path for path in root.iterdir()}


def generate(model: Path, out: Path, *options: str) -> int:
    command = ["generate", "--model", str(model), "--prompt", PROMPT, "--out", str(out)]
    return main([*command, *options])


@pytest.mark.parametrize(
    ("name", "sampler"),
    [("ours", None), ("ours", "euler"), ("flow", None), ("sd", None), ("sd", "dpm-solver++")],
)
def test_pictures_of_a_prompt_are_written_like_documents(
    name: str, sampler: str | None, folders: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = ["--num", "2", "--seed", "3", "--num-steps", "3", "--guidance-scale", "1.5"]
    options += ["--sampler", sampler] if sampler else []
    assert generate(folders[name], tmp_path / "a", *options) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == tmp_path / "a" / "index.html"
    assert "data:image" in page.read_text()
    rows = [json.loads(x) for x in (tmp_path / "a" / "documents.jsonl").read_text().splitlines()]
    assert [row["segments"] for row in rows] == [
        [{"text": PROMPT}, {"image": f"000{number}-1.png"}] for number in range(2)
    ]
    settings = SamplerSettings(sampler=sampler, num_steps=3, guidance_scale=1.5)  # type: ignore[arg-type]
    expected = sample_images(open_diffusion(folders[name]), [PROMPT] * 2, settings, seed=3)
    for number, picture in enumerate(expected):
        found = load_image(tmp_path / "a" / f"000{number}-1.png")
        assert np.array_equal(found, picture)
    assert not np.array_equal(*expected)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ours", ["--temperature", "0.9"], "--temperature is of models that draw tokens"),
        ("ours", ["--top-k", "5"], "--top-k is of models that draw tokens"),
        ("ours", ["--text-top-p", "0.5"], "--text-top-p is of models"),
        ("ours", ["--stream"], "--stream is of models"),
        ("ours", ["--max-tokens", "9"], "--max-tokens is of models"),
        ("ours", ["--retrieve", "."], "--retrieve is of models"),
        ("sd", ["--bfloat16-cache"], "--bfloat16-cache is of models"),
        ("sd", ["--sampler", "flow-euler"], "is no flow, use ddim"),
        ("flow", ["--sampler", "ddim"], "is a flow, use flow-euler"),
        ("ours", ["--num-steps", "1001"], "has 1000 levels"),
        ("ours", ["--device", "nonsense"], "no computing on device 'nonsense'"),
        ("tokens", ["--sampler", "ddim"], "--sampler is of diffusion models"),
        ("tokens", ["--num-steps", "5"], "--num-steps is of diffusion models"),
        ("tokens", ["--device", "nonsense"], "no computing on device 'nonsense'"),
        ("sd", ["--device", "cuda:99"], "no computing on device 'cuda:99'"),
        ("nowhere", ["--sampler", "ddim"], "no model folder at nowhere"),
    ],
)
def test_options_of_the_other_kind_of_model_are_refused(
    name: str, options: list[str], said: str, folders: dict[str, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert generate(folders.get(name, Path(name)), tmp_path / "out", *options) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_documents_are_of_models_that_draw_tokens(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.jsonl").write_text('{"id": "a", "segments": [{"text": "red"}]}\n')
    command = ["generate", "--model", str(folders["ours"]), "--out", str(tmp_path / "out")]
    assert main([*command, "--document", str(tmp_path / "d.jsonl")]) == 2
    assert "--document is of models that draw tokens" in capsys.readouterr().err


def test_a_pipeline_of_another_class_is_refused_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    assert generate(tmp_path, tmp_path / "out") == 2
    assert "'FluxPipeline'" in capsys.readouterr().err


@pytest.mark.filterwarnings("always::genvlm.errors.GuidanceWarning")
def test_guidance_of_a_model_without_condition_dropout_warns_in_one_line(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--num", "1", "--num-steps", "1", "--guidance-scale", "2"]
    assert generate(folders["plain"], tmp_path / "out", *options) == 0
    said = capsys.readouterr().err.strip()
    assert said.startswith("genvlm: warning: this model was trained without condition dropout")
    assert "\n" not in said


def test_a_prompt_that_is_too_long_is_refused(
    folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = ["--prompt", "a b c d e f g h " * 20]
    for name in ("ours", "sd"):
        command = ["generate", "--model", str(folders[name]), *long, "--out", str(tmp_path / "x")]
        assert main(command) == 2
        assert "tokens" in capsys.readouterr().err
