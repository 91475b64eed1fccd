"""`genvlm plan`: memory by ZeRO stage, compute and days of a run that nobody has started."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.parsing import Subparsers, add_command, positive

if TYPE_CHECKING:
    from genvlm.training.plan import Work


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "plan",
        run,
        summary="Say what a run will need: memory of each GPU by ZeRO stage, FLOPs, days. Nothing "
        "is built; figures of GPUs are computed from data sheets, not measured.",
        example="genvlm plan configs/train/chameleon-7b.yaml --gpus 1024 --gpu a100 --mfu 0.45 "
        "--tokens 9.2e12 --precision bfloat16",
    )
    parser.add_argument("config", help="YAML of a run or of a published shape, or its name")
    parser.add_argument("--gpus", type=positive, default=1, help="processes, one a GPU (default 1)")
    parser.add_argument("--gpu", default="h100", help="its name, such as a100, h100 or h200")
    parser.add_argument(
        "--mfu", type=_share, default=0.4, help="share of the peak that is reached (default 0.4)"
    )
    parser.add_argument(
        "--tokens", type=_tokens, help="to train on in all (default: the run's steps of full rows)"
    )
    parser.add_argument(
        "--micro-batch-size",
        type=positive,
        help="rows of a forward pass (default: the run's, or 1)",
    )
    parser.add_argument(
        "--row-length", type=positive, help="tokens of a row (default: the context length)"
    )
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), help="default: the run's, or bfloat16"
    )
    parser.add_argument(
        "--activation-checkpointing",
        action=argparse.BooleanOptionalAction,
        help="compute activations of blocks again instead of keeping them (default: as the run)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="also draw the memory")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    from genvlm.errors import ConfigError
    from genvlm.training.hardware import find_gpu
    from genvlm.training.plan import build_plan

    if arguments.plot is not None and arguments.plot.suffix.lower() != ".svg":
        raise ConfigError(f"--plot {arguments.plot} would be an SVG: name a file that ends in .svg")
    gpu = find_gpu(arguments.gpu)
    work, tokens = _work(arguments)
    plan = build_plan(
        work, gpu, gpu_name=arguments.gpu, num_devices=arguments.gpus, mfu=arguments.mfu,
        tokens=arguments.tokens or tokens,
    )  # fmt: skip
    if arguments.json:
        print(json.dumps(plan.as_json(), indent=1))
    else:
        print(plan.as_text())
    if arguments.plot is not None:
        from genvlm.evaluation.training_plots import plan_bars

        arguments.plot.write_bytes(plan_bars(plan.as_json()))
        print(arguments.plot, file=sys.stderr)
    return 0


def _work(arguments: argparse.Namespace) -> "tuple[Work, float | None]":
    """What is planned, and the tokens that a run of full rows trains on."""
    from dataclasses import replace

    from genvlm.config.assets import resolve_path
    from genvlm.config.kinds import config_class
    from genvlm.config.schema import load_config
    from genvlm.config.training import TrainConfig
    from genvlm.config.transformer import PublishedShape
    from genvlm.errors import ConfigError
    from genvlm.training.plan import Work

    path = resolve_path(arguments.config)
    config: object = load_config(config_class(path), path)
    tokens = None
    if isinstance(config, PublishedShape):
        work = Work(
            model=config.model, vocab_size=config.vocab_size, micro_batch_size=1,
            row_length=config.model.context_length, precision="bfloat16",
        )  # fmt: skip
    elif isinstance(config, TrainConfig):
        from genvlm.training.memory import work_of

        work = work_of(config)
        length = arguments.row_length or work.row_length
        tokens = float(config.num_steps * config.global_batch_size * length)
    else:
        raise ConfigError(f"{path} trains no transformer: plans are of transformers alone")
    given = {
        name: getattr(arguments, name)
        for name in ("micro_batch_size", "row_length", "precision", "activation_checkpointing")
        if getattr(arguments, name) is not None
    }
    if given.get("row_length", 0) > work.model.context_length:
        raise ConfigError(
            f"--row-length {given['row_length']} is more than the context of "
            f"{work.model.context_length} tokens"
        )
    return replace(work, **given), tokens


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share between 0 and 1")
    return value


def _tokens(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens, such as 9.2e12")
    return value
