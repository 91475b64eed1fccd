"""GRASP end to end: scenes in words, frames of videos, an answerer that always says yes."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genvlm.config.assets import asset_path
from genvlm.data.images import save_image
from genvlm.errors import DataError, EvaluationError
from genvlm.evaluation.catalog import audit, judge_predictions, shipped_data
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.questions import QuestionBenchmark, run_questions
from genvlm.evaluation.summary import summarize
from genvlm.scoring.protocols import Answer, Question, ScorerInfo


class SaysYes:
    info = ScorerInfo(name="yes", unit="arbitrary")

    def __init__(self) -> None:
        self.frames: list[int] = []

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.frames += [len(list(question.images)) for question in questions]
        return [Answer("Yes, it is.") for _ in questions]


def write_gif(frames: np.ndarray, path: Path) -> None:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=100)


@pytest.fixture
def videos(tmp_path: Path) -> DataFolder:
    (tmp_path / "grasp").mkdir()
    shutil.copy(asset_path("eval/data/grasp/level2.json.gz"), tmp_path / "grasp")
    for name in ("P_Gravity_1", "IP_Gravity_1", "P_Inertia2", "IP_Inertia2"):
        (tmp_path / "grasp" / name).mkdir()
        for k in range(17):
            save_image(np.full((4, 4, 3), k, np.uint8), tmp_path / "grasp" / name / f"{k:02}.png")
    return DataFolder(tmp_path)


def test_always_yes_gets_100_and_0_and_50() -> None:
    benchmark, records = audit("grasp/text", shipped_data())
    result = summarize(records, benchmark.card)
    assert [metric.value for metric in result.metrics.values()] == [100, 0, 50]
    assert list(result.metrics) == ["recall", "specificity", "balanced"]
    assert len(records) == 28
    assert benchmark.version == "2+part=text"


def test_scenes_in_words_are_asked_about_no_picture() -> None:
    benchmark, _ = audit("grasp/text", shipped_data())
    assert isinstance(benchmark, QuestionBenchmark)
    answerer = SaysYes()
    records = run_questions(benchmark, answerer, shuffled=False, blind=False)
    assert set(answerer.frames) == {0}
    assert summarize(records, benchmark.card).metrics["balanced"].value == 50
    truths = {item.id: item.target for item in benchmark.items}
    assert truths["P_Gravity"] == "yes"
    assert truths["IP_Gravity"] == "no"


def test_videos_are_folders_of_frames(videos: DataFolder) -> None:
    benchmark, _ = audit("grasp/video", videos)
    assert isinstance(benchmark, QuestionBenchmark)
    prompts = {item.id: item.questions[""].prompt for item in benchmark.items}
    assert "trajectory of the ball" in prompts["P_Gravity_1"]
    assert "final position" in prompts["IP_Inertia2"]
    assert benchmark.version == "2+part=video"
    answerer = SaysYes()
    records = run_questions(benchmark, answerer)
    assert answerer.frames[0] == 9
    asked = benchmark.items[0].questions[""]
    assert [int(frame[0, 0, 0]) for frame in asked.images] == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    assert records[0].answers[0].prompt == asked.prompt
    assert asked.prompt.startswith("These are 9 frames of a video, at even distances")
    result = summarize(records, benchmark.card)
    assert result.categories["concept: Gravity"]["balanced"].value == 50


def test_frames_without_leading_zeros_are_in_the_order_of_their_numbers(
    videos: DataFolder,
) -> None:
    folder = videos.root / "grasp/P_Gravity_1"
    for frame in folder.iterdir():
        frame.rename(folder / f"{int(frame.stem)}.png")
    benchmark, _ = audit("grasp/video", videos)
    assert isinstance(benchmark, QuestionBenchmark)
    images = {item.id: item.questions[""].images for item in benchmark.items}["P_Gravity_1"]
    assert [int(frame[0, 0, 0]) for frame in images] == [0, 2, 4, 6, 8, 10, 12, 14, 16]


def test_videos_are_files_of_which_as_many_frames_are_sampled(videos: DataFolder) -> None:
    shutil.rmtree(videos.root / "grasp/P_Gravity_1")
    frames = np.repeat(np.arange(0, 240, 8, dtype=np.uint8), 16 * 16 * 3)
    write_gif(frames.reshape(-1, 16, 16, 3)[:25], videos.root / "grasp/P_Gravity_1.gif")
    write_gif(frames.reshape(-1, 16, 16, 3)[:5], videos.root / "grasp/P_Gravity_2.gif")
    benchmark, _ = audit("grasp/video", videos)
    assert isinstance(benchmark, QuestionBenchmark)
    images = {item.id: item.questions[""].images for item in benchmark.items}
    found = [int(frame[0, 0, 0]) for frame in images["P_Gravity_1"]]
    np.testing.assert_allclose(found, np.arange(0, 200, 24), atol=4)
    assert len(images["P_Gravity_1"]) == 9
    records = {r.id: r for r in run_questions(benchmark, SaysYes(), shuffled=False)}
    assert records["P_Gravity_1"].status == "answered"
    assert records["P_Gravity_2"].status == "failed"
    assert "5 frames are too few to sample 9" in records["P_Gravity_2"].problem


def test_answers_given_elsewhere_are_lines_of_ours(tmp_path: Path) -> None:
    ids = shipped_data().json("grasp/level2_scene_descriptions.json")
    path = tmp_path / "answers.jsonl"
    said = {key: "yes" if key.startswith("P_") else "no" for key in ids} | {"P_Gravity": "maybe"}
    path.write_text("".join(json.dumps({"id": k, "answer": a}) + "\n" for k, a in said.items()))
    benchmark, records = judge_predictions("grasp/text", [path], shipped_data())
    result = summarize(records, benchmark.card)
    assert result.metrics["specificity"].value == 100
    assert result.metrics["recall"].value == pytest.approx(100 * 13 / 14)
    assert result.coverage["unparseable"] == 1
    path.write_text("[]")
    with pytest.raises(EvaluationError, match=r"answers\.jsonl is not in the form"):
        judge_predictions("grasp/text", [path], shipped_data())


def test_folders_that_are_no_scene_are_named(videos: DataFolder) -> None:
    with pytest.raises(DataError, match=r"holds no video.*extract frames"):
        audit("grasp/video", shipped_data())
    (videos.root / "grasp/P_Magic_1").mkdir()
    with pytest.raises(DataError, match=r"P_Magic_1 is no scene.*Gravity"):
        audit("grasp/video", videos)
    (videos.root / "grasp/P_Magic_1").rmdir()
    (videos.root / "grasp/P_Gravity_2").mkdir()
    with pytest.raises(DataError, match=r"P_Gravity_2 is a folder without frames"):
        audit("grasp/video", videos)


def test_a_scene_that_is_neither_plausible_nor_implausible_is_named(tmp_path: Path) -> None:
    (tmp_path / "grasp").mkdir()
    path = tmp_path / "grasp/level2_scene_descriptions.json"
    path.write_text('{"Gravity": "Is it?"}')
    with pytest.raises(DataError, match="scene 'Gravity' starts with neither"):
        audit("grasp/text", DataFolder(tmp_path))
