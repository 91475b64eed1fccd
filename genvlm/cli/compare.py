"""`genvlm compare`: families of models on equal data and compute, one page."""

import argparse
import sys
from pathlib import Path

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command


def add_parser(commands: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "compare",
        run,
        summary="Train several families of models on the same documents with the same training "
        "compute, ask all of them the same things, and write one page.",
        example="genvlm compare configs/compare/emoji.yaml --quick --out runs/compare-quick",
    )
    parser.add_argument("config", help="YAML file, or the name of a shipped one")
    parser.add_argument(
        "--quick", action="store_true",
        help="one seed, an eighth of the data, a twentieth of the compute, few questions: shows "
        "the page, not a result",
    )  # fmt: skip
    parser.add_argument(
        "--only", action="append", default=[], metavar="CELL",
        help="a recipe (clip) or one of its cells (clip-seed-0); give it again for more. The page "
        "shows whatever is done; several processes may share --out",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, required=True,
        help="folder; cells that are done are kept, so that the same command goes on",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing and print the page's path."""
    from genvlm.cli.parsing import progress_bar
    from genvlm.cli.training_progress import training_progress
    from genvlm.config.assets import resolve_path
    from genvlm.config.compare import CompareConfig, quick
    from genvlm.config.kinds import config_class
    from genvlm.config.schema import load_config
    from genvlm.errors import ConfigError
    from genvlm.studies.compare.page import write_page
    from genvlm.studies.compare.run import Told, baselines, read_records, run_cells

    check_output_folder(arguments.out)
    path = resolve_path(arguments.config)
    if config_class(path) is not CompareConfig:
        raise ConfigError(
            f"{path} is no comparison but a recipe or something else: name one such as "
            "configs/compare/emoji.yaml, and train a recipe by genvlm train"
        )
    config = load_config(CompareConfig, path)
    if arguments.quick:
        config = quick(config)
    told = Told(
        stage=lambda name: print(f"genvlm compare: {name}", file=sys.stderr, flush=True),
        training=training_progress,
        asking=progress_bar,
    )
    run_cells(config, arguments.out, only=arguments.only, told=told)
    records, known = read_records(config, arguments.out), baselines(config, arguments.out)
    print(write_page(config, records, arguments.out, known))
    return 0
