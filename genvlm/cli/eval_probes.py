"""`genvlm eval probes`: how many drawings of a new concept a model needs to know it again."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.eval_retrieval import RESULTS_FILE
from genvlm.cli.inputs import check_output_folder
from genvlm.cli.parsing import Subparsers, add_command, add_device_option, positive

if TYPE_CHECKING:
    from genvlm.studies.probes import FewShot, ProbedModel


def add_parsers(actions: Subparsers) -> None:
    """Declare the action."""
    parser = add_command(
        actions,
        "probes",
        run,
        summary="Linear probes of a model's picture features on concepts that it never saw: from a "
        "few drawings of the training vendors to the unseen vendor's, beside probes of pixels.",
        example="genvlm eval probes --model runs/demo/model --out runs/demo/eval/probes",
    )
    parser.add_argument(
        "--model", type=Path, required=True, help="model folder, of genvlm or such as CLIP"
    )
    parser.add_argument(
        "--shots", type=positive, nargs="+", default=[1, 2, 4, 8],
        help="drawings of each concept; behind the second they are moved copies (default: 1 2 4 8)",
    )  # fmt: skip
    parser.add_argument(
        "--num", type=positive, default=100, help="concepts that are told apart (default: 100)"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json")
    parser.add_argument("--json", action="store_true", help="print results.json and nothing else")
    add_device_option(parser)


def run(arguments: argparse.Namespace) -> None:
    """Fit the probes, write `results.json` and print a table."""
    from genvlm.nn.whole_files import write_whole
    from genvlm.scoring.features import open_features
    from genvlm.studies.probes import probe_concepts, probe_model, probes_json

    check_output_folder(arguments.out)
    concepts = probe_concepts(arguments.num)
    features = open_features(arguments.model, device=arguments.device)
    probed = probe_model(features, concepts, arguments.shots)
    content = probes_json(probed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_whole(arguments.out / RESULTS_FILE, json.dumps(content, indent=1))
    print(f"what each probe got right in {arguments.out / RESULTS_FILE}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(content))
    else:
        _print(probed)


def _print(probed: "ProbedModel") -> None:
    from rich.console import Console
    from rich.table import Table

    first = probed.probes[0]
    title = f"{len(first.hits)} unseen concepts, accuracy in %; chance {first.chance:.1f}"
    table = Table("", *(f"{probe.num_shots}-shot" for probe in probed.probes), title=title)
    table.add_row("model", *map(_cell, probed.probes), style="bold")
    table.add_row("pixels", *map(_cell, probed.baseline_probes))
    console = Console()
    console.print(table)
    console.print(f"model: {probed.features.name}", markup=False)
    console.print(f"pixels: {probed.baseline.name}", markup=False)


def _cell(probe: "FewShot") -> str:
    from genvlm.evaluation.statistics import Undefined

    if isinstance(probe.interval, Undefined):
        return f"{probe.accuracy:.1f}"
    return f"{probe.accuracy:.1f} [{probe.interval.low:.1f}, {probe.interval.high:.1f}]"
