"""The command line and the examples, end to end at tiny size, on the shipped tokenizers."""

import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from genvlm.cli.main import main
from genvlm.data.images import load_image
from genvlm.data.scenes import ICONS, Scene, render_scene
from genvlm.studies import demo as demo_study

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", str(ROOT / "configs/debug/tiny.yaml"), "--out", str(out)]) == 0
    return out


def test_training_writes_log_config_and_model_folder(run_folder):
    records = [json.loads(x) for x in (run_folder / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [5, 10, 15, 20]
    assert records[-1]["loss"] < records[0]["loss"]
    assert (run_folder / "model" / "manifest.json").is_file()


def test_a_second_run_in_the_folder_is_refused(run_folder, capsys):
    assert main(["train", str(ROOT / "configs/debug/tiny.yaml"), "--out", str(run_folder)]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_an_override_reaches_the_run(tmp_path):
    out = tmp_path / "run"
    arguments = ["train", str(ROOT / "configs/debug/tiny.yaml"), "--out", str(out)]
    assert main([*arguments, "--num-steps", "2", "--optimizer.learning-rate", "1e-4"]) == 0
    text = (out / "config.yaml").read_text()
    assert "num_steps: 2" in text
    assert "learning_rate: 0.0001" in text


def test_one_of_several_processes_tells_of_the_run(run_folder, tmp_path, monkeypatch, capsys):
    command = ["train", str(ROOT / "configs/debug/tiny.yaml"), "--out"]
    assert len((run_folder / "commands.txt").read_text().splitlines()) == 1
    monkeypatch.setattr("genvlm.studies.runs.train", lambda config, out, **_: out / "model")
    monkeypatch.setenv("RANK", "1")
    assert main([*command, str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("RANK", "0")
    assert main([*command, str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'model'}\n"
    assert [p.name for p in tmp_path.iterdir()] == ["commands.txt"]


def test_generate_is_reproducible_and_its_document_can_be_continued(run_folder, tmp_path, capsys):
    model = str(run_folder / "model")
    command = ["generate", "--model", model, "--prompt", "cow left of red heart", "--num", "2"]
    for name in ("a", "b"):
        assert (
            main([*command, "--seed", "3", "--max-tokens", "90", "--out", str(tmp_path / name)])
            == 0
        )
    pages = capsys.readouterr().out.split()
    assert all(Path(page).is_file() for page in pages)
    names = sorted(p.name for p in (tmp_path / "a").glob("*.png"))
    assert len(names) >= 2
    for name in [*names, "documents.jsonl"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = ["generate", "--model", model, "--document", str(tmp_path / "a/documents.jsonl")]
    assert main([*again, "--num", "1", "--out", str(tmp_path / "c")]) == 0


def test_score_writes_both_directions_that_add_up_per_token(run_folder, tmp_path):
    out = tmp_path / "scores.jsonl"
    command = ["score", "--model", str(run_folder / "model"), "--pairs", str(DATA / "pairs.jsonl")]
    assert main([*command, "--out", str(out), "--per-token"]) == 0
    rows = [json.loads(x) for x in out.read_text().splitlines()]
    assert len(rows) == 6
    for row in rows:
        for name in ("image_given_text", "text_given_image", "image", "text"):
            assert sum(row[f"per_token_{name}"]) == pytest.approx(row[f"log_p_{name}"])
            assert row[f"log_p_{name}"] < 0
        assert row["tokens_image_given_text"] == 64


def test_classify_prints_a_posterior_that_sums_to_one(run_folder, capsys):
    command = ["classify", "--model", str(run_folder / "model"), "--images"]
    command += [str(DATA / "scene0.png"), "--classes", str(DATA / "classes.txt"), "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)["results"][0]
    from math import exp

    assert sum(exp(c["log_posterior"]) for c in result["classes"]) == pytest.approx(1)


def test_eval_prints_the_summary_alone(run_folder, tmp_path, capsys):
    command = ["eval", "run", "scenes", "--model", str(run_folder / "model"), "--limit", "4"]
    assert main([*command, "--out", str(tmp_path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    blind = summary["controls"]["scores"]["blind"]["metrics"]
    assert [blind[m]["value"] for m in ("text", "image", "group")] == [0, 0, 0]


def test_eval_averages_over_moved_copies(run_folder, tmp_path, capsys):
    for number, name in enumerate(("cow", "star")):
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(DATA / f"scene{number}.png", tmp_path / "data" / name)
    (tmp_path / "data" / "template.txt").write_text("{} left of star\n")
    command = ["eval", "run", "imagefolder", "--model", str(run_folder / "model")]
    command += ["--data", str(tmp_path / "data")]
    scores = []
    for number in ("1", "3"):
        assert main([*command, "--out", str(tmp_path / number), "--copies", number]) == 0
        items = (tmp_path / number / "items.jsonl").read_text().splitlines()
        scores.append([json.loads(item)["scores"] for item in items])
    assert scores[0] != scores[1]
    command = [*command[:2], "pope/random", *command[3:5]]
    assert main([*command, "--method", "answers", "--out", str(tmp_path), "--copies", "2"]) == 2
    assert "averages scores" in capsys.readouterr().err


def test_report_of_a_run_is_one_self_contained_page(run_folder, capsys):
    assert main(["report", str(run_folder)]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert "<svg" in page.read_text() or "data:image" in page.read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["score", "--model", "nowhere", "--pairs", "{pairs}", "--out", "x"], "no model folder"),
        (["eval", "run", "winogrand", "--model", "{model}", "--out", "x"], "no benchmark"),
        (["generate", "--model", "{model}", "--prompt", "  ", "--out", "x"], "empty"),
        (["generate", "--model", "{model}", "--prompt", "cow " * 400, "--out", "x"], "shorten"),
        (["config", "check", "nowhere.yaml"], "nowhere.yaml"),
        (["report", "nowhere"], "no run folder"),
        (["generate", "--model", "{model}", "--prompt", "a", "--out", "{pairs}"], "is a file"),
        (["score", "--model", "{model}", "--pairs", "{pairs}", "--out", "{pairs}"], "the input"),
        (["train", "{config}", "--out", "{pairs}"], "name a folder"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    command, said, run_folder, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    places = {"{model}": str(run_folder / "model"), "{pairs}": str(DATA / "pairs.jsonl")}
    places["{config}"] = str(ROOT / "configs/debug/tiny.yaml")
    assert main([places.get(word, word) for word in command]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_a_model_folder_with_an_altered_file_is_refused(run_folder, tmp_path, capsys):
    copy = tmp_path / "model"
    shutil.copytree(run_folder / "model", copy)
    weights = copy / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    command = ["score", "--model", str(copy), "--pairs", str(DATA / "pairs.jsonl")]
    assert main([*command, "--out", str(tmp_path / "s")]) == 2
    assert "altered or damaged" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    "command",
    ["train", "generate", "inpaint", "edit", "score", "classify", "eval", "config", "report",
     "convert", "demo"],
)  # fmt: skip
def test_help_has_an_example_and_imports_no_torch(command):
    import sys

    code = (
        "import sys\nfrom genvlm.cli.main import main\n"
        f"try: main(['{command}', '--help'])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"genvlm {command}" in done.stdout.split("example:")[1]


def test_every_example_runs(run_folder, tmp_path):
    model = str(run_folder / "model")
    captions = tmp_path / "captions"
    shutil.copytree(DATA, captions)
    shutil.copy(captions / "pairs.jsonl", captions / "captions.jsonl")
    folder = _example("train_on_your_folder").main(str(captions), str(tmp_path / "run"), 3)
    assert (folder / "manifest.json").is_file()
    assert _example("interleaved_story").main(model, str(tmp_path / "story")).is_file()
    assert len(_example("classify_zero_shot").main(model, str(DATA / "scene0.png"))) == 1
    assert _example("your_own_benchmark").main(model, 6).metrics
    assert _example("encode_a_video").main(None, str(tmp_path / "clip.gif")).is_file()
    clip = _example("train_a_clip").main(str(captions), str(tmp_path / "clip"), 2, 2)
    coca = _example("train_a_captioner").main(str(captions), str(tmp_path / "coca"), 2, 2)
    flava = _example("train_a_masked_model").main(str(captions), str(tmp_path / "flava"), 2, 2)
    assert all((model / "manifest.json").is_file() for model in (clip, coca, flava))
    captioned = _example("caption_with_a_language_model")
    assert (captioned.main(model, str(tmp_path / "projector"), 2, 16) / "manifest.json").is_file()
    assert _example("train_on_sequences").main(str(tmp_path / "sequences"), 2, 16).is_file()


def _example(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_outputs_that_would_harm_an_input_are_refused(run_folder, tmp_path, capsys):
    document = tmp_path / "documents.jsonl"
    document.write_text('{"id": "a", "segments": [{"text": "first, the penguin"}]}')
    command = ["generate", "--model", str(run_folder / "model"), "--document", str(document)]
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert "holds the input" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [document]


def test_an_evaluation_is_refused_before_the_model_is_read(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    command = ["eval", "run", "scenes", "--model", "no/model"]
    assert main([*command, "--out", str(tmp_path / "file")]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err
    command[2] = "scnes"
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert "no benchmark 'scnes'" in capsys.readouterr().err


def test_the_commands_of_the_readme_train_on_a_folder_and_go_on(tmp_path, monkeypatch, capsys):
    text = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"^genvlm (train .*runs/mine.*)$", text, flags=re.MULTILINE)
    assert len(commands) == 2
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    for command in commands:
        assert main(shlex.split(command)) == 0, capsys.readouterr().err
    assert len((tmp_path / "runs/mine/commands.txt").read_text().splitlines()) == 2


def test_a_picture_given_twice_is_answered_twice(run_folder, capsys):
    picture = str(DATA / "scene0.png")
    command = ["classify", "--model", str(run_folder / "model"), "--images", picture, picture]
    assert main([*command, "--classes", str(DATA / "classes.txt"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 2


def test_a_report_of_nothing_is_refused_in_words(run_folder, tmp_path, capsys):
    out = shutil.copytree(run_folder, tmp_path / "run")
    (out / "log.jsonl").write_text("")
    assert main(["report", str(out)]) == 2
    assert "has logged nothing yet" in capsys.readouterr().err
    shutil.copy(ROOT / "configs/train/image-emoji-64.yaml", out / "config.yaml")
    assert main(["report", str(out)]) == 2
    assert "trained a tokenizer" in capsys.readouterr().err


def test_a_shape_is_no_run_and_text_tokenizers_are_not_resumed(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    assert main(["train", str(ROOT / "configs/train/chameleon-7b.yaml"), *out]) == 2
    assert "shape of a published model" in capsys.readouterr().err
    assert main(["train", str(ROOT / "configs/train/text-emoji.yaml"), *out, "--resume"]) == 2
    assert "leave --resume out" in capsys.readouterr().err


def test_the_demo_takes_seed_and_folder_from_configuration_and_quickness(monkeypatch, capsys):
    seen = []

    def remember(config, out, **_):
        seen.append((config.seed, config.num_steps, out))
        return out

    monkeypatch.setattr(demo_study, "run_demo", remember)
    config = ["--config", str(ROOT / "configs/debug/tiny.yaml")]
    for more in ([], ["--quick"], ["--seed", "7", "--out", "here"]):
        assert main(["demo", *config, *more]) == 0
    assert seen == [
        (0, 20, Path("runs/demo")), (0, 60, Path("runs/demo-quick")), (7, 20, Path("here")),
    ]  # fmt: skip


def test_the_grammar_check_says_when_it_says_little(monkeypatch, capsys):
    loader = SourceFileLoader("check_grammar", str(ROOT / "scripts/check_grammar"))
    script = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(script)
    monkeypatch.setattr(sys, "argv", ["check_grammar", "--num", "1"])
    assert script.main() == 1
    assert "says little" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["check_grammar", "--num", "40"])
    assert script.main() == 0, capsys.readouterr().out


def test_the_example_pictures_are_scenes_as_they_are_rendered_now():
    """Pictures of an older renderer looked fine and scored ill."""
    icons = {icon.name: icon for icon in ICONS}
    lines = (DATA / "captions.jsonl").read_text().splitlines()
    assert len(lines) == 3
    for row in map(json.loads, lines):
        first, relation, second = re.fullmatch(
            "(.*) (left of|right of|above|below) (.*)", row["text"]
        ).groups()
        expected = render_scene(Scene(icons[first], relation, icons[second]), "noto")
        assert (load_image(DATA / row["image"]) == expected).all()


def test_slips_of_paths_are_told_as_such(run_folder, tmp_path, capsys):
    model, out = str(run_folder), str(tmp_path / "x")
    assert main(["generate", "--model", model, "--prompt", "a cow", "--out", out]) == 2
    assert f"did you mean {run_folder / 'model'}?" in capsys.readouterr().err
    assert main(["convert", "nowhere", out, "--to", "genvlm"]) == 2
    assert "no file or folder at nowhere" in capsys.readouterr().err
    assert main(["convert", str(run_folder / "model"), out, "--to", "genvlm"]) == 2
    assert "is a model folder already" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    config = str(ROOT / "configs/debug/tiny.yaml")
    assert main(["train", config, "--out", str(tmp_path / "file")]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err
    assert main(["train", config, "--out", model, "--resume", "--optimizer.grad-clip", "2"]) == 2
    assert "its optimizer.grad_clip is another" in capsys.readouterr().err
