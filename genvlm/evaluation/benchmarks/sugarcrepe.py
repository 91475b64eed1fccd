"""SugarCrepe: a picture, its caption, and a fluent caption that is wrong in one thing.

Hsieh et al. 2023, https://arxiv.org/abs/2306.14610. Seven categories; pictures are COCO val2017.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from genvlm.data.images import ImageFiles, picture_path
from genvlm.errors import DataWarning, EvaluationError
from genvlm.evaluation.answers import numbered_option
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, parse_json, read_file
from genvlm.evaluation.predictions import Predictions, RawAnswer, add_answer, describe_files
from genvlm.evaluation.questions import AskedItem, Parsed, Parser, QuestionBenchmark
from genvlm.scoring.ngram import FoldItem
from genvlm.scoring.protocols import Grid, Question

CATEGORIES = (
    "add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj",
)  # fmt: skip
ORDERS = ("positive-first", "negative-first")
PROMPT = "Which caption best describes the image?\n(1) {}\n (2) {}\nOutput (1) or (2)."
"""The one that GPT-4V was asked with."""
REMOVED = frozenset(["swap_obj/108"])
"""Items of the paper that its authors have since removed; released predictions still have them."""


def build_sugarcrepe(data: DataFolder, part: str, images: Path | None) -> Benchmark:
    """Each item is a choice between its caption and the negative one; `part` is a category or "".

    Keys of the files are ids, with gaps; values that are no object are skipped. The n-gram control
    learns from the other categories: of a part, from those whose files are there. Fewer than all
    are said in a warning and in the version; without another one the control is left out.
    """
    card = load_card("sugarcrepe")
    present = [c for c in CATEGORIES if not part or c == part or data.has(_file(c))]
    if len(present) < len(CATEGORIES):
        _warn_of_missing(data, part, present)
    items = []
    for category, key, row in _rows(data, part):
        item_id = f"{category}/{key}"
        grid = Grid(
            item_id=item_id,
            images=ImageFiles([_picture(data, images, row, item_id)], card.fetch),
            texts=[row["caption"], row["negative_caption"]],
        )
        items.append(Item(grid=grid, group=row["filename"], target=0, tags=(category,)))
    natural = {
        f"{category}/{key}": FoldItem(
            fold=category,
            image=row["filename"],
            texts=[row["caption"], row["negative_caption"]],
            natural=[row["caption"]],
        )
        for one in (present if len(present) > 1 else ())
        for category, key, row in _rows(data, one)
    }
    version = _version(card.name, data, part, len(present))
    return Benchmark(card.name, tuple(items), card, version, natural=natural)


def ask_sugarcrepe(data: DataFolder, part: str, images: Path | None) -> QuestionBenchmark:
    """The same choice in words, with the options in both orders."""
    card = load_card("sugarcrepe-options")
    items = []
    for category, key, row in _rows(data, part):
        item_id = f"{category}/{key}"
        picture = ImageFiles([_picture(data, images, row, item_id)], card.fetch)
        captions = row["caption"], row["negative_caption"]
        questions = {
            order: Question(
                item_id=f"{item_id}/{order}",
                images=picture,
                prompt=PROMPT.format(*(captions if order == ORDERS[0] else captions[::-1])),
            )
            for order in ORDERS
        }
        items.append(
            AskedItem(
                id=item_id,
                questions=questions,
                group=row["filename"],
                target="positive",
                tags=(category,),
            )
        )
    controls = {
        "first option": {
            item.id: {"positive-first": "positive", "negative-first": "negative"} for item in items
        }
    }
    return QuestionBenchmark(
        name=card.name,
        items=tuple(items),
        card=card,
        version=_version(card.name, data, part),
        parser=Parser("number of an option in brackets", _chosen),
        controls=controls,
    )


def read_sugarcrepe(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """Answers in the form of the released GPT-4V results: one file for each order of options.

    Which order a file holds is told by its folder or name ("positive-first", "negative-first"), its
    category by its name.

    Raises:
        EvaluationError: neither order nor category can be told, or captions that are not those of
            the benchmark.
    """
    truth = {f"{category}/{key}": row for category, key, row in _rows(data, part)}
    answers: dict[str, list[RawAnswer]] = {}
    removed: set[str] = set()
    for path in paths:
        order = _told(path, ORDERS, "order of options")
        category = _told(path, CATEGORIES, "category")
        for key, value in parse_json(read_file(path), path).items():
            if not isinstance(value, dict):  # "accuracy" stands among the items
                continue
            item = f"{category}/{key}"
            if item in REMOVED and item not in truth:
                removed.add(item)
                continue
            row = truth.get(item)
            if row is not None and any(
                value.get(name) != row[name] for name in ("caption", "negative_caption")
            ):
                raise EvaluationError(
                    f"{path}: the captions of {key!r} are not those of the benchmark; the "
                    "predictions are of another version"
                )
            raw = RawAnswer(order, _free_form(value, f"{path}: {key!r}"))
            add_answer(answers, item, raw, str(path))
    info = describe_files(paths, column)
    if removed:
        note = f"{info.label}; {', '.join(removed)}, removed by the authors, left out"
        info = replace(info, label=note)
    return Predictions(info, answers=answers)


def _free_form(value: Mapping[str, Any], where: str) -> str:
    answer = value.get("answer")
    text = answer.get("free_form_answer") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise EvaluationError(f"{where}: needs answer.free_form_answer as a string")
    return text


def _rows(data: DataFolder, part: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (category, key, row)
        for category in ((part,) if part else CATEGORIES)
        for key, row in data.json(_file(category)).items()
        if isinstance(row, dict)
    ]


def _file(category: str) -> str:
    return f"sugarcrepe/{category}.json"


def _warn_of_missing(data: DataFolder, part: str, present: Sequence[str]) -> None:
    others = ", ".join(c for c in present if c != part)
    learns = (
        f"learns from {others} alone" if others else "has nothing to learn from: it is left out"
    )
    missing = ", ".join(_file(c) for c in CATEGORIES if c not in present)
    warnings.warn(
        f"{data.root} lacks {missing}: the n-gram control of {part} {learns}",
        DataWarning,
        stacklevel=3,
    )


def _picture(data: DataFolder, images: Path | None, row: Mapping[str, str], item: str) -> Path:
    folder = images or data.root / "sugarcrepe/images"
    return picture_path(folder, row["filename"], f"{data.root / 'sugarcrepe'}: item {item!r}")


def _version(name: str, data: DataFolder, part: str, ngram_files: int = len(CATEGORIES)) -> str:
    card = load_card(name)
    files = [_file(category) for category in ((part,) if part else CATEGORIES)]
    return build_version(
        card,
        part=(part, ""),
        data=(data.changed(files, card.files), ""),
        ngram_files=(ngram_files, len(CATEGORIES)),
    )


def _chosen(raw: str, item: AskedItem, question: str) -> Parsed:
    option = numbered_option(raw, 2)
    if isinstance(option, str):
        return Parsed(None, option)
    shown = ("positive", "negative") if question == ORDERS[0] else ("negative", "positive")
    return Parsed(shown[option])


def _told(path: Path, among: Sequence[str], what: str) -> str:
    found = [name for name in among if name in "/".join(path.parts[-2:])]
    if len(found) != 1:
        raise EvaluationError(
            f"{path}: its folder and name do not tell the {what}; one of {', '.join(among)} must "
            "be in them"
        )
    return found[0]
