"""How often elimination changes the answer of the transformer, measured against exhaustive scoring.

A race is fitted on one half of the pictures; every method is run on the other half, where answers
are compared with exhaustive ones. Labels are not needed: a flip is another best class, right or
wrong. The result is kept beside the model (`elimination.json`), which its fingerprint and manifest
do not include.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError
from genvlm.evaluation.statistics import Undefined, wilson_interval
from genvlm.models.pretrained import PretrainedModel
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.nn.whole_files import write_whole
from genvlm.scoring.autoregressive import LikelihoodScorer
from genvlm.scoring.elimination import (
    Bound,
    Halving,
    Method,
    Race,
    classify_by_elimination,
    partial_scores,
    threshold_for,
)
from genvlm.scoring.zero_shot import classify
from genvlm.studies.halves import split_in_halves

FILE = "elimination.json"
PARTS = 8
LOST = (0.0, 0.01, 0.05)
"""Shares of the fitting pictures whose best class a race may lose."""
HALVINGS = (2, 4, 8)
_SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is classified into; two tasks with equal keys share their measurements."""

    classes: Sequence[str]
    templates: Sequence[str] = ("{}",)
    prior: Sequence[float] | None = None
    temperature: float = 1.0

    @property
    def key(self) -> str:
        """sha256 of classes, templates and prior. Without a prior the temperature ranks nothing."""
        payload: dict[str, object] = {
            "classes": list(self.classes), "templates": list(self.templates),
        }  # fmt: skip
        if self.prior is not None:
            total = sum(self.prior)
            payload["prior"] = [float(f"{p / total:.12g}") for p in self.prior]
            payload["temperature"] = self.temperature
        return fingerprint_of(payload)

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of `classify` and `classify_by_elimination`."""
        return {
            "templates": self.templates, "prior": self.prior, "temperature": self.temperature,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One method with one setting, beside exhaustive scoring."""

    name: str
    """bound, race:LOST (share of the fitting pictures it may lose) or halving:PARTS; of diffusion
    models published, published-nested, sequential or sequential:LOST."""
    parts: int
    """Of the codes; of diffusion models the samples of exhaustive scoring."""
    threshold: float | None
    """Of a race, in nats; of a sequential test, in standard errors."""
    spent: float
    """Evaluations, as a share of those of exhaustive scoring: of code positions or of samples."""
    speedup: float
    """Processor seconds of exhaustive scoring over those of this method, one run of each: what
    else the machine does counts little. Of diffusion models 1 / spent: the network takes it all."""
    flips: int
    num_images: int
    interval: tuple[float, float]
    """Wilson, of the flip rate."""

    @property
    def method(self) -> Method:
        """What `classify_by_elimination` takes."""
        if self.name == "bound":
            return Bound(self.parts)
        return Halving(self.parts) if self.threshold is None else Race(self.threshold, self.parts)

    @property
    def flip_rate(self) -> str:
        """The flip rate in words."""
        low, high = (100 * x for x in self.interval)
        return (
            f"{100 * self.flips / self.num_images:.1f} % "
            f"({self.flips} of {self.num_images}; 95 % interval {low:.1f} to {high:.1f} %)"
        )


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """All measurements of one model on one task."""

    key: str
    model: str
    """Fingerprint of the model, or of the scorer of a diffusion model."""
    num_fitted: int
    measured: Sequence[Measurement]


def calibrate(
    pretrained: PretrainedModel,
    keys: Sequence[str],
    images: Sequence[RGBImage],
    task: Task,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Fit races on one half of the pictures, run and time every method on the other.

    Args:
        keys: one for each picture; its hash tells its half.

    Raises:
        ConfigError: too few pictures, or what `classify` refuses.
    """
    first = split_in_halves(keys, fitted="a race")
    fitting, others = ([images[i] for i in half.nonzero()[0]] for half in (first, ~first))
    total = 2 + 1 + len(LOST) + len(HALVINGS)
    partial = partial_scores(pretrained, fitting, task.classes, parts=PARTS, **task.settings)
    progress(1, total)
    scorer = LikelihoodScorer(pretrained, "image_given_text")
    begin = time.process_time()
    whole = classify(scorer, others, task.classes, **task.settings)
    seconds = time.process_time() - begin
    best = whole.log_probs.argmax(1)
    progress(2, total)
    methods: dict[str, Method] = {"bound": Bound(PARTS)}
    methods |= {f"race:{lost:g}": Race(threshold_for(partial, lost)[0], PARTS) for lost in LOST}
    methods |= {f"halving:{parts}": Halving(parts) for parts in HALVINGS}
    measured = []
    for name, method in methods.items():
        begin = time.process_time()
        found = classify_by_elimination(pretrained, others, task.classes, method, **task.settings)
        taken = time.process_time() - begin
        flips = int((found.ranking[:, 0] != best).sum())
        interval = wilson_interval(flips, len(others))
        assert not isinstance(interval, Undefined)
        measured.append(
            Measurement(
                name=name,
                parts=method.parts,
                threshold=method.threshold if isinstance(method, Race) else None,
                spent=found.spent,
                speedup=seconds / taken,
                flips=flips,
                num_images=len(others),
                interval=(interval.low, interval.high),
            )
        )
        progress(2 + len(measured), total)
    return Calibration(
        key=task.key, model=pretrained.fingerprint, num_fitted=len(fitting), measured=measured
    )


def save_calibration(calibration: Calibration, task: Task, model_folder: Path) -> Path:
    """Add it to the model folder's file, in place of an earlier one of the same task."""
    path = model_folder / FILE
    tasks = _read_tasks(path)
    tasks[calibration.key] = asdict(calibration) | {
        "num_classes": len(task.classes), "templates": list(task.templates),
    }  # fmt: skip
    write_whole(path, json.dumps({"schema": _SCHEMA, "tasks": tasks}, indent=1) + "\n")
    return path


def find_measurement(
    name: str, key: str, fingerprint: str, model_folder: Path, *, settings: str = ""
) -> Measurement:
    """The measurement of a method; `race` alone is `race:0`, and `halving` alone `halving:2`.

    Args:
        key, fingerprint: those of the calibration.
        settings: options that a calibration holds for besides classes, templates and prior, as
            the error names them.

    Raises:
        ConfigError: nothing was measured for this model and task, or not this method.
    """
    name = {"race": f"race:{LOST[0]:g}", "halving": f"halving:{HALVINGS[0]}"}.get(name, name)
    stored = _read_tasks(model_folder / FILE).get(key)
    if stored is None or stored.get("model") != fingerprint:
        raise ConfigError(
            f"--eliminate {name} changes answers, and nobody measured how often with this model, "
            f"these classes, templates and prior{settings and f' and {settings}'}: run `genvlm "
            f"classify --calibrate-elimination{settings and f' {settings}'}` with the same "
            "classes, templates and prior"
        )
    rows = {row["name"]: row for row in stored["measured"]}
    if name not in rows:
        raise ConfigError(f"--eliminate {name} was not measured; choose one of {', '.join(rows)}")
    return Measurement(**rows[name] | {"interval": tuple(rows[name]["interval"])})


def _read_tasks(path: Path) -> dict[str, Mapping]:
    """Tasks by key; none where there is no file. Raises ConfigError: damaged, or another schema."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != _SCHEMA:
            raise ValueError(f"schema {content['schema']}")
        return dict(content["tasks"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): remove it and calibrate anew"
        ) from None
