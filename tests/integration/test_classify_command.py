"""`genvlm classify` on an untrained tiny model: every option, and those that exclude each other."""

import json
from math import exp
from pathlib import Path

import pytest

from genvlm.cli.class_lists import print_accuracy
from genvlm.cli.main import main
from genvlm.data.images import save_image
from genvlm.models.pretrained import load_pretrained, save_pretrained
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained
from genvlm.training.objectives.next_token import bfloat16_supported


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_pretrained(tiny_pretrained(), folder, "a card")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures in folders by colour, and the same as lines of labels."""
    folder = tmp_path_factory.mktemp("pictures")
    lines = []
    for number, (caption, image) in enumerate(tiny_pairs()):
        colour = caption.split()[1]
        (folder / "by class" / colour).mkdir(parents=True, exist_ok=True)
        save_image(image, folder / "by class" / colour / f"{number}.png")
        lines.append(f"by class/{colour}/{number}.png\t{colour}")
    (folder / "labels.tsv").write_text("\n".join(lines))
    (folder / "classes.txt").write_text("red\ngreen\nblue\nyellow\n")
    (folder / "prior.tsv").write_text("yellow\t1000000000\nred\t1\ngreen\t1\nblue\t1\n")
    return folder


def classify(model: Path, *words: object) -> int:
    return main(["classify", "--model", str(model), *map(str, words)])


def answer(capsys: pytest.CaptureFixture[str]) -> dict:
    return json.loads(capsys.readouterr().out)


def test_folders_and_labels_report_the_same_accuracy(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(model, "--folder", pictures / "by class", "--json") == 0
    first = answer(capsys)
    assert classify(model, "--labels", pictures / "labels.tsv", "--json", "--top", "2") == 0
    second = answer(capsys)
    assert first["accuracy"] == second["accuracy"]
    assert first["accuracy"]["n"] == 12
    assert second["top_k"]["k"] == 2
    assert classify(model, "--folder", pictures / "by class") == 0
    printed = capsys.readouterr().out
    assert f"right: {first['accuracy']['value']:.1f} % " in printed
    assert "95 % interval" in printed
    assert "among the best" not in printed  # the best 5 of 4 classes are all of them
    assert classify(model, "--folder", pictures / "by class", "--top", "2") == 0
    assert "among the best 2: " in capsys.readouterr().out


def test_a_temperature_that_could_not_be_fitted_is_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    share = {"value": 50.0, "interval": [20.0, 80.0], "right": 6, "n": 12}
    calibration = {
        "num_fitted": 6, "num_reported": 6, "temperature": None, "reason": "none is best",
        "ece_before": 0.5, "ece_after": None,
    }  # fmt: skip
    print_accuracy({"accuracy": share, "calibration": calibration})
    assert (
        "calibration error of 6 pictures: 50.0 % (no temperature could be fitted on the other 6: "
        "none is best)"
    ) in capsys.readouterr().out


def test_out_holds_results_and_a_page(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert classify(model, "--folder", pictures / "by class", "--copies", "2", "--out", out) == 0
    results = json.loads((out / "results.json").read_text())
    assert len(results["items"]) == 12
    assert results["settings"]["copies"] == 2
    assert results["calibration"]["num_fitted"] + results["calibration"]["num_reported"] == 12
    assert "Zero-shot classification" in (out / "report.html").read_text()
    assert "right:" in capsys.readouterr().out


def test_a_prior_and_a_temperature_change_the_posterior(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--folder", pictures / "by class", "--json"]
    tops = []
    for more in ([], ["--prior", pictures / "prior.tsv"], ["--temperature", "1000"]):
        assert classify(model, *command, *more) == 0
        found = answer(capsys)
        entries = [picture["classes"] for picture in found["results"]]
        assert all(sum(exp(c["log_posterior"]) for c in e) == pytest.approx(1) for e in entries)
        tops.append([e[0] for e in entries])
    assert {e["class"] for e in tops[1]} == {"yellow"}
    assert max(exp(e["log_posterior"]) for e in tops[2]) < 0.26


@pytest.mark.skipif(not bfloat16_supported(), reason="bfloat16 tells that it is slow here")
def test_bfloat16_gives_the_answers_of_float32_under_another_fingerprint(
    model: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--folder", pictures / "by class", "--template", "{}", "--template", "a {} one"]
    found = []
    for more in ([], ["--bfloat16"], ["--bfloat16", "--margin", "9"]):
        assert classify(model, *command, "--json", *more) == 0
        found.append(answer(capsys))
    best = [[r["classes"][0]["class"] for r in f["results"]] for f in found]
    assert best[0] == best[1] == best[2]
    assert len({f["scorer"] for f in found}) == 3
    assert found[1]["rescored"]["of"] == 12 * 4 * 2
    assert 12 <= found[1]["rescored"]["texts"] <= found[2]["rescored"]["texts"] <= 12 * 4 * 2


def test_elimination_is_calibrated_once_and_then_used(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    save_pretrained(tiny_pretrained(), model, "a card")
    fingerprint = load_pretrained(model).fingerprint
    command = ["--labels", pictures / "labels.tsv", "--classes", pictures / "classes.txt"]
    assert classify(model, *command, "--eliminate", "race") == 2
    assert "--calibrate-elimination" in capsys.readouterr().err
    assert classify(model, *command, "--eliminate", "bound", "--json") == 0
    bound = answer(capsys)
    assert bound["elimination"]["measured"] is None
    assert classify(model, *command, "--json") == 0
    exhaustive = answer(capsys)
    best = [[r["classes"][0]["class"] for r in found["results"]] for found in (bound, exhaustive)]
    assert best[0] == best[1]
    assert bound["accuracy"] == exhaustive["accuracy"]

    assert classify(model, *command, "--calibrate-elimination") == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("bound", "race:0.05", "halving:8", "flip rate"))
    assert load_pretrained(model).fingerprint == fingerprint
    for name in ("race", "race:0.05", "halving", "halving:4"):
        assert classify(model, *command, "--eliminate", name) == 0
        said = capsys.readouterr().out
        assert "another best class than exhaustive scoring for" in said
        assert "right:" in said
    images = [pictures / "by class/red/0.png", "--classes", pictures / "classes.txt"]
    assert classify(model, "--images", *images, "--eliminate", "halving:2") == 0
    assert "classes that were scored to the end" in capsys.readouterr().out
    assert classify(model, *command, "--eliminate", "halving:3") == 2
    assert "choose one of bound, race:0" in capsys.readouterr().err
    assert classify(model, *command, "--template", "a {}", "--eliminate", "race") == 2
    assert "nobody measured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "x.png"], "--images needs --classes"),
        (["--images", "x.png", "--classes", "{c}", "--out", "o"], "give --folder or --labels"),
        (["--folder", "{f}", "--margin", "1"], "give both or neither"),
        (["--folder", "{f}", "--eliminate", "bound", "--copies", "2"], "does not go with --copies"),
        (["--folder", "{f}", "--calibrate-elimination", "--bfloat16"], "does not go with"),
        (["--folder", "{f}", "--calibrate-elimination", "--eliminate", "race"], "in another call"),
        (["--folder", "{f}", "--eliminate", "bound", "--out", "o"], "does not go with --out"),
        (["--folder", "{f}", "--template", "a cat"], "must hold {} once"),
        (["--folder", "{f}", "--temperature", "0"], "must be positive"),
        (["--folder", "{f}", "--out", "{c}"], "is a file"),
        (["--labels", "{l}", "--classes", "{o}"], "not in the list of classes"),
        (["--folder", "nowhere"], "no folder at"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    words: list[str], said: str, model: Path, pictures: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (pictures / "others.txt").write_text("red\ngreen\n")
    places = {"{f}": "by class", "{c}": "classes.txt", "{l}": "labels.tsv", "{o}": "others.txt"}
    given = [str(pictures / places[w]) if w in places else w for w in words]
    assert classify(model, *given) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []
