"""A folder of classes as a benchmark: names, templates, and folders that are wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from genvlm.data.images import save_image
from genvlm.errors import DataError, DataWarning, EvaluationError
from genvlm.evaluation.benchmark import Benchmark, run_benchmark
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.catalog import audit, find_benchmark, judge_predictions, shipped_data
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.records import read_records, write_records
from genvlm.evaluation.summary import summarize
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores


class Brightness:
    """Calls bright pictures by the text that is first in the alphabet."""

    info = ScorerInfo(name="brightness", unit="arbitrary")

    def score(self, grids: list[Grid]) -> list[Scores]:
        values = []
        for grid in grids:
            order = sorted(grid.texts)
            bright = grid.images[0].mean() > 128
            row = [-order.index(t) if bright else order.index(t) for t in grid.texts]
            values.append(Scores(np.array([row], np.float64)))
        return values


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, level in (("bright_day", 250), ("dark_night", 5)):
        (tmp_path / name).mkdir()
        for k in range(3):
            save_image(np.full((4, 4, 3), level + k, np.uint8), tmp_path / name / f"{k}.png")
    return tmp_path


def build(folder: Path) -> Benchmark:
    benchmark, _ = audit("imagefolder", DataFolder(folder))
    assert isinstance(benchmark, Benchmark)
    return benchmark


def test_each_picture_is_put_to_the_names_of_all_classes(folder: Path) -> None:
    benchmark = build(folder)
    assert benchmark.items[0].grid.texts == ["bright day", "dark night"]
    assert [item.id for item in benchmark.items][:2] == ["bright_day/0.png", "bright_day/1.png"]
    assert [item.target for item in benchmark.items] == [0, 0, 0, 1, 1, 1]
    result = summarize(run_benchmark(benchmark, Brightness()), benchmark.card)
    assert result.metrics["accuracy"].value == 100


def test_a_constant_scorer_has_chance_in_half_credit(folder: Path) -> None:
    benchmark, records = audit("imagefolder", DataFolder(folder))
    accuracy = summarize(records, benchmark.card).metrics["accuracy"]
    assert (accuracy.value, accuracy.half) == (0, 50)


def test_chance_is_one_of_the_classes_also_when_rescored(folder: Path, tmp_path: Path) -> None:
    (folder / "grey").mkdir()
    save_image(np.full((4, 4, 3), 128, np.uint8), folder / "grey/0.png")
    benchmark = build(folder)
    assert benchmark.card.chance == {"accuracy": pytest.approx(100 / 3)}
    live = summarize(run_benchmark(benchmark, Brightness()), benchmark.card)
    assert live.controls.scores["random"].metrics["accuracy"].value == pytest.approx(100 / 3)
    gain = live.controls.gain.metrics["accuracy"]
    assert (gain.value, gain.over) == (pytest.approx(400 / 7 - 100 / 3), "random")
    write_records(run_benchmark(benchmark, Brightness()), tmp_path / "items.jsonl")
    # The card of the package knows no number of classes; the log does.
    records = read_records(tmp_path / "items.jsonl").records
    assert summarize(records, load_card("imagefolder")) == live


def test_names_and_template_come_from_files(folder: Path) -> None:
    before = build(folder).version
    (folder / "classes.txt").write_text("dark_night\ta moonless night\n\n")
    (folder / "template.txt").write_text("a photo of {}\n")
    benchmark = build(folder)
    assert benchmark.items[0].grid.texts == [
        "a photo of bright day", "a photo of a moonless night"
    ]  # fmt: skip
    assert benchmark.version != before


def test_predictions_are_lines_of_ours(folder: Path) -> None:
    path = folder.parent / f"{folder.name}.jsonl"
    ids = [item.id for item in build(folder).items]
    path.write_text("".join(json.dumps({"id": k, "scores": [[1, 0]]}) + "\n" for k in ids))
    benchmark, records = judge_predictions("imagefolder", [path], DataFolder(folder))
    assert summarize(records, benchmark.card).metrics["accuracy"].value == 50
    path.write_text('{"label": "1"}\n')
    with pytest.raises(EvaluationError, match=r'\.jsonl is not in the form .*"scores"'):
        judge_predictions("imagefolder", [path], DataFolder(folder))


def test_files_that_are_no_pictures_are_counted_and_named(folder: Path) -> None:
    (folder / ".hidden").mkdir()
    (folder / "bright_day/.thumbs").write_text("x")
    build(folder)  # no warning: hidden files are nobody's data
    (folder / "bright_day/notes.txt").write_text("x")
    (folder / "README.md").write_text("x")
    with pytest.warns(DataWarning, match=r"2 files .* README\.md, bright_day/notes\.txt"):
        assert len(build(folder).items) == 6


def test_an_empty_class_and_two_of_one_name_are_errors(folder: Path) -> None:
    (folder / "classes.txt").write_text("dark_night\tbright day\n")
    with pytest.raises(DataError, match="bright_day, dark_night are all named 'bright day'"):
        build(folder)
    (folder / "classes.txt").unlink()
    (folder / "bright day").mkdir()
    with pytest.raises(DataError, match="bright day, bright_day are all named 'bright day'"):
        build(folder)
    (folder / "bright day").rmdir()
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no picture"):
        build(folder)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("classes.txt", "dusk\tDusk\n", r"classes\.txt, line 1: no folder 'dusk'"),
        ("classes.txt", "dark_night Dusk\n", r"classes\.txt, line 1, needs folder, tab, name"),
        ("template.txt", "a photo", r"template\.txt holds 'a photo'.*one \{\}"),
        ("template.txt", "{} {0}", r"template\.txt holds"),
    ],
)
def test_wrong_names_are_named(folder: Path, file: str, content: str, message: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=message):
        build(folder)


def test_a_folder_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data DIR"):
        audit("imagefolder", shipped_data())
    with pytest.raises(DataError, match="holds 0 folders"):
        build(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        build(tmp_path / "absent")


def test_the_folder_may_be_named_as_that_of_the_pictures(folder: Path) -> None:
    (folder / "classes.txt").write_text("dark_night\tnight\n")
    entry, _ = find_benchmark("imagefolder")
    assert entry.build is not None
    benchmark = entry.build(shipped_data(), "", folder)
    assert benchmark.items[0].grid.texts == ["bright day", "night"]


def test_names_that_are_no_text_are_named(folder: Path) -> None:
    (folder / "classes.txt").write_bytes(b"dark_night\t\xff\n")
    with pytest.raises(DataError, match=r"classes\.txt is no UTF-8 text"):
        build(folder)
