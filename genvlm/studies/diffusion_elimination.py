"""How often elimination changes the answer of a diffusion model, measured on one exhaustive run.

All samples of all pictures are taken once; every method is then replayed on them. The threshold of
a sequential test is fitted on one half of the pictures and every method measured on the other.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError
from genvlm.evaluation.statistics import Undefined, wilson_interval
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.scoring.diffusion import DiffusionScorer
from genvlm.scoring.diffusion_elimination import (
    Method,
    SequentialTest,
    check_templates,
    confident_test,
    eliminate,
    fit_threshold,
    published_schedule,
    replayed,
)
from genvlm.scoring.protocols import Grid
from genvlm.scoring.zero_shot import class_texts, log_prior_of
from genvlm.studies.elimination import LOST, Calibration, Measurement, Task
from genvlm.studies.halves import split_in_halves

CONFIDENCE = 0.99
"""Of the test whose threshold is not fitted."""


def calibration_key(scorer: DiffusionScorer, task: Task) -> str:
    """What a calibration is kept under: one for each task and way to score."""
    return fingerprint_of({"task": task.key, "scorer": scorer.info.fingerprint})


def calibrate_diffusion(
    scorer: DiffusionScorer,
    keys: Sequence[str],
    images: Sequence[RGBImage],
    task: Task,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Fit sequential tests on one half of the pictures, replay every method on the other.

    Args:
        keys: one for each picture; its hash tells its half.

    Raises:
        ConfigError: too few pictures, or what `classify_by_dropping` refuses.
    """
    first = split_in_halves(keys, fitted="a sequential test")
    samples = class_samples(scorer, images, task, progress=progress)
    levels, num_samples = scorer.pairs.levels, len(scorer.pairs)
    offsets = task.temperature * log_prior_of(task.classes, task.prior)
    methods: dict[str, Method] = {
        "published": published_schedule(len(task.classes), num_samples),
        "published-nested": published_schedule(len(task.classes), num_samples, nested=True),
        "sequential": confident_test(CONFIDENCE, len(task.classes), num_samples),
    }
    for lost in LOST:
        threshold, _ = fit_threshold(samples[first], levels, lost, offsets)
        methods[f"sequential:{lost:g}"] = SequentialTest(threshold=threshold)
    others = samples[~first]
    best = (others.mean(2, dtype=np.float64) + offsets).argmax(1)
    measured = []
    for name, method in methods.items():
        found = eliminate(replayed(others), others.shape[:2], levels, method, offsets)
        flips = int((found.ranking[:, 0] != best).sum())
        interval = wilson_interval(flips, len(others))
        assert not isinstance(interval, Undefined)
        measured.append(
            Measurement(
                name=name,
                parts=num_samples,
                threshold=method.threshold if isinstance(method, SequentialTest) else None,
                spent=found.spent,
                speedup=1 / found.spent,
                flips=flips,
                num_images=len(others),
                interval=(interval.low, interval.high),
            )
        )
    return Calibration(
        key=calibration_key(scorer, task),
        model=scorer.info.fingerprint,
        num_fitted=int(first.sum()),
        measured=measured,
    )


def method_of(measured: Measurement, num_classes: int) -> Method:
    """What `classify_by_dropping` takes."""
    if measured.threshold is not None:
        return SequentialTest(threshold=measured.threshold)
    nested = measured.name == "published-nested"
    return published_schedule(num_classes, measured.parts, nested=nested)


def class_samples(
    scorer: DiffusionScorer,
    images: Sequence[RGBImage],
    task: Task,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Float32[np.ndarray, "images classes pairs"]:
    """Every sample of every class, the mean over templates; raises as `classify_by_dropping`."""
    if not images:
        raise ConfigError("no picture to classify: give at least one")
    check_templates(scorer, task.templates)
    texts = class_texts(task.classes, task.templates)
    shape = (len(task.classes), len(task.templates), len(scorer.pairs))
    found = np.empty((len(images), shape[0], shape[2]), np.float32)
    for number, image in enumerate(images):
        [scores] = scorer.score([Grid(item_id=str(number), images=[image], texts=texts)])
        assert scores.samples is not None
        found[number] = scores.samples[0].reshape(shape).mean(1)
        progress(number + 1, len(images))
    return found
