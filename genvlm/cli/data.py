"""`genvlm data ACTION`: what a source holds, what of it is kept, shards to train on."""

import argparse

from genvlm.cli import data_curate, data_inspect, data_shard
from genvlm.cli.parsing import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Declare the command and its actions."""
    summary = "Look into a user's files, keep the good ones, write shards."
    parser = commands.add_parser(
        "data",
        help=summary,
        description=summary,
        epilog="example:\n  genvlm data shard configs/train/own-pictures.yaml --out data/tokens",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for module in (data_inspect, data_curate, data_shard):
        module.add_parsers(actions)
