"""`genvlm train`: a configuration in, a run folder with a model folder out."""

import argparse
from pathlib import Path

from genvlm.cli.parsing import Subparsers, add_command


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
    from genvlm.config.schema import read_yaml
    from genvlm.config.training import TrainConfig

    path = resolve_path(arguments.config)
    kind = read_yaml(path).get("kind", "mixed_modal")
    if kind == "vqgan":
        return _train_image_tokenizer(path, arguments)
    if kind == "sentencepiece":
        return _train_text_tokenizer(path, arguments)
    config = load_with_overrides(TrainConfig, path, arguments.overrides)
    from genvlm.cli.training_progress import training_progress
    from genvlm.training.loop import train

    with training_progress() as progress:
        folder = train(config, arguments.out, resume=arguments.resume, progress=progress)
    print(folder)
    return 0


def _train_image_tokenizer(path: Path, arguments: argparse.Namespace) -> int:
    from genvlm.cli.overrides import load_with_overrides
    from genvlm.cli.parsing import progress_bar
    from genvlm.config.image_tokenizer import VQGANTrainConfig
    from genvlm.studies.tokenizers import train_image_tokenizer
    from genvlm.training.checkpoint import lock_run

    config = load_with_overrides(VQGANTrainConfig, path, arguments.overrides)
    with lock_run(arguments.out), progress_bar("training the image tokenizer") as bar:
        folder = train_image_tokenizer(
            config,
            arguments.out,
            resume=arguments.resume,
            on_step=lambda step, terms: bar(step, config.num_steps),
        )
    print(folder)
    return 0


def _train_text_tokenizer(path: Path, arguments: argparse.Namespace) -> int:
    from genvlm.cli.overrides import load_with_overrides
    from genvlm.config.text_tokenizer import TextTokenizerConfig
    from genvlm.studies.tokenizers import train_text_tokenizer

    config = load_with_overrides(TextTokenizerConfig, path, arguments.overrides)
    print(train_text_tokenizer(config, arguments.out))
    return 0
