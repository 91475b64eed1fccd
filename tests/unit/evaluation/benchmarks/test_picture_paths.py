"""Names of pictures in the files of every benchmark stay inside the folder of pictures."""

import json
from pathlib import Path
from typing import Any

import pytest

from genvlm.errors import DataError
from genvlm.evaluation.catalog import find_benchmark
from genvlm.evaluation.data_folder import DataFolder

OUTSIDE = "../../secret"
QUESTION = {"question_id": 1, "text": "Is there a dog in the image?", "label": "yes"}
BOX = {
    "bbox_x": 0,
    "bbox_y": 0,
    "bbox_w": 2,
    "bbox_h": 2,
    "true_caption": "a",
    "false_caption": "b",
}
PROBLEM = {"question": "?", "choices": ["a", "b"], "answer": 0, "image": "x", "split": "test"}
DSG = (
    f"item_id,proposition_id,dependency,question_natural_language\n{OUTSIDE},1,0,Is there a dog?\n"
)
WINOGROUND = [
    {"id": k, "caption_0": "a", "caption_1": "b", "image_0": OUTSIDE, "image_1": "x"}
    for k in range(400)
]


@pytest.mark.filterwarnings("ignore:.*the n-gram control")
@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        (
            "sugarcrepe/add_att",
            "sugarcrepe/add_att.json",
            {"0": {"filename": OUTSIDE, "caption": "a", "negative_caption": "b"}},
        ),
        ("pope/random", "pope/coco_pope_random.json", {**QUESTION, "image": OUTSIDE}),
        (
            "tifa",
            "tifa/human_annotations_with_scores.json",
            {"0": {"image_path": OUTSIDE, "text": "a", "text_id": "t", "human_avg": 1}},
        ),
        (
            "tifa-questions",
            "tifa/question_answers.json",
            [{"id": OUTSIDE, "question": "?", "choices": ["a"], "answer": "a"}],
        ),
        (
            "winoground",
            "winoground/examples.jsonl",
            "\n".join(json.dumps(row) for row in WINOGROUND),
        ),
        (
            "aro/vg-relation",
            "aro/visual_genome_relation.json",
            [{**BOX, "image_path": OUTSIDE, "relation_name": "on"}],
        ),
        ("clipscore", "pairs.jsonl", {"id": "1", "image": OUTSIDE, "text": "a"}),
        ("captions", "captions/references.json", {OUTSIDE: ["a"]}),
        ("scienceqa", "scienceqa/problems.json", {OUTSIDE: PROBLEM}),
        ("dsg/1k", "dsg/dsg-1k-anns.csv", DSG),
    ],
)
def test_a_picture_outside_the_folder_is_refused(
    tmp_path: Path, name: str, file: str, content: Any
) -> None:
    path = tmp_path / "data" / file
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    source, part = find_benchmark(name)
    for build in (source.build, source.ask):
        if build is not None:
            with pytest.raises(DataError, match=r"secret.*' must be a path inside .*images"):
                build(DataFolder(tmp_path / "data"), part, tmp_path / "images")
