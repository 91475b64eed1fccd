"""Prediction files with one fault each: named, counted, never right or wrong by accident."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation import resampling
from genvlm.evaluation.catalog import judge_predictions, shipped_data
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize

Write = Callable[[Sequence[dict]], Path]
CAPTIONS = [("a dog", "a cat"), ("two men on a bench", "two men"), ("red", "green")]


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about intervals."""
    monkeypatch.setattr(resampling, "NUM_RESAMPLES", 20)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    """SugarCrepe of three items."""
    folder = tmp_path / "data/sugarcrepe"
    folder.mkdir(parents=True)
    rows = {
        str(7 * k): {"filename": f"{k}.jpg", "caption": true, "negative_caption": false}
        for k, (true, false) in enumerate(CAPTIONS)
    }
    (folder / "add_att.json").write_text(json.dumps(rows))
    for category in (
        "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj",
    ):  # fmt: skip
        other = {"0": {"filename": "x.jpg", "caption": "a b c", "negative_caption": "c b a"}}
        (folder / f"{category}.json").write_text(json.dumps(other))
    return DataFolder(tmp_path / "data")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_lines(rows: Sequence[dict]) -> Path:
        path = tmp_path / "predictions.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write_lines


def scored(k: int, right: float, wrong: float) -> dict:
    return {"id": f"add_att/{7 * k}", "scores": [[right, wrong]]}


def judge(path: Path, data: DataFolder) -> Summary:
    benchmark, records = judge_predictions("sugarcrepe/add_att", [path], data)
    return summarize(records, benchmark.card)


def test_scores_of_our_own_format_are_judged(data: DataFolder, write: Write) -> None:
    result = judge(write([scored(0, 2, 1), scored(1, 0, 3), scored(2, 1, 1)]), data)
    metric = result.metrics["accuracy"]
    assert metric.value == pytest.approx(100 / 3)
    assert metric.half == pytest.approx(50)
    assert result.status == "complete"
    assert set(result.controls.scores) == {"random", "constant", "length", "format", "n-gram"}


def test_a_missing_item_is_counted_and_makes_the_result_incomplete(
    data: DataFolder, write: Write
) -> None:
    result = judge(write([scored(0, 2, 1), scored(2, 2, 1)]), data)
    assert result.status == "incomplete"
    assert result.coverage == {
        "expected": 3, "answered": 2, "refused": 0, "unparseable": 0, "failed": 1,
    }  # fmt: skip
    assert result.metrics["accuracy"].value == 100
    assert "1 items failed, such as 'add_att/7' (no prediction)" in result.flags


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity"])
def test_a_score_that_is_no_number_counts_neither_as_right_nor_as_wrong(
    data: DataFolder, write: Write, bad: str
) -> None:
    path = write([scored(0, 2, 1), scored(1, 0, 3), scored(2, 2, 1)])
    path.write_text(path.read_text().replace("[0, 3]", f"[{bad}, 3]"))
    result = judge(path, data)
    assert result.status == "incomplete"
    assert (result.coverage["failed"], result.metrics["accuracy"].value) == (1, 100)
    assert any("'add_att/7' (a score that is no number" in flag for flag in result.flags)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([scored(0, 1, 0), {"id": "add_att/8", "scores": [[1, 0]]}], "1 predictions are of ids"),
        ([scored(0, 1, 0), scored(0, 1, 0)], "line 2: the id 'add_att/0' occurs twice"),
        ([{"id": "add_att/0", "scores": [[1, 0, 2]]}], r"shape \(1, 3\), expected \(1, 2\)"),
        ([scored(0, 1, 0), {"scores": [[1, 0]]}], "line 2: 'id' is None"),
        ([{"id": "add_att/0", "answer": "(1)"}], "an answer to the question ''"),
        ([{"id": "add_att/0", "question": "positive-first", "answer": 3}], "'answer' is 3"),
    ],
)
def test_files_of_something_else_are_refused(
    data: DataFolder, write: Write, rows: list[dict], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        judge(write(rows), data)


def test_a_file_cut_short_names_its_line(data: DataFolder, write: Write) -> None:
    path = write([scored(0, 1, 0), scored(1, 1, 0)])
    path.write_text(path.read_text()[:-6])
    with pytest.raises(DataError, match="line 2, is no JSON"):
        judge(path, data)
    packed = path.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(path.read_bytes())[:-12])
    with pytest.raises(DataError, match="is damaged"):
        judge(packed, data)
    with pytest.raises(DataError, match="no file"):
        judge(path.with_name("other.jsonl"), data)


