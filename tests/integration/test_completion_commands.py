"""Inpainting, editing, filling, streaming, retrieving: the commands end to end at tiny size."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from genvlm.cli.main import main
from genvlm.data.images import load_image, save_image
from genvlm.models.pretrained import load_pretrained
from genvlm.studies.completion import (
    continue_sequences,
    edit_scenes,
    inpaint_icons,
    write_completion,
)
from genvlm.studies.run_report import COMPLETIONS_FOLDER, build_report

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "examples" / "data"
SCENE, MASK = str(DATA / "scene0.png"), str(DATA / "masks/left-half.png")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "infill"
    assert main(["train", str(ROOT / "configs/debug/infill.yaml"), "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def model(run_folder) -> str:
    return str(run_folder / "model")


def test_inpaint_changes_masked_pixels_alone_and_is_reproducible(model, tmp_path, capsys):
    command = ["inpaint", "--model", model, "--image", SCENE, "--mask", MASK]
    command += ["--prompt", "star left of red heart", "--num", "2", "--temperature", "1"]
    for name in ("a", "b"):
        assert main([*command, "--out", str(tmp_path / name)]) == 0
    page = Path(capsys.readouterr().out.split()[0])
    assert "star left of red heart" in page.read_text()
    before = load_image(SCENE)
    drawn = [load_image(tmp_path / "a" / f"000{i}.png") for i in (0, 1)]
    for number, picture in enumerate(drawn):
        assert (picture[:, 32:] == before[:, 32:]).all()
        assert (picture[:, :32] != before[:, :32]).any()
        again = load_image(tmp_path / "b" / f"000{number}.png")
        assert (picture == again).all()
    assert (drawn[0] != drawn[1]).any()


def test_edit_draws_a_picture_behind_picture_and_instruction(model, tmp_path, capsys):
    command = ["edit", "--model", model, "--image", SCENE, "--instruction", "swap cow and heart"]
    command += ["--num", "2", "--guidance-scale", "1.5", "--image-guidance-scale", "1.2"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert load_image(tmp_path / "0001.png").shape == (64, 64, 3)
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_documents_with_gaps_are_filled(model, tmp_path):
    command = ["generate", "--model", model, "--document", str(DATA / "gaps.jsonl"), "--num", "1"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    rows = [json.loads(x) for x in (tmp_path / "documents.jsonl").read_text().splitlines()]
    kinds = [[next(iter(s)) for s in row["segments"]] for row in rows]
    assert kinds == [["text", "image"], ["text", "image"], ["image", "text"]]
    assert all(row["ended"] for row in rows)
    masked = load_image(tmp_path / rows[0]["segments"][1]["image"])
    assert masked.shape == (64, 64, 3)


def test_streaming_tells_what_is_then_written(model, tmp_path, capsys):
    command = ["generate", "--model", model, "--prompt", "cow left of star", "--max-tokens", "120"]
    for name, more in (("plain", []), ("streamed", ["--stream"])):
        assert main([*command, "--num", "1", *more, "--out", str(tmp_path / name)]) == 0
    told = capsys.readouterr().err
    assert "[image of 64 codes..........]" in told
    plain, streamed = (
        (tmp_path / n / "documents.jsonl").read_text() for n in ("plain", "streamed")
    )
    assert plain == streamed
    for text in (s["text"] for s in json.loads(plain)["segments"][2:] if "text" in s):
        assert text in told


def test_retrieved_pairs_stand_in_front_of_the_prompt(model, tmp_path, capsys):
    command = ["generate", "--model", model, "--prompt", "cow right of red heart", "--num", "1"]
    command += ["--retrieve", str(DATA), "--num-retrieved", "2", "--max-tokens", "300"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert "retrieved (0.78): cow left of red heart" in capsys.readouterr().err
    row = json.loads((tmp_path / "documents.jsonl").read_text())
    texts = [s.get("text") for s in row["segments"]]
    assert texts[0] == "cow left of red heart"
    assert texts[4] == "cow right of red heart"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["inpaint", "--image", SCENE, "--mask", "{small}"], "mask has 8x8 pixels and the picture"),
        (["inpaint", "--image", SCENE, "--mask", "{black}"], "the mask is empty"),
        (["inpaint", "--image", SCENE, "--mask", MASK, "--top-p", "0"], "top_p is 0.0"),
        (["generate", "--prompt", "a", "--num-retrieved", "2"], "needs a folder"),
        (
            ["generate", "--document", str(DATA / "gaps.jsonl"), "--max-tokens", "99"],
            "here gaps are filled: leave it out",
        ),
        (["edit", "--image", SCENE, "--instruction", " "], "the text is empty"),
        (["generate", "--document", "{mixed}"], "with gaps and without"),
        (["generate", "--document", str(DATA / "gaps.jsonl"), "--stream"], "set --num 1"),
        (["generate", "--prompt", "zebra", "--retrieve", str(DATA)], "shares a word"),
        (["generate", "--document", "{mixed}", "--retrieve", str(DATA)], "give one"),
        (["generate", "--document", "{wrong}"], '{"gap": "text" or "image"}'),
        (
            ["generate", "--prompt", "a", "--guidance-scale", "2", "--contrastive-top-k", "3"],
            "choose one of both",
        ),
    ],
)
def test_bad_input_is_one_sentence(command, said, model, tmp_path, capsys):
    for name, side, value in (("small", 8, 255), ("black", 64, 0)):
        save_image(np.full((side, side, 3), value, np.uint8), tmp_path / f"{name}.png")
    shutil.copy(SCENE, tmp_path / "scene.png")
    line = '{"id": "a", "segments": [{"text": "a cow"}, {"gap": "%s"}]}\n'
    (tmp_path / "mixed").write_text(line % "image" + '{"id": "b", "segments": [{"text": "b"}]}')
    (tmp_path / "wrong").write_text(line % "video")
    places = {
        "{small}": "small.png",
        "{black}": "black.png",
        "{mixed}": "mixed",
        "{wrong}": "wrong",
    }
    filled = [str(tmp_path / places[w]) if w in places else w for w in command]
    out = tmp_path / "out"
    assert main([filled[0], "--model", model, *filled[1:], "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert not out.exists()


def test_a_mask_is_not_written_over(model, tmp_path, capsys):
    shutil.copy(SCENE, tmp_path / "scene.png")
    shutil.copy(MASK, tmp_path / "0000.png")
    command = ["inpaint", "--model", model, "--image", SCENE, "--mask", str(tmp_path / "0000.png")]
    assert main([*command, "--out", str(tmp_path)]) == 2
    assert "holds the input" in capsys.readouterr().err
    assert (tmp_path / "0000.png").read_bytes() == Path(MASK).read_bytes()


def test_the_demo_of_sized_pictures_is_refused(tmp_path, capsys):
    config = str(ROOT / "configs/debug/sized.yaml")
    assert main(["demo", "--config", config, "--out", str(tmp_path / "demo")]) == 2
    assert "pictures of one size" in capsys.readouterr().err


@pytest.mark.filterwarnings("default::genvlm.errors.GuidanceWarning")
def test_guidance_of_a_model_without_condition_dropout_is_a_warning(run_folder, tmp_path, capsys):
    out = tmp_path / "run"
    command = ["train", str(ROOT / "configs/debug/infill.yaml"), "--out", str(out)]
    assert main([*command, "--num-steps", "1", "--data.condition-dropout", "0"]) == 0
    command = ["edit", "--model", str(out / "model"), "--image", SCENE, "--instruction", "swap"]
    assert (
        main([*command, "--num", "1", "--guidance-scale", "2", "--out", str(tmp_path / "x")]) == 0
    )
    assert "warning: this model was trained without condition dropout" in capsys.readouterr().err


def test_completions_are_read_and_shown(run_folder, model):
    pretrained = load_pretrained(Path(model))
    for complete in (inpaint_icons, edit_scenes, continue_sequences):
        completion = complete(pretrained, num=4, seed=0, vendors=("noto",))
        assert all(0 <= percent <= 100 for percent, _ in completion.shares.values())
        assert len(completion.items) == (8 if complete is continue_sequences else 4)
        write_completion(completion, run_folder / COMPLETIONS_FOLDER / complete.__name__)
        if complete is inpaint_icons:
            assert completion.shares["real pictures after the tokenizer"] == (100.0, 4)
        if complete is edit_scenes:
            assert completion.shares["control: the picture as it was"] == (0.0, 4)
    page = build_report(run_folder).read_text()
    for title in ("Inpainting", "Editing", "Continuing a sequence"):
        assert title in page


def test_pictures_keep_their_shapes_in_a_sized_model(tmp_path, monkeypatch, capsys):
    """Trained on three squares and two oblongs; every way of using it takes oblongs."""
    data = tmp_path / "examples/data"
    shutil.copytree(DATA, data)
    for name, shape in (("wide", (32, 64, 3)), ("high", (64, 24, 3))):
        save_image(np.full(shape, 90, np.uint8), data / f"{name}.png")
        with (data / "captions.jsonl").open("a") as file:
            file.write(json.dumps({"image": f"{name}.png", "text": f"{name} grey"}) + "\n")
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(ROOT / "configs/debug/sized.yaml"), "--out", "run"]) == 0
    use = ["--model", "run/model"]
    generate = ["generate", *use, "--prompt", "wide grey", "--num", "6", "--temperature", "2"]
    assert main([*generate, "--out", "out"]) == 0
    shapes = {load_image(p).shape[:2] for p in Path("out").glob("*.png")}
    assert len(shapes) > 2
    assert all(side % 8 == 0 for shape in shapes for side in shape)
    wide = "examples/data/wide.png"
    save_image(np.full((32, 64, 3), 255, np.uint8), Path("mask.png"))
    assert main(["inpaint", *use, "--image", wide, "--mask", "mask.png", "--out", "in"]) == 0
    assert load_image(Path("in/0000.png")).shape == (32, 64, 3)
    capsys.readouterr()
    classify = ["classify", *use, "--images", wide, "--classes", "examples/data/classes.txt"]
    assert main([*classify, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["results"]) == 1
    score = ["score", *use, "--pairs", "examples/data/captions.jsonl", "--out", "s.jsonl"]
    assert main(score) == 0
    lines = Path("s.jsonl").read_text().splitlines()
    counts = [json.loads(x)["tokens_image_given_text"] for x in lines]
    assert counts == [64, 64, 64, 32, 24]
