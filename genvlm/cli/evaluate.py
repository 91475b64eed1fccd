"""`genvlm eval ACTION`: benchmarks run, rebuilt from logs, compared, listed, audited."""

import argparse

from genvlm.cli import eval_audit, eval_logs, eval_probes, eval_retrieval, eval_run
from genvlm.cli.parsing import Subparsers


def add_parser(commands: Subparsers) -> None:
    """Declare the command and its actions."""
    summary = "Evaluate models and released predictions on benchmarks, beside their controls."
    parser = commands.add_parser(
        "eval",
        help=summary,
        description=summary,
        epilog="example:\n  genvlm eval run scenes --model runs/demo/model --out runs/demo/scenes",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for module in (eval_run, eval_retrieval, eval_probes, eval_logs, eval_audit):
        module.add_parsers(actions)
