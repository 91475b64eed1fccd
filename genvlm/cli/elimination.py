"""The options of `genvlm classify` that drop classes on the way, and that measure the cost."""

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from genvlm.cli.class_lists import print_accuracy, print_ranked
from genvlm.cli.parsing import progress_bar

if TYPE_CHECKING:
    import numpy as np

    from genvlm.data.images import RGBImage
    from genvlm.models.pretrained import PretrainedModel
    from genvlm.scoring.elimination import Method
    from genvlm.studies.elimination import Measurement, Task


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
    from genvlm.studies.classification import share_right
    from genvlm.studies.elimination import find_measurement

    measured: Measurement | None = None
    if arguments.eliminate == "bound":
        method: Method = Bound()
        said = "bound: the best class is that of exhaustive scoring"
    else:
        measured = find_measurement(arguments.eliminate, task, pretrained, arguments.model)
        method = measured.method
        said = (
            f"{measured.name}: another best class than exhaustive scoring for {measured.flip_rate}"
        )
    found = classify_by_elimination(pretrained, images, task.classes, method, **task.settings)
    described: dict[str, object] = {
        "elimination": {
            "method": arguments.eliminate,
            "measured": None if measured is None else asdict(measured),
            "codes_scored": int(found.codes_scored.sum()),
            "codes_exhaustive": int(found.codes_exhaustive.sum()),
        },
        **task.settings,
        "unit": "nats",
    }
    results = [
        {
            "image": key,
            "most_left_out": float(found.most_left_out[k]),
            "classes": [
                {
                    "class": task.classes[i],
                    "log_posterior": float(found.log_probs[k, i]),
                    "log_p_image_given_class": float(found.log_likelihoods[k, i]),
                }
                for i in found.ranking[k]
                if found.finalists[k, i]
            ],
        }
        for k, key in enumerate(keys)
    ]
    if right is not None:
        hits = int((found.ranking[:, 0] == right).sum())
        described["accuracy"] = share_right(hits, len(right))
    if arguments.json:
        print(json.dumps(described | {"results": results}))
        return 0
    if right is None:
        print_ranked(results, arguments.top)
    else:
        print_accuracy(described)
    print(said)
    print(
        f"{100 * found.spent:.1f} % of the code positions of exhaustive scoring; percentages are "
        "of the classes that were scored to the end"
    )
    return 0


def calibrate_elimination(
    arguments: argparse.Namespace,
    pretrained: "PretrainedModel",
    keys: list[str],
    images: list["RGBImage"],
    task: "Task",
) -> int:
    """Measure every method, print the table and keep it with the model."""
    from rich.console import Console
    from rich.table import Table

    from genvlm.studies.elimination import calibrate, save_calibration

    with progress_bar("elimination") as bar:
        calibration = calibrate(pretrained, keys, images, task, progress=bar)
    path = save_calibration(calibration, task, arguments.model)
    if arguments.json:
        print(json.dumps(asdict(calibration)))
        return 0
    table = Table("method", "positions, %", "speed-up", "flips", "flip rate, %", "95 % interval")
    for m in calibration.measured:
        name = m.name if m.threshold is None else f"{m.name} ({m.threshold:.1f} nats)"
        low, high = (100 * x for x in m.interval)
        table.add_row(
            name, f"{100 * m.spent:.1f}", f"{m.speedup:.2f}x", f"{m.flips} of {m.num_images}",
            f"{100 * m.flips / m.num_images:.1f}", f"{low:.1f} to {high:.1f}",
        )  # fmt: skip
    Console().print(table)
    print(
        f"fitted on {calibration.num_fitted} pictures, measured on the others, timed once; kept in "
        f"{path}. Nothing is chosen: name a method with --eliminate"
    )
    return 0
