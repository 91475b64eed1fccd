"""`genvlm classify` with a model that scores texts given a picture: a captioner, or CLIP."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.cli.class_lists import print_posterior
from genvlm.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from genvlm.scoring.open import Method
    from genvlm.studies.elimination import Task


def classify_by_texts(
    arguments: argparse.Namespace,
    keys: list[str],
    paths: Sequence[Path],
    task: "Task",
    right: "np.ndarray | None",
) -> int:
    """Posterior: the prior times p(class text | image), shared out between the classes; of
    contrastive models times p(class text | image) / p(class text), as far as they learn it."""
    from genvlm.data.images import load_image
    from genvlm.scoring.copies import CopiesScorer
    from genvlm.scoring.open import methods_of, open_scorer

    for name in ("bfloat16", "eliminate", "calibrate_elimination"):
        if getattr(arguments, name):
            option = name.replace("_", "-")
            raise ConfigError(f"--{option} is of log p(image | class), which this model lacks")
    logit = "logit" in methods_of(arguments.model)
    method: Method = "logit" if logit else "text_given_image"
    scorer = open_scorer(arguments.model, method, device=arguments.device)
    model = str(scorer.info.settings.get("model", scorer.info.fingerprint))
    if arguments.copies > 1:
        scorer = CopiesScorer(scorer, copies=arguments.copies)
    images = [load_image(path) for path in paths]
    name = "logit" if logit else "log_p_class_given_image"
    return print_posterior(arguments, scorer, model, keys, images, task, right, score_name=name)
