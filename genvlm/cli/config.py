"""`genvlm config show|check`: read a configuration as training would."""

import argparse

from genvlm.cli.parsing import Subparsers, add_command


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "config",
        run,
        summary="Show a configuration with every default filled in, or check it.",
        example="genvlm config show configs/demo/emoji.yaml",
    )
    parser.add_argument("action", choices=("show", "check"))
    parser.add_argument("file", help="YAML file, or the name of a shipped one")


def run(arguments: argparse.Namespace) -> int:
    """Print the resolved YAML, or that the file is sound."""
    from genvlm.config.assets import resolve_path
    from genvlm.config.image_tokenizer import VQGANTrainConfig
    from genvlm.config.schema import dump_config, load_config, read_yaml
    from genvlm.config.text_tokenizer import TextTokenizerConfig
    from genvlm.config.training import TrainConfig

    path = resolve_path(arguments.file)
    classes: dict[str, type] = {"vqgan": VQGANTrainConfig, "sentencepiece": TextTokenizerConfig}
    kind = read_yaml(path).get("kind", "mixed_modal")
    config: object = load_config(classes.get(kind, TrainConfig), path)
    print(dump_config(config).rstrip() if arguments.action == "show" else f"{path} is sound")
    return 0
