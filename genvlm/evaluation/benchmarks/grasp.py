"""GRASP: can this happen? Scenes of plain physics, plausible or not (Jassim et al. 2023).

https://arxiv.org/abs/2311.09048. `text` describes the scenes in words; `video` shows frames.
Every video is shown as `NUM_FRAMES` frames at even distances, the first and the last among them,
and the prompt, which is in the log, says so.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from genvlm.data.images import ImageFiles, RGBImage
from genvlm.data.sampled_frames import SampledFrames, sample_frame_paths
from genvlm.errors import DataError
from genvlm.evaluation.answers import yes_no
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, check_object, text_field
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

PARTS = ("text", "video")
DESCRIPTIONS, QUESTIONS = "grasp/level2_scene_descriptions.json", "grasp/level2.json"
FRAMES = "grasp"
NUM_FRAMES = 9
"""Of a video: 1 + 4 * 2, so that it also fits tokenizers of videos with 4 frames a latent one."""
VIDEO_FILES = (".mp4", ".webm", ".mkv", ".avi", ".mov", ".gif")


_SHOWN = f"These are {NUM_FRAMES} frames of a video, at even distances and in order."


class _Scene(NamedTuple):
    id: str
    concept: str
    prompt: str
    frames: Sequence[RGBImage]


def ask_grasp(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One yes-no question an item; yes is right where the name of the scene starts with P_.

    A video is a file DATA/grasp/<scene>.mp4, or a folder of its frames DATA/grasp/<scene>/*.png in
    natural order of their names (2.png before 10.png). A scene is P_ or IP_, a concept of
    level2.json, and where there are several videos _ and a number.

    Raises:
        DataError: no video, a folder with too few frames, or a concept that is not known.
    """
    card = load_card("grasp")
    scenes = list(_described(data) if part == "text" else _filmed(data, images))
    items = [
        AskedItem(
            id=scene.id,
            questions={
                "": Question(
                    item_id=scene.id,
                    images=scene.frames,
                    prompt=scene.prompt,
                )
            },
            group=scene.concept,
            target="yes" if scene.id.startswith("P_") else "no",
            tags=(f"concept: {scene.concept}",),
        )
        for scene in scenes
    ]
    name = DESCRIPTIONS if part == "text" else QUESTIONS
    changed = data.changed([name], card.files)
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=build_version(card, part=(part, ""), data=(changed, "")),
        parser=Parser("yes or no as a whole word, not both", _yes_or_no),
        controls={"always yes": {item.id: {"": "yes"} for item in items}},
    )


def _described(data: DataFolder) -> Iterator[_Scene]:
    where = data.root / DESCRIPTIONS
    found = check_object(data.json(DESCRIPTIONS), where)
    for scene in found:
        concept = _concept(scene)
        if concept is None:
            raise DataError(f"{where}: the scene {scene!r} starts with neither P_ nor IP_")
        yield _Scene(scene, concept, text_field(found, scene, where), ())


def _filmed(data: DataFolder, images: Path | None) -> Iterator[_Scene]:
    root = images or data.root / FRAMES
    where = data.root / QUESTIONS
    questions = check_object(data.json(QUESTIONS), where)
    found = sorted(p for p in root.glob("[!.]*") if p.is_dir() or p.suffix in VIDEO_FILES)
    if not found:
        raise DataError(f"{root} holds no video: {load_card('grasp').fetch}")
    for path in found:
        name = path.name if path.is_dir() else path.stem
        concept = _concept(name)
        if concept is None or concept not in questions:
            raise DataError(
                f"{path} is no scene: its name must be P_ or IP_ and a concept of {where}, "
                f"which are {', '.join(questions)}"
            )
        prompt = f"{_SHOWN} {text_field(questions, concept, where)}"
        yield _Scene(name, concept, prompt, _frames(path))


def _frames(path: Path) -> Sequence[RGBImage]:
    if not path.is_dir():
        return SampledFrames(path, NUM_FRAMES)
    return ImageFiles(sample_frame_paths(path, NUM_FRAMES), load_card("grasp").fetch)


def _concept(scene: str) -> str | None:
    truth, _, rest = scene.partition("_")
    return rest.split("_")[0] if truth in ("P", "IP") and rest else None


def _yes_or_no(raw: str, item: AskedItem, question: str) -> Parsed:
    said = yes_no(raw)
    return Parsed(None, "unparseable") if said is None else Parsed("yes" if said else "no")
