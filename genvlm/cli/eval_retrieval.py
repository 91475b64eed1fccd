"""`genvlm eval retrieval`: pictures found by their captions and captions by their pictures."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.eval_run import CACHE_FILE, SCORING_METHODS
from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import (
    Subparsers,
    add_command,
    add_device_option,
    positive,
    progress_bar,
)

if TYPE_CHECKING:
    from genvlm.evaluation.retrieval import Recall
    from genvlm.studies.retrieval import RetrievalResult

RESULTS_FILE = "results.json"


def add_parsers(actions: Subparsers) -> None:
    """Declare the action."""
    parser = add_command(
        actions,
        "retrieval",
        run,
        summary="Rank every caption of a gallery for each picture, and every picture for each "
        "caption: recall at 1, 5 and 10, median rank.",
        example="genvlm eval retrieval --model runs/demo/model --out runs/demo/eval/retrieval",
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="model folder, of genvlm or of transformers"
    )
    parser.add_argument(
        "--captions", type=Path,
        help="captions.jsonl or its folder; a picture may have several lines. Default: scenes of "
        "icons that never stood together in training",
    )  # fmt: skip
    parser.add_argument(
        "--method", nargs="+", default=[], choices=SCORING_METHODS,
        help="what ranks captions and what ranks pictures, or one for both; default: of our "
        "transformer log p(image | text) and log p(text | image), else the model's own",
    )  # fmt: skip
    parser.add_argument(
        "--num", type=positive,
        help="pictures of the gallery; cost grows with its square. Default: all, or 200 scenes",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for results.json, and a cache of scores"
    )
    parser.add_argument("--json", action="store_true", help="print results.json and nothing else")
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> None:
    """Rank, write `results.json` and print a table."""
    from genvlm.nn.whole_files import write_whole
    from genvlm.scoring.cache import CachedScorer, ValueCache
    from genvlm.studies.retrieval import (
        NUM_SCENES,
        Directions,
        captions_gallery,
        open_directions,
        retrieval_json,
        run_retrieval,
        scene_gallery,
    )

    check_output_folder(arguments.out)
    if arguments.captions is None:
        gallery = scene_gallery(arguments.num or NUM_SCENES)
    else:
        gallery = captions_gallery(arguments.captions, arguments.num)
    directions = open_directions(arguments.model, arguments.method, device=arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    cache = ValueCache(arguments.out / CACHE_FILE)
    cached = {scorer: CachedScorer(scorer, cache) for scorer in directions}
    directions = Directions(*(cached[scorer] for scorer in directions))
    with progress_bar("retrieval") as bar:
        result = run_retrieval(gallery, directions, bar)
    content = retrieval_json(result)
    write_whole(arguments.out / RESULTS_FILE, json.dumps(content, indent=1))
    print(f"ranks of every query in {arguments.out / RESULTS_FILE}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(content))
    else:
        _print(result)


def _print(result: "RetrievalResult") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from genvlm.evaluation.retrieval import CUTOFFS

    gallery = result.gallery
    title = f"{gallery.name}: {len(gallery.image_ids)} pictures, {len(gallery.texts)} captions"
    columns = [f"recall at {cutoff}, %" for cutoff in CUTOFFS]
    table = Table("", *columns, "median rank", title=escape(title))
    for name, ranked in result.retrieval._asdict().items():
        recalls = [ranked.recall(cutoff) for cutoff in CUTOFFS]
        cells = [_cell(recall) for recall in recalls]
        table.add_row(name.replace("_", " "), *cells, f"{ranked.median_rank:g}", style="bold")
        table.add_row("  chance", *[f"{recall.chance:.1f}" for recall in recalls], "")
    console = Console()
    console.print(table)
    for name, info in result.scorers.items():
        console.print(f"{name.replace('_', ' ')}: by {info.name}", markup=False)
    for note in gallery.notes:
        console.print(f"note: {note}", markup=False)


def _cell(recall: "Recall") -> str:
    from genvlm.evaluation.statistics import Undefined

    if isinstance(recall.interval, Undefined):
        return f"{recall.value:.1f}"
    return f"{recall.value:.1f} [{recall.interval.low:.1f}, {recall.interval.high:.1f}]"
