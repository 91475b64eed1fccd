"""`genvlm demo`: the whole story in one command and one page."""

import argparse
import sys
from pathlib import Path

from genvlm.cli.inputs import record_command
from genvlm.cli.parsing import Subparsers, add_command, seed


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "demo",
        run,
        summary="Train a small model on emoji scenes, judge, classify, draw; prints the path of "
        "one HTML report.",
        example="genvlm demo --out runs/demo",
    )
    parser.add_argument(
        "--out", type=Path, help="run folder; default runs/demo or, quick, runs/demo-quick"
    )
    parser.add_argument("--config", default="configs/demo/emoji.yaml")
    parser.add_argument("--seed", type=seed, help="instead of the configuration's")
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted demo")
    parser.add_argument(
        "--quick", action="store_true", help="60 steps and few items: shows the page, not a result"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run and print the report's path."""
    from dataclasses import replace

    from genvlm.cli.training_progress import training_progress
    from genvlm.config.assets import resolve_path
    from genvlm.config.schema import load_config
    from genvlm.config.training import TrainConfig
    from genvlm.studies.demo import run_demo

    config = load_config(TrainConfig, resolve_path(arguments.config))
    if arguments.seed is not None:
        config = replace(config, seed=arguments.seed)
    if arguments.quick:
        config = replace(config, num_steps=60)
    out = arguments.out or Path("runs/demo-quick" if arguments.quick else "runs/demo")
    with training_progress() as progress:
        page = run_demo(
            config,
            out,
            progress=progress,
            stage=lambda name: print(f"genvlm demo: {name}", file=sys.stderr),
            resume=arguments.resume,
            begun=lambda: record_command(out),
            num_pictures=20 if arguments.quick else 200,
            eval_limit=30 if arguments.quick else None,
        )
    print(page)
    return 0
