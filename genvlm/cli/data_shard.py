"""`genvlm data shard`: the sources of a run, tokenised once into memory-mapped shards."""

import argparse
import json
from pathlib import Path

from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command, positive, progress_bar


def add_parsers(actions: Subparsers) -> None:
    """Declare the action."""
    parser = add_command(
        actions,
        "shard",
        run,
        summary="Tokenise the sources of a run's configuration, copies and all, into shards that "
        "`{kind: shards, path: DIR}` trains from. Memory does not grow with the sources; what was "
        "cut off goes on when the same command runs again.",
        example="genvlm data shard configs/train/own-pictures.yaml --out data/mine",
    )
    parser.add_argument(
        "config", help="YAML of a run, or the name of a shipped one; its keys can be overridden"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards")
    parser.add_argument(
        "--samples-per-shard", type=positive, default=2**17,
        help="most; a shard of 16 M tokens ends before (131,072)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object alone")
    parser.set_defaults(takes_overrides=True)


def run(arguments: argparse.Namespace) -> int:
    """Shard and say what was written."""
    from genvlm.cli.overrides import load_with_overrides
    from genvlm.config.assets import resolve_path
    from genvlm.config.data import ShardsSource
    from genvlm.config.kinds import config_class
    from genvlm.config.training import TrainConfig
    from genvlm.data.sharding import write_shards
    from genvlm.errors import ConfigError
    from genvlm.training.loop import load_tokenizers

    check_output_folder(arguments.out)
    path = resolve_path(arguments.config)
    if config_class(path) is not TrainConfig:
        raise ConfigError(f"{path} is no run of a mixed-modal transformer: name one")
    config = load_with_overrides(TrainConfig, path, arguments.overrides)
    sources = []
    for number, source in enumerate(config.data.sources):
        if isinstance(source, ShardsSource):
            raise ConfigError(f"data.sources.{number} is shards already: leave it out")
        sources.append((number, source))
    with progress_bar("encoding pictures") as bar:
        index = write_shards(
            sources,
            load_tokenizers(config),
            arguments.out,
            samples_per_shard=arguments.samples_per_shard,
            max_bad_share=config.data.max_bad_share,
            progress=bar,
        )
    if arguments.json:
        print(json.dumps(index.summary()))
        return 0
    for name, value in index.summary().items():
        print(f"{name.replace('_', ' '):10}  {value:>15,}")
    print(arguments.out)
    return 0
