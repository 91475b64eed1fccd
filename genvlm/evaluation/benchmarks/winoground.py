"""Winoground: two pictures, two captions of the same words (Thrush et al. 2022).

https://arxiv.org/abs/2204.03162. Pictures and captions are under a research licence and do not
ship; released scores can be judged without them.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genvlm.data.images import ImageFiles, picture_path
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import DataFolder, parse_jsonl, read_file
from genvlm.evaluation.predictions import Predictions, describe_files, number
from genvlm.scoring.protocols import Grid

NUM_ITEMS = 400
EXAMPLES = "winoground/examples.jsonl"
_LABEL = re.compile(r"(\d+)_c([01])_i([01])")


def build_winoground(data: DataFolder, part: str, images: Path | None) -> Benchmark:
    """400 grids. Without `winoground/examples.jsonl` of the gated release the captions are unknown
    and only predictions can be judged.

    Raises:
        DataError, EvaluationError: the file is damaged, or has not 400 examples.
    """
    card = load_card("winoground")
    folder = images or data.root / "winoground/images"
    if not data.has(EXAMPLES):
        rows: list[dict[str, Any]] = [
            {
                "id": k,
                "caption_0": "caption 0",
                "caption_1": "caption 1",
                "image_0": f"ex_{k}_img_0",
                "image_1": f"ex_{k}_img_1",
            }
            for k in range(NUM_ITEMS)
        ]
    else:
        rows = data.jsonl(EXAMPLES)
        if len({row["id"] for row in rows}) != NUM_ITEMS or len(rows) != NUM_ITEMS:
            raise EvaluationError(f"{data.root / EXAMPLES} has {len(rows)} examples, expected 400")
    items = []
    for row in rows:
        where = f"{data.root / EXAMPLES}: {row['id']}"
        names = (f"{row[name]}.png" for name in ("image_0", "image_1"))
        paths = [picture_path(folder, name, where) for name in names]
        grid = Grid(
            item_id=str(row["id"]),
            images=ImageFiles(paths, card.fetch),
            texts=[row["caption_0"], row["caption_1"]],
        )
        tags = tuple(t for t in (row.get("collapsed_tag"), row.get("tag")) if t)
        items.append(Item(grid=grid, group=str(row["id"]), target=None, tags=tags))
    known = data.has(EXAMPLES)
    changed = data.changed([EXAMPLES], card.files) if known else ""
    version = build_version(card, data=(changed, ""))
    return Benchmark(card.name, tuple(items), card, version, texts_known=known)


def read_winoground(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """Scores as JSONL of {"label": "<id>_c<caption>_i<image>", "score"}.

    Raises:
        EvaluationError: a label of another form, one that occurs twice, or no score.
    """
    cells: dict[str, dict[tuple[int, int], float]] = {}
    for path in paths:
        for number_of_line, row in enumerate(parse_jsonl(read_file(path), path), start=1):
            where = f"{path}, line {number_of_line}"
            found = _LABEL.fullmatch(str(row.get("label")))
            if not found:
                raise EvaluationError(
                    f"{where}: the label {row.get('label')!r} is not "
                    "of the form <id>_c<caption>_i<image>"
                )
            if "score" not in row:
                raise EvaluationError(f"{where} lacks 'score', and has {', '.join(row)}")
            place = int(found[3]), int(found[2])
            mine = cells.setdefault(found[1], {})
            if place in mine:
                raise EvaluationError(f"{where}: {found[0]} occurs twice; remove one")
            mine[place] = number(row["score"], where)
    scores = {}
    for item, mine in cells.items():
        nan = float("nan")  # an item with a missing cell fails
        scores[item] = [[mine.get((image, text), nan) for text in (0, 1)] for image in (0, 1)]
    return Predictions(describe_files(paths, column), scores)
