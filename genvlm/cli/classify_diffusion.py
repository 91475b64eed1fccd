"""`genvlm classify` with the folder of a diffusion model."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.class_lists import print_posterior, said_share
from genvlm.cli.elimination import print_calibration, print_dropped
from genvlm.cli.parsing import progress_bar
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from genvlm.data.images import RGBImage
    from genvlm.scoring.diffusion import DiffusionScorer
    from genvlm.studies.elimination import Task


def classify_with_diffusion(
    arguments: argparse.Namespace,
    keys: list[str],
    paths: Sequence[Path],
    task: "Task",
    right: "np.ndarray | None",
) -> int:
    """Classify, calibrate, or fit weights, as the options say."""
    from genvlm.data.images import load_image
    from genvlm.scoring.open import open_diffusion_scorer

    _check(arguments)
    scorer = open_diffusion_scorer(
        arguments.model,
        arguments.method or "squared_error",
        arguments.num_samples,
        arguments.seed,
        device=arguments.device,
    )
    images = [load_image(path) for path in paths]
    if arguments.fit_timestep_weights:
        assert right is not None
        return _fit_weights(arguments, scorer, keys, images, task, right)
    if arguments.calibrate_elimination:
        return _calibrate(arguments, scorer, keys, images, task)
    if arguments.eliminate:
        return _classify_by_dropping(arguments, scorer, keys, images, task, right)
    from genvlm.scoring.copies import CopiesScorer

    moved = CopiesScorer(scorer, copies=arguments.copies) if arguments.copies > 1 else scorer
    return print_posterior(arguments, moved, scorer.model.fingerprint, keys, images, task, right)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.bfloat16:
        raise ConfigError("--bfloat16 rescores log-probabilities, and a diffusion model has none")
    if not arguments.fit_timestep_weights:
        return
    for name in ("method", "prior", "out", "eliminate", "calibrate_elimination", "images"):
        if getattr(arguments, name):
            option = name.replace("_", "-")
            raise ConfigError(f"--fit-timestep-weights does not go with --{option}: leave it out")
    for name, without in (("copies", 1), ("temperature", 1.0)):
        if getattr(arguments, name) != without:
            raise ConfigError(f"--fit-timestep-weights does not go with --{name}: leave it out")


def _fit_weights(
    arguments: argparse.Namespace,
    scorer: "DiffusionScorer",
    keys: list[str],
    images: "list[RGBImage]",
    task: "Task",
    right: "np.ndarray",
) -> int:
    from genvlm.scoring.timestep_weights import save_timestep_weights
    from genvlm.studies.timestep_weights import fit_and_report

    with progress_bar("errors") as bar:
        fitted = fit_and_report(scorer, keys, images, task, right, progress=bar)
    path = save_timestep_weights(fitted.weights, arguments.model)
    if arguments.json:
        print(json.dumps({"weights": asdict(fitted.weights), "right": fitted.right}))
        return 0
    for method, share in fitted.right.items():
        print(f"{method:14} {said_share(share)}")
    print(
        f"fitted on {fitted.weights.num_images} pictures, reported on the others; kept in {path}. "
        "Use them with --method learned"
    )
    return 0


def _calibrate(
    arguments: argparse.Namespace,
    scorer: "DiffusionScorer",
    keys: list[str],
    images: "list[RGBImage]",
    task: "Task",
) -> int:
    from genvlm.studies.diffusion_elimination import calibrate_diffusion
    from genvlm.studies.elimination import save_calibration

    with progress_bar("elimination") as bar:
        calibration = calibrate_diffusion(scorer, keys, images, task, progress=bar)
    path = save_calibration(calibration, task, arguments.model)
    print_calibration(calibration, path, as_json=arguments.json, of="samples", unit="s.e.")
    return 0


def _classify_by_dropping(
    arguments: argparse.Namespace,
    scorer: "DiffusionScorer",
    keys: list[str],
    images: "list[RGBImage]",
    task: "Task",
    right: "np.ndarray | None",
) -> int:
    from genvlm.scoring.diffusion_elimination import classify_by_dropping
    from genvlm.studies.diffusion_elimination import calibration_key, method_of
    from genvlm.studies.elimination import find_measurement

    # Errors by another method or at other noises are others: the whole scorer is in the key.
    scored = scorer.info.settings
    measured = find_measurement(
        arguments.eliminate,
        calibration_key(scorer, task),
        scorer.info.fingerprint,
        arguments.model,
        settings=f"--method {scorer.method} --num-samples {scored['num_samples']} "
        f"--seed {scored['seed']}",
    )
    method = method_of(measured, len(task.classes))
    found = classify_by_dropping(scorer, images, task.classes, method, **task.settings)
    print_dropped(
        arguments, found, measured, keys, task, right, of="samples", unit=scorer.info.unit
    )
    return 0
