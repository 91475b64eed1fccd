"""`genvlm eval run` on benchmarks of clips: physics, intphys."""

import argparse
import sys

from genvlm.cli.eval_table import finish
from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import progress_bar
from genvlm.errors import ConfigError

_OF_PICTURES = (
    "predictions", "column", "images", "method", "alpha", "no_shuffled", "no_blind", "num_samples",
    "seed",
)  # fmt: skip


def run_on_videos(arguments: argparse.Namespace, *, page: str, cache: str) -> int:
    """Run, write log, summary and report, and print a table.

    Raises:
        ConfigError: an option of benchmarks of pictures and texts, or no model or folder.
    """
    from genvlm.models.pretrained import load_pretrained
    from genvlm.studies.evaluations import save_log
    from genvlm.studies.video_evaluations import (
        PHYSICS,
        build_video_benchmark,
        evaluate_videos,
    )
    from genvlm.studies.video_page import write_video_page

    name = arguments.benchmark
    given = [option for option in _OF_PICTURES if getattr(arguments, option)]
    given += ["copies"] if arguments.copies > 1 else []
    given += ["reduction"] if arguments.reduction != "sum" else []
    given += ["data"] if name == PHYSICS and arguments.data is not None else []
    if given:
        raise ConfigError(f"{name} takes no --{given[0].replace('_', '-')}: leave it out")
    if arguments.model is None or arguments.out is None:
        raise ConfigError(f"{name} needs --model FOLDER and --out FOLDER")
    check_output_folder(arguments.out)
    benchmark = build_video_benchmark(name, data=arguments.data, limit=arguments.limit)
    pretrained = load_pretrained(arguments.model, device=arguments.device)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with progress_bar(name) as bar:
        evaluation = evaluate_videos(
            benchmark, pretrained, cache=arguments.out / cache, progress=bar
        )
    save_log(evaluation.records, evaluation.summary, arguments.out)
    write_video_page(evaluation, arguments.out / page)
    print(f"log, summary and report in {arguments.out}", file=sys.stderr)
    return finish(evaluation.summary, as_json=arguments.json, allow_partial=arguments.allow_partial)
