"""Captions end to end: the published numbers, own corpora, the forms of predictions."""

import json
from pathlib import Path

import pytest

from genvlm.config.assets import asset_path
from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation.catalog import audit, judge_predictions, shipped_data
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.results import Summary
from genvlm.evaluation.summary import summarize

REFERENCES = {
    "a": ["a dog runs over the grass", "a brown dog on a lawn"],
    "b": ["two red cars in a street"],
    "c": ["a cat sleeps on a chair"],
}
CAPTIONS = {"a": "a dog runs over the lawn", "b": "a red car in a street", "c": "a cat on a chair"}
Content = dict[str, object] | list[dict[str, object]]


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    (tmp_path / "captions").mkdir()
    (tmp_path / "captions/references.json").write_text(json.dumps(REFERENCES))
    return DataFolder(tmp_path)


def judge(name: str, path: Path, data: DataFolder) -> Summary:
    benchmark, records = judge_predictions(name, [path], data)
    return summarize(records, benchmark.card)


def values(result: Summary) -> list[float | None]:
    names = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D")
    return [result.metrics[name].value for name in names]


@pytest.mark.parametrize(
    ("part", "file", "known", "digits"),
    [
        (
            "clipscore",
            "clipscore_good_captions.json.gz",
            [0.6667, 0.4899, 0.3469, 0.0, 0.4280, 0.5637],
            4,
        ),
        (
            "nlgeval",
            "nlgeval_hyp.txt.gz",
            [0.550000, 0.428174, 0.284043, 0.201143, 0.522104, 1.242192],
            6,
        ),
    ],
)
def test_the_published_numbers_come_out(
    part: str, file: str, known: list[float], digits: int
) -> None:
    path = asset_path(f"eval/data/captions/{file}")
    result = judge(f"captions/{part}", path, shipped_data())
    assert result.status == "complete"
    assert result.version == f"1+part={part}"
    assert [round(value or 0.0, digits) for value in values(result)] == known
    assert list(result.metrics)[-1] == "CIDEr-D"
    assert all(m.interval is None or m.interval.high <= 20 for m in result.metrics.values())


def test_all_forms_of_predictions_of_an_own_corpus_agree(data: DataFolder) -> None:
    forms: dict[str, Content] = {
        "by-id.json": dict(CAPTIONS),
        "coco.json": [{"image_id": k, "caption": text} for k, text in CAPTIONS.items()],
    }
    results = []
    for name, content in forms.items():
        path = data.root / name
        path.write_text(json.dumps(content))
        results.append(values(judge("captions", path, data)))
    own = data.root / "own.jsonl"
    own.write_text("".join(json.dumps({"id": k, "answer": t}) + "\n" for k, t in CAPTIONS.items()))
    results.append(values(judge("captions", own, data)))
    assert results[0] == results[1] == results[2]
    assert results[0][-1] is not None


def test_a_missing_caption_is_counted_and_one_too_many_is_an_error(data: DataFolder) -> None:
    path = data.root / "captions.json"
    path.write_text(json.dumps({"a": "a dog"}))
    result = judge("captions", path, data)
    assert result.status == "incomplete"
    assert result.coverage["failed"] == 2
    path.write_text(json.dumps({**CAPTIONS, "d": "a bird"}))
    with pytest.raises(EvaluationError, match="such as 'd'"):
        judge("captions", path, data)


def test_lines_without_ids_are_for_nlgeval_alone(data: DataFolder) -> None:
    path = data.root / "lines.txt"
    path.write_text("a dog\na car\na cat\n")
    with pytest.raises(DataError, match=r"lines\.txt: lines of text have no id"):
        judge("captions", path, data)
    with pytest.raises(EvaluationError, match="such as '3'"):
        judge("captions/nlgeval", path, shipped_data())


@pytest.mark.parametrize(
    ("references", "message"),
    [
        ({"a": []}, "'a' needs a list of one or more references"),
        ({"a": "a dog"}, "'a' needs a list of one or more references"),
        ([["a dog"]], "no JSON object"),
    ],
)
def test_damaged_references_are_named(data: DataFolder, references: object, message: str) -> None:
    (data.root / "captions/references.json").write_text(json.dumps(references))
    with pytest.raises(DataError, match=rf"references\.json.*{message}"):
        audit("captions", data)


def test_a_caption_that_is_no_text_is_named(data: DataFolder) -> None:
    path = data.root / "captions.json"
    path.write_text(json.dumps({"a": ["a dog"]}))
    with pytest.raises(DataError, match=r"captions\.json needs a as text"):
        judge("captions", path, data)


def test_the_audit_tells_captions_of_other_items(data: DataFolder) -> None:
    benchmark, records = audit("captions", data)
    assert {r.answers[0].raw for r in records} == {texts[0] for texts in REFERENCES.values()}
    assert all(r.answers[0].raw not in REFERENCES[r.id] for r in records)
    assert summarize(records, benchmark.card).metrics["BLEU-4"].value == 0


def test_a_corpus_of_one_has_nothing_to_audit(data: DataFolder) -> None:
    (data.root / "captions/references.json").write_text('{"a": ["a dog"]}')
    with pytest.raises(EvaluationError, match="captions has no control"):
        audit("captions", data)
