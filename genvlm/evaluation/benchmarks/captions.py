"""Captions against references: BLEU, ROUGE-L and CIDEr-D of any corpus in DATA/captions.

Two tiny corpora with published numbers ship: the examples of clipscore and of nlg-eval.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from genvlm.data.images import ImageFiles, picture_path
from genvlm.errors import DataError
from genvlm.evaluation.benchmark import build_version, derange
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import (
    DataFolder,
    check_object,
    parse_json,
    parse_lines,
    read_file,
    read_rows,
    text_field,
)
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.protocols import Question

PARTS = ("clipscore", "nlgeval")
PROMPT = "Describe this image in one sentence."
MAX_NEW_TOKENS = 64
_FILES = {
    "": ["captions/references.json"],
    "clipscore": ["captions/clipscore_refs.json"],
    "nlgeval": ["captions/nlgeval_ref1.txt", "captions/nlgeval_ref2.txt"],
}


def ask_captions(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """One caption an item; without a part the corpus is DATA/captions/references.json.

    The pictures of an own corpus are `<id>.jpg`, or `<id>` where the id ends in .jpg or .png.
    """
    card = load_card("captions")
    folder = images or data.root / "captions/images"
    items = [
        AskedItem(
            id=key,
            questions={
                "": Question(
                    item_id=key,
                    images=ImageFiles(
                        [picture_path(folder, _file_name(key), data.root / _FILES[part][0])],
                        card.fetch,
                    ),
                    prompt=PROMPT,
                    max_new_tokens=MAX_NEW_TOKENS,
                )
            },
            group=key,
            target=references,
        )
        for key, references in _references(data, part).items()
    ]
    changed = data.changed(_FILES[part], card.files)
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=build_version(card, part=(part, ""), data=(changed, "")),
        parser=Parser("the whole text", lambda raw, item, question: Parsed(raw)),
        controls={} if len(items) < 2 else {"reference of another": _exchanged(items)},
    )


def read_captions(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """Captions as JSON {"id": "caption"}, or as COCO's results [{"image_id", "caption"}].

    Those of nlgeval may be lines of text, because its published files have no other ids.
    """
    answers: dict[str, list[RawAnswer]] = {}
    for path in paths:
        for where, key, caption in _captions(part, path):
            add_answer(answers, key, RawAnswer("", caption), where)
    return Predictions(describe_files(paths, column), answers=answers)


def _captions(part: str, path: Path) -> list[tuple[str, str, str]]:
    """Place, id and caption."""
    if path.name.removesuffix(".gz").endswith(".txt"):
        if part != "nlgeval":
            raise DataError(
                f"{path}: lines of text have no id, and only captions/nlgeval is counted by "
                'lines: write JSON {"id": "caption"}'
            )
        lines = parse_lines(read_file(path), path)
        return [(f"{path}, line {k}", str(k), line) for k, line in enumerate(lines, start=1)]
    content = read_file(path)
    if content.lstrip().startswith(b"{"):
        found = check_object(parse_json(content, path), path)
        return [(str(path), key, text_field(found, key, path)) for key in found]
    return [
        (where, text_field(row, ("image_id", "id"), where), text_field(row, "caption", where))
        for where, row in read_rows(path)
    ]


def _references(data: DataFolder, part: str) -> dict[str, list[str]]:
    if part == "nlgeval":
        columns = [data.lines(name) for name in _FILES[part]]
        if len({len(lines) for lines in columns}) != 1:
            raise DataError(f"{data.root}: {' and '.join(_FILES[part])} differ in length")
        rows = zip(*columns, strict=True)
        return {str(number): list(references) for number, references in enumerate(rows, start=1)}
    name = _FILES[part][0]
    found: Mapping[str, list[str]] = check_object(data.json(name), data.root / name)
    for key, references in found.items():
        is_list = isinstance(references, list) and all(isinstance(r, str) for r in references)
        if not is_list or not references:
            raise DataError(f"{data.root / name}: {key!r} needs a list of one or more references")
    return dict(found)


def _exchanged(items: Sequence[AskedItem]) -> dict[str, dict[str, str | None]]:
    partners = derange([item.group for item in items])
    return {
        item.id: {"": items[other].target[0]} for item, other in zip(items, partners, strict=True)
    }


def _file_name(key: str) -> str:
    return key if key.lower().endswith((".jpg", ".jpeg", ".png")) else f"{key}.jpg"
