"""`genvlm eval run`: a benchmark with its controls, from a model or from released predictions."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genvlm.cli.diffusion_options import (
    DIFFUSION_METHODS,
    add_sampling_options,
    refuse_sampling_options,
)
from genvlm.cli.eval_table import finish
from genvlm.cli.eval_videos import run_on_videos
from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import (
    Subparsers,
    add_command,
    add_device_option,
    positive,
    progress_bar,
)
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.evaluation.data_folder import DataFolder
    from genvlm.studies.evaluations import Evaluation

SCORING_METHODS = (
    "text_given_image", "image_given_text", "p_yes", "cosine", "clipscore", "logit",
    "pseudo_likelihood", "matching", *DIFFUSION_METHODS,
)  # fmt: skip
# Of benchmarks that are about one method.
_BY_BENCHMARK: dict[str, Any] = {"vqascore": "p_yes", "clipscore": "clipscore"}
CACHE_FILE, PAGE_FILE = "cache.jsonl", "report.html"


def add_parsers(actions: Subparsers) -> None:
    """Declare the action."""
    parser = add_command(
        actions,
        "run",
        run,
        summary="Run a benchmark beside its controls on a model, or judge released predictions. "
        "`genvlm eval list` names the benchmarks.",
        example="genvlm eval run scenes --model runs/demo/model --out runs/demo/eval/scenes",
    )
    parser.add_argument("benchmark", help="NAME or NAME/PART, such as scenes or sugarcrepe/add_att")
    parser.add_argument("--model", type=Path, help="model folder, of genvlm or of transformers")
    parser.add_argument(
        "--predictions",
        type=Path,
        action="append",
        default=[],
        help="judge this file instead of a model: the benchmark's own format, or JSONL of "
        '{"id", "scores": [[...]]} (images x texts) or {"id", "question"?, "answer"}; give it '
        "twice where there is a file for each order of options",
    )
    parser.add_argument("--column", help="which column of the prediction file")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder laid out as eval/data; default: shipped. For intphys: its dev set",
    )
    parser.add_argument("--images", type=Path, help="folder of the benchmark's pictures")
    parser.add_argument("--out", type=Path, help="folder for log, summary and report")
    parser.add_argument(
        "--method",
        choices=(*SCORING_METHODS, "answers"),
        help="what is scored; default: log p(text | image), for emoji-classes log p(image | text), "
        "for models such as CLIP their cosine, for diffusion models their squared_error. answers: "
        "ask in words",
    )
    parser.add_argument(
        "--reduction", choices=("sum", "mean"), default="sum",
        help="log-probability of the whole, or per token",
    )  # fmt: skip
    parser.add_argument(
        "--alpha", type=float, default=0.0,
        help="subtract alpha times the unconditional log-probability (1: PMI); fix it in advance",
    )  # fmt: skip
    parser.add_argument(
        "--copies", type=positive, default=1,
        help="mean score over that many versions of each picture: itself and moved copies",
    )  # fmt: skip
    add_sampling_options(parser)
    parser.add_argument(
        "--limit", type=positive,
        help="at most so many items, as a smaller, other version: of each of the two sets of "
        "scenes, of each law of physics; for emoji-classes so many concepts of each vendor",
    )  # fmt: skip
    parser.add_argument(
        "--no-shuffled", action="store_true",
        help="leave out the shuffled-image control, which costs as much as the model itself",
    )  # fmt: skip
    parser.add_argument(
        "--no-blind", action="store_true",
        help="leave out the blind control, which costs eight times the model where that never "
        "learned to do without pictures",
    )  # fmt: skip
    parser.add_argument(
        "--allow-partial", action="store_true", help="show numbers of an incomplete result, exit 0"
    )
    parser.add_argument("--json", action="store_true", help="print the summary and nothing else")
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> int:
    """Run and print a table; exit code 2 when the coverage is not complete."""
    from genvlm.evaluation.data_folder import DataFolder
    from genvlm.studies.evaluations import check_benchmark, save_evaluation
    from genvlm.studies.video_evaluations import VIDEO_BENCHMARKS

    check_benchmark(arguments.benchmark)
    if arguments.benchmark in VIDEO_BENCHMARKS:
        return run_on_videos(arguments, page=PAGE_FILE, cache=CACHE_FILE)
    if (arguments.model is None) == (not arguments.predictions):
        raise ConfigError("give either --model FOLDER or --predictions FILE")
    if arguments.predictions:
        for name in ("limit", "images", "method", "alpha", "no_shuffled", "no_blind"):
            if getattr(arguments, name):
                raise ConfigError(f"--{name.replace('_', '-')} is of --model, not of --predictions")
        refuse_sampling_options(arguments)
    elif arguments.column:
        raise ConfigError("--column is of --predictions, not of --model")
    if arguments.model is not None and arguments.out is None:
        raise ConfigError("give --out FOLDER for the log of the model's scores")
    if arguments.out is not None:
        check_output_folder(arguments.out, but_not=arguments.predictions)
    data = None if arguments.data is None else DataFolder(arguments.data)
    judge = _judge if arguments.model is None else _evaluate
    evaluation = judge(arguments, data)
    if arguments.out is not None:
        from genvlm.studies.benchmark_page import write_evaluation_page

        save_evaluation(evaluation, arguments.out)
        write_evaluation_page(evaluation, arguments.out / PAGE_FILE)
        print(f"log, summary and report in {arguments.out}", file=sys.stderr)
    return finish(evaluation.summary, as_json=arguments.json, allow_partial=arguments.allow_partial)


def _judge(arguments: argparse.Namespace, data: "DataFolder | None") -> "Evaluation":
    from genvlm.evaluation.catalog import judge_predictions, shipped_data
    from genvlm.evaluation.summary import summarize
    from genvlm.studies.evaluations import BENCHMARKS, Evaluation

    if arguments.benchmark in BENCHMARKS:
        raise ConfigError(f"{arguments.benchmark} is drawn here and needs a --model")
    benchmark, records = judge_predictions(
        arguments.benchmark, arguments.predictions, data or shipped_data(), arguments.column
    )
    return Evaluation(benchmark, records, summarize(records, benchmark.card))


def _evaluate(arguments: argparse.Namespace, data: "DataFolder | None") -> "Evaluation":
    from genvlm.evaluation.benchmark import Benchmark
    from genvlm.evaluation.catalog import AnyBenchmark, find_benchmark
    from genvlm.scoring.copies import CopiesScorer
    from genvlm.scoring.open import is_mixed_modal, open_answerer, open_scorer
    from genvlm.studies import evaluations

    name = arguments.benchmark
    own = name in evaluations.BENCHMARKS
    asked = arguments.method == "answers" or (not own and find_benchmark(name)[0].build is None)
    arguments.out.mkdir(parents=True, exist_ok=True)
    options = {
        "shuffled": not arguments.no_shuffled,
        "blind": not arguments.no_blind,
        "allow_missing": arguments.allow_partial,
        "cache": arguments.out / CACHE_FILE,
    }
    if own and asked:
        raise ConfigError(f"{name} is scored, not asked: choose another --method")
    if asked:
        refuse_sampling_options(arguments)
    if asked and arguments.copies > 1:
        raise ConfigError("--copies averages scores, and answers are none: leave it out")
    if own:
        whole: AnyBenchmark = evaluations.build_benchmark(name, limit=arguments.limit)
        benchmark = whole
    else:
        whole = evaluations.build_file_benchmark(name, data, arguments.images, asked=asked)
        benchmark = evaluations.keep_some(whole, arguments.limit)
    if not isinstance(benchmark, Benchmark):
        answerer = open_answerer(arguments.model, device=arguments.device)
        with progress_bar(name) as bar:
            return evaluations.evaluate_answerer(benchmark, answerer, progress=bar, **options)
    method = arguments.method or _BY_BENCHMARK.get(name.partition("/")[0])
    if method is None and is_mixed_modal(arguments.model):
        method = evaluations.default_direction(name)
    scorer = open_scorer(
        arguments.model,
        method,
        reduction=arguments.reduction,
        alpha=arguments.alpha,
        device=arguments.device,
        num_samples=arguments.num_samples,
        seed=arguments.seed,
    )
    assert isinstance(whole, Benchmark)  # `benchmark` is some of its items
    controls = evaluations.build_controls(name, whole, scorer)
    if arguments.copies > 1:
        scorer = CopiesScorer(scorer, copies=arguments.copies)
    with progress_bar(name) as bar:
        return evaluations.evaluate_scorer(benchmark, scorer, controls, progress=bar, **options)
