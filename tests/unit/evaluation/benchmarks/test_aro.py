"""ARO in the official format, on miniatures: crops, constant models, averages."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genvlm.data.images import save_image
from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation.benchmark import Benchmark, run_benchmark
from genvlm.evaluation.catalog import audit, judge_predictions
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.summary import summarize
from genvlm.scoring.controls import ConstantScorer
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores

FILES = {
    "vg-relation": "visual_genome_relation.json",
    "vg-attribution": "visual_genome_attribution.json",
    "coco-order": "coco_order.json",
    "flickr-order": "flickr_order.json",
}


class RedIsFirst:
    """Prefers the text "the red ..." on pictures that are red all over."""

    info = ScorerInfo(name="red", unit="arbitrary")

    def score(self, grids: list[Grid]) -> list[Scores]:
        return [
            Scores(
                np.array(
                    [
                        [
                            float(text.startswith("the red") == bool((image == (255, 0, 0)).all()))
                            for text in grid.texts
                        ]
                        for image in grid.images
                    ]
                )
            )
            for grid in grids
        ]


def row(k: int, **more: Any) -> dict[str, Any]:
    """A pair whose box is the red quarter of the picture."""
    return {
        "image_path": f"{k}.png",
        "bbox_x": 4, "bbox_y": 2, "bbox_w": 4, "bbox_h": 2,
        "true_caption": "the red thing is on the wall",
        "false_caption": "the wall is on the red thing",
        "relation_name": "on",
        "attributes": ["red", "white"],
        **more,
    }  # fmt: skip


def order(k: int) -> dict[str, Any]:
    texts = [f"the red thing {k} lies here", *(f"shuffle {n} of {k}" for n in range(4))]
    return {"image": f"{k}.png", "caption_options": texts}


def write(root: Path, part: str, rows: list[dict[str, Any]]) -> DataFolder:
    (root / "aro/images").mkdir(parents=True, exist_ok=True)
    (root / f"aro/{FILES[part]}").write_text(json.dumps(rows))
    picture = np.zeros((4, 8, 3), np.uint8)
    picture[2:, 4:] = (255, 0, 0)
    for k in range(3):
        save_image(picture, root / f"aro/images/{k}.png")
    return DataFolder(root)


def build(part: str, data: DataFolder) -> Benchmark:
    benchmark, _ = audit(f"aro/{part}", data)
    assert isinstance(benchmark, Benchmark)
    return benchmark


@pytest.mark.parametrize("part", FILES)
def test_a_constant_model_gets_nothing_in_either_half(tmp_path: Path, part: str) -> None:
    """The official argmax gives it 0 in the pairs and 100 in the orders: the first text is false
    there and true here."""
    rows = [order(k) if part.endswith("order") else row(k) for k in range(3)]
    benchmark = build(part, write(tmp_path, part, rows))
    records = run_benchmark(benchmark, ConstantScorer(), shuffled=False)
    result = summarize(records, benchmark.card)
    assert result.metrics["accuracy"].value == 0
    assert result.metrics["accuracy"].half == pytest.approx(20 if part.endswith("order") else 50)
    # The true text is shown in several places.
    assert all(item.target == 0 for item in benchmark.items)
    assert all(sorted(r.text_order) == list(range(len(r.text_order))) for r in records)


def test_pictures_are_cropped_to_the_box(tmp_path: Path) -> None:
    benchmark = build("vg-relation", write(tmp_path, "vg-relation", [row(k) for k in range(3)]))
    image = benchmark.items[0].grid.images[0]
    assert image.shape == (2, 4, 3)
    assert (image == (255, 0, 0)).all()
    result = summarize(run_benchmark(benchmark, RedIsFirst()), benchmark.card)
    assert result.metrics["macro accuracy"].value == 100


def test_a_box_outside_its_picture_fails_that_item_alone(tmp_path: Path) -> None:
    rows = [row(0), row(1), row(2, bbox_w=5)]
    benchmark = build("vg-relation", write(tmp_path, "vg-relation", rows))
    records = run_benchmark(benchmark, RedIsFirst(), shuffled=False)
    assert [r.status for r in records] == ["answered", "answered", "failed"]
    assert "2.png has 8x4 pixels, and its box (left 4, top 2, width 5" in records[2].problem


def test_the_average_is_over_relations(tmp_path: Path) -> None:
    rows = [
        row(0),
        row(1),
        row(2),
        row(0, relation_name="under", true_caption="a", false_caption="b"),
    ]
    data = write(tmp_path, "vg-relation", rows)
    ids = [item.id for item in build("vg-relation", data).items]
    assert ids[0] == "0.png/4,2,4,2/the red thing is on the wall"
    path = tmp_path / "scores.jsonl"
    lines = [{"id": key, "scores": [[1, 0] if k < 3 else [0, 1]]} for k, key in enumerate(ids)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    benchmark, records = judge_predictions("aro/vg-relation", [path], data)
    result = summarize(records, benchmark.card)
    assert result.metrics["accuracy"].value == 75
    assert result.metrics["macro accuracy"].value == 50
    assert result.benchmark == "aro-vg-relation"


def test_rare_pairs_of_attributes_are_left_out_and_named(tmp_path: Path) -> None:
    common = [row(k % 3, bbox_w=1 + k % 4, true_caption=f"the red {k}") for k in range(25)]
    rare = [row(k, attributes=["old", "new"], true_caption="a") for k in range(3)]
    data = write(tmp_path, "vg-attribution", common + rare)
    path = tmp_path / "scores.jsonl"
    items = build("vg-attribution", data).items
    lines = [
        {"id": item.id, "scores": [[0, 1] if "old" in item.tags[0] else [1, 0]]} for item in items
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    benchmark, records = judge_predictions("aro/vg-attribution", [path], data)
    result = summarize(records, benchmark.card)
    assert result.metrics["macro accuracy"].value == 100
    assert result.metrics["accuracy"].value == pytest.approx(100 * 25 / 28)
    assert any("attributes: old_new has 3 items, fewer than 25" in f for f in result.flags)


def test_equal_rows_keep_apart(tmp_path: Path) -> None:
    benchmark = build("vg-relation", write(tmp_path, "vg-relation", [row(0), row(0), row(1)]))
    assert benchmark.items[1].id == f"{benchmark.items[0].id}#2"


def test_the_orders_are_told_apart_by_the_version(tmp_path: Path) -> None:
    versions = [
        build(part, write(tmp_path, part, [order(k) for k in range(3)])).version
        for part in ("coco-order", "flickr-order")
    ]
    assert versions[0].startswith("1+part=coco-order+data=")
    assert versions[1].startswith("1+part=flickr-order+data=")


@pytest.mark.parametrize(
    ("part", "rows", "message"),
    [
        ("vg-relation", [row(0, bbox_x=None)], "entry 1 needs bbox_x, .* as whole numbers"),
        ("vg-relation", [row(0), row(1, relation_name=None)], "entry 2 needs relation_name"),
        ("vg-attribution", [row(0, attributes=["red"])], "entry 1 needs two attributes"),
        ("coco-order", [{"image": "0.png", "caption_options": ["a"]}], "entry 1 needs caption_opt"),
        ("coco-order", [["a"]], "entry 1 is no JSON object"),
        ("coco-order", {"image": "0.png"}, r"coco_order\.json is no list"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, part: str, rows: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(part, write(tmp_path, part, rows))


def test_a_part_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="aro/vg-relation"):
        audit("aro", DataFolder(tmp_path))
    with pytest.raises(DataError, match="visual_genome_relation"):
        audit("aro/vg-relation", DataFolder(tmp_path))
