"""`genvlm train`: a configuration in, a run folder with a model folder out."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.inputs import check_output_folder, record_command
from genvlm.cli.parsing import Subparsers, add_command

if TYPE_CHECKING:
    from genvlm.config.image_tokenizer import VQGANTrainConfig
    from genvlm.config.kinds import ModelTrainConfig
    from genvlm.config.video_tokenizer import VideoVQTrainConfig


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "train",
        run,
        summary="Train a model from a YAML configuration; any key can be overridden.",
        example="genvlm train configs/demo/emoji.yaml --out runs/mine --num-steps 200",
    )
    parser.add_argument("config", help="YAML file, or the name of a shipped one")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    parser.set_defaults(takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Train and print the model folder."""
    from genvlm.cli.overrides import load_with_overrides
    from genvlm.config.assets import resolve_path
    from genvlm.config.compare import CompareConfig
    from genvlm.config.curation import CurationConfig
    from genvlm.config.image_tokenizer import VQGANTrainConfig
    from genvlm.config.kinds import ModelTrainConfig, config_class
    from genvlm.config.training import RunConfig
    from genvlm.config.transformer import PublishedShape
    from genvlm.config.video_tokenizer import VideoVQTrainConfig
    from genvlm.errors import ConfigError

    check_output_folder(arguments.out)
    path = resolve_path(arguments.config)
    config = load_with_overrides(config_class(path), path, arguments.overrides)
    if isinstance(config, ModelTrainConfig):
        folder = _train_model(config, arguments)
    elif isinstance(config, VQGANTrainConfig):
        folder = _train_image_tokenizer(config, arguments)
    elif isinstance(config, VideoVQTrainConfig):
        folder = _train_video_tokenizer(config, arguments)
    elif isinstance(config, PublishedShape):
        raise ConfigError(
            f"{path} is the shape of a published model, not a run: copy its `model` into a "
            "configuration with data and optimizer, such as configs/train/emoji.yaml"
        )
    elif isinstance(config, CurationConfig):
        raise ConfigError(f"{path} curates data and trains nothing: genvlm data curate {path}")
    elif isinstance(config, CompareConfig):
        raise ConfigError(f"{path} compares models: genvlm compare {path}")
    elif arguments.resume:
        raise ConfigError(f"{path} trains a text tokenizer, in seconds: leave --resume out")
    else:
        from genvlm.studies.tokenizers import train_text_tokenizer

        folder = train_text_tokenizer(config, arguments.out)
    if os.environ.get("RANK", "0") == "0":  # one line, however many processes
        if isinstance(config, RunConfig):
            record_command(arguments.out)
        print(folder)
    return 0


def _train_model(config: "ModelTrainConfig", arguments: argparse.Namespace) -> Path:
    from genvlm.cli.training_progress import training_progress
    from genvlm.studies.runs import train_model

    with training_progress() as progress:
        return train_model(config, arguments.out, resume=arguments.resume, progress=progress)


def _train_image_tokenizer(config: "VQGANTrainConfig", arguments: argparse.Namespace) -> Path:
    from genvlm.cli.parsing import progress_bar
    from genvlm.studies.tokenizers import train_image_tokenizer

    with progress_bar("training the image tokenizer") as bar:
        return train_image_tokenizer(
            config,
            arguments.out,
            resume=arguments.resume,
            on_step=lambda step, terms: bar(step, config.num_steps),
            say=lambda message: print(f"genvlm train: {message}", file=sys.stderr),
        )


def _train_video_tokenizer(config: "VideoVQTrainConfig", arguments: argparse.Namespace) -> Path:
    from genvlm.cli.parsing import progress_bar
    from genvlm.cli.training_progress import tokenizer_progress
    from genvlm.studies.video_tokenizers import train_video_tokenizer

    with ExitStack() as stack:
        training = tokenizer_progress("training the video tokenizer", config.num_steps)
        on_step = stack.enter_context(training)
        measuring: list[Callable[[int, int | None], None]] = []

        def on_clip(done: int, total: int) -> None:
            if not measuring:
                stack.close()  # two bars at once are one too many
                measuring.append(stack.enter_context(progress_bar("measuring held-out clips")))
            measuring[0](done, total)

        return train_video_tokenizer(
            config,
            arguments.out,
            resume=arguments.resume,
            on_step=on_step,
            on_clip=on_clip,
            say=lambda message: print(f"genvlm train: {message}", file=sys.stderr),
        )
