"""`genvlm classify`, `score` and `eval run` on the folder of an untrained tiny diffusion model."""

import json
from math import exp
from pathlib import Path

import numpy as np
import pytest

from genvlm.cli.main import main
from genvlm.data.images import save_image
from genvlm.models.diffusion.folder import load_diffusion, save_diffusion
from genvlm.models.pretrained import save_pretrained
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained, write_tiny_captions
from genvlm.testing.tiny_diffusion import tiny_diffusion, tiny_diffusion_config


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_diffusion(
        tiny_diffusion(max_tokens=48), tiny_diffusion_config(max_tokens=48), folder, "A toy.\n"
    )
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, (caption, image) in enumerate(tiny_pairs()):
        colour = caption.split()[1]
        (folder / colour).mkdir(parents=True, exist_ok=True)
        save_image(image, folder / colour / f"{number}.png")
    return folder


def classify(model: Path, *words: object) -> int:
    return main(["classify", "--model", str(model), *map(str, words)])


def answer(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_every_method_classifies_under_a_fingerprint_of_its_own(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--folder", pictures, "--num-samples", "3", "--json"]
    prints = set()
    for more, unit in (
        ([], "reweighted_loss"),
        (["--method", "absolute_error"], "reweighted_loss"),
        (["--method", "elbo"], "bound_nats"),
        (["--seed", "1"], "reweighted_loss"),
        (["--copies", "2"], "reweighted_loss"),
    ):
        assert classify(model, *command, *more) == 0
        found = answer(capsys)
        assert found["unit"] == unit
        assert found["accuracy"]["n"] == 12
        assert "score" in found["results"][0]["classes"][0]
        total = sum(exp(c["log_posterior"]) for c in found["results"][0]["classes"])
        assert total == pytest.approx(1)
        prints.add(found["scorer"])
    assert len(prints) == 5
    assert classify(model, *command[:-1]) == 0
    said = capsys.readouterr()
    assert "right:" in said.out
    assert "percentages mean nothing before a --temperature" in said.err


def test_out_holds_results_and_a_page(model: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert classify(model, "--folder", pictures, "--num-samples", "2", "--out", out) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["settings"]["unit"] == "reweighted_loss"
    assert results["settings"]["model"] == load_diffusion(model).fingerprint


def test_elimination_is_calibrated_once_and_then_used(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    save_diffusion(tiny_diffusion(), tiny_diffusion_config(), model, "A toy.\n")
    command = ["--folder", pictures, "--num-samples", "16"]
    assert classify(model, *command, "--eliminate", "sequential") == 2
    assert "--calibrate-elimination" in capsys.readouterr().err
    assert classify(model, *command, "--calibrate-elimination") == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("published-nested", "sequential:0.05", "s.e."))
    load_diffusion(model)  # unchanged
    for name in ("published", "published-nested", "sequential", "sequential:0.01"):
        assert classify(model, *command, "--eliminate", name) == 0
        said = capsys.readouterr().out
        assert f"{name}: another best class than exhaustive scoring for" in said
        assert "% of the samples of exhaustive scoring" in said
    assert classify(model, *command, "--eliminate", "sequential:0.05", "--json") == 0
    found = answer(capsys)["elimination"]
    assert found["samples_exhaustive"] == 12 * 4 * 16
    assert found["samples_scored"] < found["samples_exhaustive"]
    assert classify(model, *command, "--eliminate", "bound") == 2
    assert "choose one of published" in capsys.readouterr().err
    assert classify(model, *command, "--seed", "1", "--eliminate", "published") == 2
    refused = capsys.readouterr().err
    assert "nobody measured" in refused
    assert "--calibrate-elimination --method squared_error --num-samples 16 --seed 1`" in refused


def test_timestep_weights_are_fitted_once_and_then_used(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    save_diffusion(tiny_diffusion(), tiny_diffusion_config(), model, "A toy.\n")
    command = ["--folder", pictures, "--num-samples", "40"]
    assert classify(model, *command, "--method", "learned") == 2
    assert "run `genvlm classify --fit-timestep-weights`" in capsys.readouterr().err
    assert classify(model, *command, "--fit-timestep-weights") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("squared_error", "elbo", "learned"))
    assert "reported on the others" in said
    assert classify(model, *command, "--fit-timestep-weights", "--json") == 0
    fitted = answer(capsys)
    assert len(fitted["weights"]["weights"]) == 20
    assert classify(model, *command, "--method", "learned", "--json") == 0
    assert answer(capsys)["unit"] == "reweighted_loss"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--bfloat16"], "--bfloat16"),
        (["--fit-timestep-weights", "--method", "elbo"], "does not go with --method"),
        (["--fit-timestep-weights", "--eliminate", "published"], "does not go with --eliminate"),
        (["--fit-timestep-weights", "--copies", "2"], "does not go with --copies"),
        (["--fit-timestep-weights", "--temperature", "2"], "does not go with --temperature"),
        (["--device", "no-such-thing"], "no computing on device"),
    ],
)
def test_what_makes_no_sense_with_a_diffusion_model_is_one_sentence(
    more: list[str], said: str, model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(model, "--folder", pictures, *more) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [["--method", "elbo"], ["--num-samples", "3"], ["--seed", "0"], ["--fit-timestep-weights"]],
)
def test_what_is_of_diffusion_models_alone_is_refused_elsewhere(
    more: list[str], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pretrained(tiny_pretrained(), tmp_path / "model", "a card")
    assert classify(tmp_path / "model", "--folder", pictures, *more) == 2
    assert "of diffusion models" in capsys.readouterr().err


def test_pairs_are_scored(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, out = write_tiny_captions(tmp_path) / "captions.jsonl", tmp_path / "scores.jsonl"
    command = ["score", "--model", str(model), "--pairs", str(pairs), "--out", str(out)]
    assert main([*command, "--num-samples", "4", "--seed", "3"]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 12
    assert {(row["unit"], row["samples"]) for row in rows} == {("reweighted_loss", 4)}
    assert len({row["score"] for row in rows}) == 12
    assert main([*command, "--method", "elbo", "--num-samples", "4"]) == 0
    assert {json.loads(line)["unit"] for line in out.read_text().splitlines()} == {"bound_nats"}
    for more, said in (
        (["--method", "p_yes"], "choose squared_error or"),
        (["--reduction", "mean"], "reduction mean"),
        (["--dtype", "float16"], "float32 or bfloat16"),
        (["--method", "learned"], "no learned timestep weights"),
        (["--per-token"], "--per-token"),
    ):
        assert main([*command, *more]) == 2
        assert said in capsys.readouterr().err


def test_a_benchmark_runs_with_its_controls(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", "run", "scenes", "--model", str(model), "--limit", "2", "--json"]
    assert main([*command, "--num-samples", "2", "--out", str(tmp_path / "out")]) == 0
    summary = answer(capsys)
    assert summary["status"] == "complete"
    lines = (tmp_path / "out" / "items.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["scorer"] for row in rows} == {"diffusion squared error"}
    blind = np.array(rows[0]["controls"]["blind"])
    np.testing.assert_array_equal(blind[0], blind[1])
