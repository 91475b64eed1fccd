"""`genvlm classify` with a model that writes captions: log p(class text | image)."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.class_lists import print_posterior
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from genvlm.studies.elimination import Task


def classify_by_captions(
    arguments: argparse.Namespace,
    keys: list[str],
    paths: Sequence[Path],
    task: "Task",
    right: "np.ndarray | None",
) -> int:
    """Posterior: p(class text | image), times the prior, shared out between the classes."""
    from genvlm.data.images import load_image
    from genvlm.scoring.copies import CopiesScorer
    from genvlm.scoring.open import open_scorer

    for name in ("bfloat16", "eliminate", "calibrate_elimination"):
        if getattr(arguments, name):
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} is of log p(image | class), which a projector lacks")
    scorer = open_scorer(arguments.model, "text_given_image", device=arguments.device)
    model = str(scorer.info.settings["model"])
    if arguments.copies > 1:
        scorer = CopiesScorer(scorer, copies=arguments.copies)
    images = [load_image(path) for path in paths]
    return print_posterior(
        arguments, scorer, model, keys, images, task, right, score_name="log_p_class_given_image"
    )
