"""`genvlm eval`: what a user types, on released predictions and on a tiny model."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genvlm.cli.main import main
from genvlm.evaluation.records import read_records
from genvlm.studies.evaluations import BENCHMARKS, check_benchmark
from genvlm.testing.foreign_models import write_tiny_clip

DATA = Path(__file__).parents[2] / "eval/data"
WINOGROUND = DATA / "winoground_scores"
POPE = DATA / "pope_llava15_13b.jsonl.gz"


def run(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    capsys.readouterr()  # DeepSpeed greets whoever imports Accelerate first, here a builder
    assert main(["eval", *map(str, arguments)]) == code
    return capsys.readouterr().out


def test_json_is_the_summary_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    predictions = WINOGROUND / "clip_l14.jsonl.gz"
    result = json.loads(run(capsys, "run", "winoground", "--predictions", predictions, "--json"))
    assert result["metrics"]["group"]["value"] == 8.0
    assert result["status"] == "complete"


def test_an_incomplete_result_shows_no_number_unless_allowed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = run(capsys, "run", "pope/random", "--predictions", POPE, code=2)
    assert "incomplete" in shown
    assert "87.14" not in shown
    assert "90 items failed, such as 'random/18' (no prediction)" in shown
    allowed = run(capsys, "run", "pope/random", "--predictions", POPE, "--allow-partial")
    assert "87.14" in allowed


def test_a_log_is_rescored_and_compared_without_a_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("clip_l14", "vilt_coco"):
        path = WINOGROUND / f"{name}.jsonl.gz"
        run(capsys, "run", "winoground", "--predictions", path, "--out", tmp_path / name)
    log = tmp_path / "clip_l14/items.jsonl"
    rescored = json.loads(run(capsys, "rescore", log, "--json"))
    assert rescored == json.loads((tmp_path / "clip_l14/summary.json").read_text())
    compared = json.loads(run(capsys, "diff", log, tmp_path / "vilt_coco/items.jsonl", "--json"))
    group = compared["metrics"]["group"]
    assert (group["first"], group["second"], group["n"]) == (8.0, 11.25, 400)
    assert 0 < group["p_value"] < 1
    shown = run(capsys, "diff", log, tmp_path / "vilt_coco/items.jsonl")
    assert "+3.25" in shown
    page = (tmp_path / "clip_l14/report.html").read_text()
    assert "predictions clip_l14.jsonl" in page
    # What is browsed is a selection and says so; the gain stands there as on the screen.
    assert "40 of 400 shown" in page
    assert "Gain over the best control" in page


def test_a_log_cut_short_is_incomplete(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = WINOGROUND / "clip_l14.jsonl.gz"
    run(capsys, "run", "winoground", "--predictions", path, "--out", tmp_path)
    log = tmp_path / "items.jsonl"
    log.write_bytes(log.read_bytes()[:-30])
    shown = run(capsys, "rescore", log, code=2)
    assert "incomplete" in shown
    assert "cut short" in shown


def test_every_benchmark_is_listed_with_its_chance(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(run(capsys, "list", "--json"))
    names = {row["name"] for row in rows}
    assert {
        "winoground", "sugarcrepe", "pope", "chair", "vqa", "captions", "dsg", "tifa", "vqascore",
        "clipscore", "geneval", "imagefolder", "grasp", "aro-order", "aro-vg-relation",
        "aro-vg-attribution", "scienceqa", "sugarcrepe-options", "emoji-classes", "emoji-pairs",
        "scenes",
    } <= names  # fmt: skip
    assert all(row["licence"] and row["description"] for row in rows)


def test_the_list_cuts_no_name_and_names_only_what_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = json.loads(run(capsys, "list", "--json"))
    run_as = {row["name"]: row["run_as"] for row in rows}
    for name in (name for names in run_as.values() for name in names):
        check_benchmark(name)
    assert {name for names in run_as.values() for name in names} > {*BENCHMARKS, "sugarcrepe"}
    assert run_as["aro-order"] == ["aro/coco-order", "aro/flickr-order"]
    assert run_as["scienceqa-image"] == ["scienceqa/image"]
    assert [row["name"] for row in rows if row["by_answers"]] == ["sugarcrepe-options"]
    monkeypatch.setenv("COLUMNS", "40")
    for terminal in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda terminal=terminal: terminal)
        shown = run(capsys, "list")
        assert "…" not in shown
        assert {"sugarcrepe/replace_att", "scenes-rich-fluent", "MIT;"} <= set(shown.split())
        assert terminal == (max(len(line) for line in shown.splitlines() if "/" not in line) <= 40)


def test_an_audit_shows_units_and_a_column_once_where_nothing_ties(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    shown = run(capsys, "audit", "chair")
    assert "percent" not in shown
    assert "ties half" not in shown
    assert "mentions, %" not in shown
    assert "CHAIRs, %" in shown
    assert "accuracy, %, ties half" in run(capsys, "audit", "sugarcrepe/add_att")


def test_an_audit_says_what_needs_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(capsys, "audit", "pope/popular")
    assert "line parity" in shown
    assert "100.0" in shown
    result = json.loads(run(capsys, "audit", "sugarcrepe/add_att", "--json"))
    length = result["controls"]["scores"]["length"]["metrics"]["accuracy"]
    assert round(length["half"], 1) == 99.6


def test_the_first_control_of_an_audit_is_flagged_like_the_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "pope/coco_pope_random.json"
    file.parent.mkdir()
    asked = {"text": "Is there a dog in the image?", "label": "yes"}
    rows = [{"question_id": k, "image": f"{k}.jpg", **asked} for k in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = run(capsys, "audit", "pope/random", "--data", tmp_path)
    assert "accuracy: control 'always yes' gets 100.00" in " ".join(shown.split())


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two classes of plain pictures."""
    for name, colour in (("red_square", (200, 0, 0)), ("blue", (0, 0, 200))):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (20 + k, 20), colour).save(folder / f"{k}.png")
    return tmp_path / "data"