def test_both_orders_are_read_from_the_names_of_two_files(data: DataFolder, tmp_path: Path) -> None:
    said = {
        "positive-first": ["(1)", "(2)", "I cannot say"],
        "negative-first": ["(2)", "(2)", "(2)"],
    }
    paths = []
    for order, answers in said.items():
        rows: dict[str, object] = {"accuracy": 0.5}  # no item, as in the released files
        for k, answer in enumerate(answers):
            true, false = CAPTIONS[k]
            rows[str(7 * k)] = {
                "answer": {"free_form_answer": answer}, "caption": true, "negative_caption": false,
            }  # fmt: skip
        path = tmp_path / order / "model-add_att.json"
        path.parent.mkdir()
        path.write_text(json.dumps(rows))
        paths.append(path)
    benchmark, records = judge_predictions("sugarcrepe/add_att", paths, data)
    result = summarize(records, benchmark.card)
    values = {name: found.value for name, found in result.metrics.items()}
    assert values["positive-first"] == pytest.approx(100 / 3)
    assert values["negative-first"] == pytest.approx(100)
    assert values["all orders"] == pytest.approx(100 / 3)
    assert result.coverage["refused"] == 1
    assert "positive-first: 1 answers refused or unreadable" in result.flags
    assert [one.parse_rule for one in records[0].answers] == ["number of an option in brackets"] * 2

    text = paths[0].read_text().replace("a dog", "a hound")
    paths[0].write_text(text)
    with pytest.raises(EvaluationError, match="are of another version"):
        judge_predictions("sugarcrepe/add_att", paths, data)
    nameless = tmp_path / "model.json"
    nameless.write_text(text)
    with pytest.raises(EvaluationError, match="do not tell the order of options"):
        judge_predictions("sugarcrepe/add_att", [nameless], data)


def test_other_data_are_another_version(data: DataFolder, write: Write) -> None:
    path = write([scored(k, 1, 0) for k in range(3)])
    benchmark, records = judge_predictions("sugarcrepe/add_att", [path], data)
    assert records[0].version.startswith("1+part=add_att+data=")
    shipped = shipped_data()
    card = benchmark.card
    assert shipped.changed(["sugarcrepe/add_att.json"], card.files) == ""


def test_the_fingerprint_is_of_the_content_not_of_the_path(
    data: DataFolder, write: Write, tmp_path: Path
) -> None:
    path = write([scored(k, 1, 0) for k in range(3)])
    copy = tmp_path / "elsewhere.jsonl.gz"
    copy.write_bytes(gzip.compress(path.read_bytes()))
    prints = [
        judge_predictions("sugarcrepe/add_att", [p], data)[1][0].fingerprint for p in (path, copy)
    ]
    assert prints[0] == prints[1]


def test_a_constant_scorer_gets_nothing_on_every_set_of_choices(
    data: DataFolder, write: Write
) -> None:
    result = judge(write([scored(k, 5, 5) for k in range(3)]), data)
    metric = result.metrics["accuracy"]
    assert (metric.value, metric.half, metric.tie_rate) == (0, 50, 100)


def test_a_blind_scorer_gets_nothing_on_winoground(tmp_path: Path) -> None:
    # The same score whatever the picture: text 0, image 0 by ties, group 0.
    rng = np.random.default_rng(0)
    lines = []
    for item in range(400):
        scores = rng.normal(size=2)
        lines += [
            {"label": f"{item}_c{c}_i{i}", "score": float(scores[c])}
            for c in (0, 1)
            for i in (0, 1)
        ]
    path = tmp_path / "blind.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    benchmark, records = judge_predictions("winoground", [path], shipped_data())
    found = summarize(records, benchmark.card).metrics
    assert [found[name].value for name in ("text", "image", "group")] == [0, 0, 0]
    # Comparing with >= in place of > would give the image score to a blind model.
    assert [r.credit["image"].win for r in records] == [1.0] * 400


def test_one_order_of_options_is_another_version_and_said(data: DataFolder, write: Write) -> None:
    # Always the first option: all right, if nobody asks in the other order.
    rows = [
        {"id": f"add_att/{7 * k}", "question": "positive-first", "answer": "(1)"} for k in range(3)
    ]
    result = judge(write(rows), data)
    assert result.metrics["accuracy"].value == 100
    assert "+orders=positive-first" in result.version
    assert any("only the order positive-first was asked" in flag for flag in result.flags)
    # An item that lacks one of the orders that the others have is missing, not half right.
    more = [*rows, {"id": "add_att/0", "question": "negative-first", "answer": "(2)"}]
    result = judge(write(more), data)
    assert (result.coverage["answered"], result.coverage["failed"]) == (1, 2)
    assert any("(1 of 2 questions have no prediction)" in flag for flag in result.flags)


