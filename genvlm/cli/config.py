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
    from genvlm.config.kinds import config_class
    from genvlm.config.schema import dump_config, load_config

    path = resolve_path(arguments.file)
    config: object = load_config(config_class(path), path)
    print(dump_config(config).rstrip() if arguments.action == "show" else f"{path} is sound")
    return 0