def test_a_clip_folder_classifies_a_folder_of_classes(
    capsys: pytest.CaptureFixture[str], classes: Path, tmp_path: Path
) -> None:
    write_tiny_clip(tmp_path / "clip")
    arguments = ["run", "imagefolder", "--data", classes, "--model", tmp_path / "clip"]
    arguments += ["--out", tmp_path / "out", "--json"]
    first = run(capsys, *arguments)
    result = json.loads(first)
    assert result["coverage"]["answered"] == 6
    assert result["scorer"].startswith("cosine")
    assert {"constant", "length", "blind", "shuffled-image"} <= set(result["controls"]["scores"])
    num_cached = len((tmp_path / "out/cache.jsonl").read_text().splitlines())
    # Of each item own pictures, exchanged ones and the average over unrelated ones; a second run
    # computes nothing and says the same.
    assert num_cached == 18
    assert run(capsys, *arguments) == first
    assert len((tmp_path / "out/cache.jsonl").read_text().splitlines()) == num_cached


def test_controls_that_are_left_out_are_named_and_not_paid_for(
    capsys: pytest.CaptureFixture[str], classes: Path, tmp_path: Path
) -> None:
    write_tiny_clip(tmp_path / "clip")
    arguments = ["run", "imagefolder", "--data", classes, "--model", tmp_path / "clip"]
    arguments += ["--out", tmp_path / "out"]
    result = json.loads(run(capsys, *arguments, "--no-blind", "--no-shuffled", "--json"))
    assert not {"blind", "shuffled-image"} & set(result["controls"]["scores"])
    assert result["flags"][:2] == [
        "the control 'shuffled-image' was left out: not asked for",
        "the control 'blind' was left out: not asked for",
    ]
    assert len((tmp_path / "out/cache.jsonl").read_text().splitlines()) == 6
    rescored = json.loads(run(capsys, "rescore", tmp_path / "out/items.jsonl", "--json"))
    assert rescored == result
    shown = run(capsys, *arguments, "--no-blind")
    assert "control: shuffled-image" in shown
    assert "note: the control 'blind' was left out: not asked for" in shown


def test_a_single_item_has_no_other_picture_to_show_and_says_so(
    capsys: pytest.CaptureFixture[str], classes: Path, tmp_path: Path
) -> None:
    write_tiny_clip(tmp_path / "clip")
    arguments = ["run", "imagefolder", "--data", classes, "--model", tmp_path / "clip", "--json"]
    one = json.loads(run(capsys, *arguments, "--limit", 1, "--out", tmp_path / "one"))
    assert one["coverage"] == {
        "expected": 1, "answered": 1, "refused": 0, "unparseable": 0, "failed": 0
    }  # fmt: skip
    assert "the control 'shuffled-image' was left out: one group holds 1 of 1 items" in one["flags"]
    # Unrelated pictures are those of the whole benchmark, whatever the limit.
    (record,) = read_records(tmp_path / "one/items.jsonl").records
    run(capsys, *arguments, "--out", tmp_path / "all")
    whole = {r.id: r for r in read_records(tmp_path / "all/items.jsonl").records}
    np.testing.assert_allclose(
        record.evidence("blind"), whole[record.id].evidence("blind"), rtol=1e-5
    )


def test_pictures_that_are_missing_are_counted_before_anything_is_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_tiny_clip(tmp_path / "clip")
    rows = json.loads(gzip.decompress((DATA / "sugarcrepe/swap_obj.json.gz").read_bytes()))
    images = tmp_path / "images"
    images.mkdir()
    present = sorted({row["filename"] for row in rows.values()})[:6]
    for k, name in enumerate(present):
        Image.new("RGB", (24, 24), (40 * k, 0, 0)).save(images / name)
    arguments = ["run", "sugarcrepe/swap_obj", "--model", tmp_path / "clip", "--images", images]
    arguments += ["--out", tmp_path / "out"]
    assert main(["eval", *map(str, arguments)]) == 2
    message = capsys.readouterr().err
    assert "of 245 items are missing" in message
    assert "val2017.zip" in message
    (images / present[0]).write_bytes(b"no picture")
    shown = run(capsys, *arguments, "--allow-partial", "--json")
    result = json.loads(shown)
    assert result["status"] == "incomplete"
    assert result["coverage"]["expected"] == 245
    failed = result["coverage"]["failed"]
    assert failed == sum(row["filename"] not in present[1:] for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "winoground"], "either --model FOLDER or --predictions"),
        (["run", "winogrande", "--predictions", POPE], "no benchmark 'winogrande'"),
        (["run", "pope/rare", "--predictions", POPE], "pope has no part 'rare'"),
        (["run", "dsg", "--predictions", POPE], "name one of dsg/tifa160"),
        (["run", "scenes", "--predictions", POPE], "is drawn here and needs a --model"),
        (["run", "scenes", "--model", "x"], "give --out FOLDER"),
        (["audit", "scenes"], "not made of files"),
        (["audit", "pope", "--data", "/nonexistent"], "holds neither pope/coco_pope_random.json"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[object], message: str
) -> None:
    assert main(["eval", *map(str, arguments)]) == 2
    assert message in capsys.readouterr().err