def test_a_key_that_stands_twice_in_a_file_is_an_error(data: DataFolder, tmp_path: Path) -> None:
    path = tmp_path / "positive-first/m-add_att.json"
    path.parent.mkdir()
    path.write_text('{"0": {}, "7": {}, "0": {}}')
    with pytest.raises(DataError, match="the key '0' occurs twice"):
        judge_predictions("sugarcrepe/add_att", [path], data)


def test_scores_and_answers_of_one_file_are_not_mixed(data: DataFolder, write: Write) -> None:
    rows = [scored(0, 1, 0), {"id": "add_att/7", "question": "positive-first", "answer": "(1)"}]
    with pytest.raises(EvaluationError, match="scores of 1 items and answers of 1"):
        judge(write(rows), data)


@pytest.mark.parametrize("odd", ["high", [1, "x"], [[1, 0], [2]]])
def test_scores_that_are_no_matrix_name_their_item(
    data: DataFolder, write: Write, odd: object
) -> None:
    with pytest.raises(EvaluationError, match="item 'add_att/0': scores must be a list of lists"):
        judge(write([{"id": "add_att/0", "scores": odd}]), data)


def test_the_question_of_pope_is_not_read_as_its_answer(tmp_path: Path) -> None:
    rows = [
        json.loads(line)
        for line in shipped_data().read("pope/coco_pope_random.json").split(b"\n")
        if line
    ]
    path = tmp_path / "answers.jsonl"
    path.write_text("".join(json.dumps({**row, "answer": "No"}) + "\n" for row in rows))
    benchmark, records = judge_predictions("pope/random", [path], shipped_data())
    result = summarize(records, benchmark.card)
    assert result.status == "complete"
    assert result.metrics["yes ratio"].value == 0
    assert records[0].answers[0].raw == "No"


def test_answers_of_pope_that_say_neither_are_counted(tmp_path: Path) -> None:
    rows = shipped_data().jsonl("pope/coco_pope_random.json")
    said = ["I cannot tell.", "Sure", *["Yes, there is"] * len(rows)]
    path = tmp_path / "answers.jsonl"
    lines = [json.dumps({**row, "answer": a}) for row, a in zip(rows, said, strict=False)]
    path.write_text("\n".join(lines) + "\n")
    benchmark, records = judge_predictions("pope/random", [path], shipped_data())
    result = summarize(records, benchmark.card)
    assert result.metrics["yes ratio"].value == 100
    assert any("2 answers say neither yes nor no, such as" in flag for flag in result.flags)


def test_chance_of_a_part_is_that_of_its_own_options() -> None:
    path = Path(__file__).parents[3] / "eval/data/scienceqa_llava15_13b.jsonl.gz"
    whole, part = (
        summarize(records, benchmark.card)
        for benchmark, records in (
            judge_predictions(name, [path], shipped_data())
            for name in ("scienceqa", "scienceqa/image")
        )
    )
    of_tag = whole.controls.scores["random"].categories["image"]["given"].value
    assert of_tag == pytest.approx(part.controls.scores["random"].metrics["given"].value, abs=0.1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("winoground", '{"label": "0_c0_i0", "sim": 1}', "line 1 lacks 'score', and has label"),
        ("winoground", '{"id": "0"}', "line 1 has neither 'scores' nor 'answer', but 'id'"),
        ("winoground", '{"id": "0", "score": 1}', "neither 'scores' nor 'answer', but 'id', 'sc"),
        ("winoground", "", "is empty: write the predictions anew"),
        ("tifa", " \n", "is empty: write the predictions anew"),
        ("winoground", '{"label": "0_c', "line 1, is no JSON .*: fetch or write it anew"),
        ("chair", '{"image_id": 569, "caption": "A"}\n' * 2, ": '569' is answered twice"),
        ("vqa", '[{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "a"}]',
         ": '1' is answered twice"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(content)
    with pytest.raises((DataError, EvaluationError), match=message):
        judge_predictions(name, [path], shipped_data())


def test_a_folder_of_predictions_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder: name a file in it"):
        judge_predictions("winoground", [tmp_path], shipped_data())
