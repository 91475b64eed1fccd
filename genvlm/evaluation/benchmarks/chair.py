"""CHAIR: objects of a description that are not in the picture (Rohrbach et al. 2018).

https://arxiv.org/abs/1809.02156. Pictures are COCO val2014.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from genvlm.data.images import ImageFiles
from genvlm.errors import DataError
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, check_object, read_rows, text_field
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

TRUTH = "chair/coco_gt_objects.json"
PROMPT = "Describe this image."
MAX_NEW_TOKENS = 512


def ask_chair(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One description an item, of every picture whose objects are known."""
    card = load_card("chair")
    folder = images or data.root / "chair/images"
    items = [
        AskedItem(
            id=image,
            questions={
                "": Question(
                    item_id=image,
                    images=ImageFiles([folder / _file_name(image)], card.fetch),
                    prompt=PROMPT,
                    max_new_tokens=MAX_NEW_TOKENS,
                )
            },
            group=image,
            target=objects,
        )
        for image, objects in _truth(data).items()
    ]
    named = Counter(name for item in items for name in item.target)
    most_common = min(named, key=lambda name: (-named[name], name), default="thing")
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=build_version(card, data=(data.changed([TRUTH], card.files), "")),
        parser=Parser("the whole text", lambda raw, item, question: Parsed(raw)),
        controls={
            "majority": {item.id: {"": f"A {most_common}."} for item in items},
            "empty caption": {item.id: {"": ""} for item in items},
        },
    )


def read_chair(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """Descriptions as JSON lines or a JSON list of {"image_id", "caption" or "text"}."""
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        for where, row in read_rows(path):
            text = text_field(row, ("caption", "text"), where)
            add_answer(answers, text_field(row, "image_id", where), RawAnswer("", text), where)
    return Predictions(describe_files(paths, column), answers=answers)


def _truth(data: DataFolder) -> dict[str, list[str]]:
    found = check_object(data.json(TRUTH), data.root / TRUTH)
    for image, objects in found.items():
        if not isinstance(objects, list) or not all(isinstance(name, str) for name in objects):
            raise DataError(f"{data.root / TRUTH}: the objects of {image!r} are no list of names")
    return {image: sorted(objects) for image, objects in found.items()}


def _file_name(image: str) -> str:
    if not image.isdecimal():
        raise DataError(f"{TRUTH}: the image {image!r} is no number of COCO")
    return f"COCO_val2014_{int(image):012d}.jpg"
