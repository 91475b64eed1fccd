"""CHAIR end to end: the released captions, chosen pictures, empty captions."""

import json
from pathlib import Path

import pytest

from genvlm.config.assets import asset_path
from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation.catalog import audit, judge_predictions, shipped_data
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize

EXPECTED = {
    name.removeprefix("chair/"): known["computed"]
    for name, known in shipped_data().json("EXPECTED.json").items()
    if name.startswith("chair/")
}


def judge(*files: Path, data: DataFolder | None = None) -> Summary:
    benchmark, records = judge_predictions("chair", files, data or shipped_data())
    return summarize(records, benchmark.card)


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", EXPECTED)
def test_released_captions_have_their_known_rates(name: str) -> None:
    known = EXPECTED[name]
    result = judge(asset_path(f"eval/data/chair/{name}.jsonl.gz"))
    assert result.status == "complete"
    assert result.coverage["expected"] == known["n"]
    assert result.version.startswith(f"1+images={known['n']}:")
    found = {metric: measured.value for metric, measured in result.metrics.items()}
    assert found["CHAIRs"] == pytest.approx(known["CHAIRs"], abs=1.0)
    assert found["CHAIRi"] == pytest.approx(known["CHAIRi"], abs=0.6)
    assert found["recall"] == pytest.approx(known["Recall"], abs=0.6)
    assert found["mentions"] == pytest.approx(known["objs"] / known["n"], rel=0.01)
    assert list(found)[-1] == "CHAIRi"
    assert found["length"] is not None


def test_ten_files_are_known() -> None:
    assert len(EXPECTED) == 10


def test_the_version_tells_which_pictures_were_chosen(tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", {"image_id": 569, "caption": "A kite."})
    other = write(tmp_path / "2.jsonl", {"image_id": "757", "text": "An elephant."})
    versions = {judge(one).version, judge(other).version}
    assert len(versions) == 2
    both = judge(one, other)
    assert both.version not in versions
    assert both.version.startswith("1+images=2:")
    assert both.metrics["CHAIRi"].value == 0


def test_empty_captions_hallucinate_nothing_and_have_no_rate(tmp_path: Path) -> None:
    rows = [{"image_id": image, "caption": ""} for image in (569, 757)]
    result = judge(write(tmp_path / "empty.jsonl", *rows))
    assert result.status == "complete"
    assert result.metrics["CHAIRi"].value is None
    assert result.metrics["CHAIRs"].value == 0
    assert result.metrics["recall"].value == 0
    assert any(flag.startswith("CHAIRi: n/a") for flag in result.flags)


def test_our_own_lines_choose_pictures_too(tmp_path: Path) -> None:
    row = {"id": "569", "answer": "A person, a kite and a dog."}
    result = judge(write(tmp_path / "own.jsonl", row))
    assert result.metrics["CHAIRi"].value == pytest.approx(100 / 3)
    assert result.coverage["expected"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image_id": 570, "caption": "A kite."}, "images that chair .* not have, such as '570'"),
        ({"image_id": 569}, r"captions\.jsonl, row 1 needs caption or text"),
        ({"caption": "A kite."}, r"captions\.jsonl, row 1 needs image_id"),
    ],
)
def test_what_is_no_caption_of_a_known_picture_is_named(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    with pytest.raises((DataError, EvaluationError), match=message):
        judge(write(tmp_path / "captions.jsonl", row))


def test_a_picture_that_is_described_twice_is_named(tmp_path: Path) -> None:
    row = {"image_id": 569, "caption": "A kite."}
    with pytest.raises(EvaluationError, match=r"row 2: '569' is answered twice"):
        judge(write(tmp_path / "twice.jsonl", row, row))


def test_a_damaged_truth_is_named(tmp_path: Path) -> None:
    (tmp_path / "chair").mkdir()
    truth = tmp_path / "chair/coco_gt_objects.json"
    captions = write(tmp_path / "c.jsonl", {"image_id": 1, "caption": "A kite."})
    for content, message in (
        ('{"1": "kite"}', "objects of '1' are no list of names"),
        ('{"one": ["kite"]}', "image 'one' is no number"),
        ("[]", "is no JSON object"),
    ):
        truth.write_text(content)
        with pytest.raises(DataError, match=message):
            judge(captions, data=DataFolder(tmp_path))
    truth.write_text('{"1": ["unicorn"]}')
    with pytest.raises(EvaluationError, match="'unicorn' is not in the synonym table"):
        judge(captions, data=DataFolder(tmp_path))


def test_the_audit_says_a_person_everywhere() -> None:
    benchmark, records = audit("chair", shipped_data())
    result = summarize(records, benchmark.card)
    assert len(records) == 3415
    assert result.scorer == "majority"
    assert result.metrics["CHAIRi"].value == pytest.approx(100 - 57.28, abs=0.01)
    assert result.controls.scores["empty caption"].metrics["CHAIRi"].value is None
    assert benchmark.version == "1"
