"""Pictures (or videos) and texts that people have rated: the judges of text-to-image alignment.

`vqascore` and `clipscore` are two scorers with one question to them: how well do their scores agree
with people? Lin et al. 2024, https://arxiv.org/abs/2404.01291; Hessel et al. 2021,
https://arxiv.org/abs/2104.08718. Released here: T2VScore's ratings of 2,543 generated videos (Wu et
al. 2024, https://arxiv.org/abs/2401.07781).
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genvlm.data.images import ImageFiles, inner_path, picture_path
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.correlation import mean_by_key
from genvlm.evaluation.data_folder import DataFolder, parse_csv, read_file
from genvlm.evaluation.predictions import Predictions, add_once, describe_files, number
from genvlm.scoring.protocols import Grid

T2V, T2V_RESULTS = "t2vscore/t2vscore_alignment_score.json", "t2vscore/t2vscore_results.csv"
PAIRS = "pairs.jsonl"


def build_vqascore(data: DataFolder, part: str, images: Path | None) -> Benchmark:
    """Part t2vscore: videos with ratings (predictions only). Part pairs: your own file."""
    return _videos(data) if part == "t2vscore" else _pairs("vqascore", data, images)


def build_clipscore(data: DataFolder, part: str, images: Path | None) -> Benchmark:
    """`pairs.jsonl` of {"id", "image", "text", "human"?} lines; pictures lie beside it."""
    return _pairs("clipscore", data, images)


def read_ratings(
    data: DataFolder, part: str, paths: Sequence[Path], column: str | None
) -> Predictions:
    """T2VScore's CSV: model_name, video_id, and a column for each system.

    Raises:
        EvaluationError: no such column; those there are are named.
    """
    scores: dict[str, list[list[float]]] = {}
    for path in paths:
        content = read_file(path)
        for row in parse_csv(content, path, ("model_name", "video_id")):
            if column not in row:
                systems = [name for name in row if name not in ("model_name", "video_id", "prompt")]
                raise EvaluationError(
                    f"{path}: name one of its systems with --column: {', '.join(systems)}"
                )
            item = f"{row['model_name']}/{row['video_id']}"
            add_once(scores, item, [[number(row[column], f"{path}: {item!r}")]], str(path))
    return Predictions(describe_files(paths, column), scores)


def _videos(data: DataFolder) -> Benchmark:
    card = load_card("vqascore")
    rated = data.json(T2V)
    ratings = mean_by_key(
        ((model, video), float(value))
        for video, entry in rated.items()
        for model, values in entry["models"].items()
        for value in values
    )
    videos = data.root / "t2vscore"
    reason = "T2VScore's videos are judged from released scores alone: give --predictions"
    items = [
        Item(
            grid=Grid(
                item_id=f"{model}/{video}",
                images=ImageFiles(
                    [inner_path(videos, f"{model}/{video}.mp4", data.root / T2V, "video")],
                    reason,
                ),
                texts=[rated[video]["prompt"]],
            ),
            group=video,
            target={"human": human},
            tags=(f"model: {model}",),
        )
        for (model, video), human in ratings.items()
    ]
    changed = data.changed([T2V], card.files)
    version = build_version(card, part=("t2vscore", ""), data=(changed, ""))
    return Benchmark(card.name, tuple(items), card, version)


def _pairs(name: str, data: DataFolder, images: Path | None) -> Benchmark:
    card = load_card(name)
    rows = data.jsonl(PAIRS)
    where = data.root / PAIRS
    items = [_pair(row, number, where, images or data.root) for number, row in enumerate(rows, 1)]
    rated = sum(item.target["human"] is not None for item in items)
    if rated not in (0, len(items)):
        raise EvaluationError(
            f"{where}: {rated} of {len(items)} lines have a 'human' rating; give it to all or none"
        )
    version = build_version(card, part=("pairs", ""), data=(data.changed([PAIRS], {}), ""))
    return Benchmark(card.name, tuple(items), card, version)


def _pair(row: dict[str, Any], number: int, where: Path, folder: Path) -> Item:
    for key in ("id", "image", "text"):
        if not isinstance(row.get(key), str):
            raise EvaluationError(f"{where}, line {number}: {key!r} is missing or no string")
    human = row.get("human")
    is_number = isinstance(human, (int, float)) and not isinstance(human, bool)
    if human is not None and not (is_number and math.isfinite(human)):
        raise EvaluationError(f"{where}, line {number}: human is {json.dumps(human)}, no number")
    path = picture_path(folder, row["image"], f"{where}, line {number}")
    grid = Grid(item_id=row["id"], images=ImageFiles([path]), texts=[row["text"]])
    target = {"human": None if human is None else float(human)}
    return Item(grid=grid, group=row["image"], target=target, tags=())
