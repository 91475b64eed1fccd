"""The options of `genvlm classify` that drop classes on the way, and that measure the cost."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.class_lists import print_accuracy, print_ranked, score_key
from genvlm.cli.parsing import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from genvlm.data.images import RGBImage
    from genvlm.models.pretrained import PretrainedModel
    from genvlm.scoring.elimination import Eliminated, Method
    from genvlm.scoring.protocols import Unit
    from genvlm.studies.elimination import Calibration, Measurement, Task


def classify_by_dropping(
    arguments: argparse.Namespace,
    pretrained: "PretrainedModel",
    keys: list[str],
    images: list["RGBImage"],
    task: "Task",
    right: "np.ndarray | None",
) -> int:
    """Rank classes by the method of `--eliminate`, with its measured flip rate."""
    from genvlm.scoring.elimination import Bound, classify_by_elimination
    from genvlm.studies.elimination import find_measurement

    measured: Measurement | None = None
    method: Method = Bound()
    if arguments.eliminate != "bound":
        measured = find_measurement(
            arguments.eliminate, task.key, pretrained.fingerprint, arguments.model
        )
        method = measured.method
    found = classify_by_elimination(pretrained, images, task.classes, method, **task.settings)
    print_dropped(arguments, found, measured, keys, task, right, of="codes", unit="nats")
    return 0


def print_dropped(
    arguments: argparse.Namespace,
    found: "Eliminated",
    measured: "Measurement | None",
    keys: list[str],
    task: "Task",
    right: "np.ndarray | None",
    *,
    of: str,
    unit: "Unit",
) -> None:
    """What is known of each picture's classes, what it cost, and how often it is another answer.

    Args:
        measured: of the method; None for the bound, which needs none.
        of: what was scored: codes or samples.
    """
    described: dict[str, object] = {
        "elimination": {
            "method": arguments.eliminate,
            "measured": None if measured is None else asdict(measured),
            f"{of}_scored": int(found.evaluations.sum()),
            f"{of}_exhaustive": int(found.exhaustive.sum()),
        },
        **task.settings,
        "unit": unit,
    }
    results = [
        {
            "image": key,
            **({"most_left_out": float(found.most_left_out[k])} if unit == "nats" else {}),
            "classes": [
                {
                    "class": task.classes[i],
                    "log_posterior": float(found.log_probs[k, i]),
                    score_key(unit): float(found.log_likelihoods[k, i]),
                }
                for i in found.ranking[k]
                if found.finalists[k, i]
            ],
        }
        for k, key in enumerate(keys)
    ]
    if right is not None:
        from genvlm.studies.classification import share_right

        hits = int((found.ranking[:, 0] == right).sum())
        described["accuracy"] = share_right(hits, len(right))
    if arguments.json:
        print(json.dumps(described | {"results": results}))
        return
    if right is None:
        print_ranked(results, arguments.top)
    else:
        print_accuracy(described)
    if measured is None:
        print("bound: the best class is that of exhaustive scoring")
    else:
        rate = measured.flip_rate
        print(f"{measured.name}: another best class than exhaustive scoring for {rate}")
    positions = "code positions" if of == "codes" else of
    print(
        f"{100 * found.spent:.1f} % of the {positions} of exhaustive scoring; percentages are "
        "of the classes that were scored to the end"
    )


def calibrate_elimination(
    arguments: argparse.Namespace,
    pretrained: "PretrainedModel",
    keys: list[str],
    images: list["RGBImage"],
    task: "Task",
) -> int:
    """Measure every method, print the table and keep it with the model."""
    from genvlm.studies.elimination import calibrate, save_calibration

    with progress_bar("elimination") as bar:
        calibration = calibrate(pretrained, keys, images, task, progress=bar)
    path = save_calibration(calibration, task, arguments.model)
    print_calibration(calibration, path, as_json=arguments.json, of="positions", unit="nats")
    return 0


def print_calibration(
    calibration: "Calibration", path: Path, *, as_json: bool, of: str, unit: str
) -> None:
    """The table of all methods; `of` what is counted, `unit` that of thresholds."""
    if as_json:
        print(json.dumps(asdict(calibration)))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    # No name is cut, and no lines between columns, so that 80 characters are enough.
    method = Column("method", min_width=len("published-nested"))
    headings = (f"{of}, %", "speed-up", "flips", "flip rate, %", "95 % interval")
    table = Table(method, *headings, box=SIMPLE_HEAD)
    for m in calibration.measured:
        name = m.name if m.threshold is None else f"{m.name} ({m.threshold:.1f} {unit})"
        low, high = (100 * x for x in m.interval)
        table.add_row(
            name, f"{100 * m.spent:.1f}", f"{m.speedup:.2f}x", f"{m.flips} of {m.num_images}",
            f"{100 * m.flips / m.num_images:.1f}", f"{low:.1f} to {high:.1f}",
        )  # fmt: skip
    Console().print(table)
    timed = "timed once; " if of == "positions" else ""
    print(
        f"fitted on {calibration.num_fitted} pictures, measured on the others, {timed}kept in "
        f"{path}. Nothing is chosen: name a method with --eliminate"
    )
