"""Run the cells of a comparison, each to one JSON record that grows section by section."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genvlm.config.compare import CompareConfig
from genvlm.config.kinds import ModelTrainConfig
from genvlm.config.schema import to_plain
from genvlm.errors import ConfigError, EvaluationError
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.nn.whole_files import hold_folder, write_whole
from genvlm.scoring.features import pixel_features
from genvlm.studies.compare.cells import (
    Cell,
    cell_config,
    check_joined,
    choose_cells,
    in_front,
    load_recipes,
    plan_cells,
    with_steps,
)
from genvlm.studies.compare.compute import tokenizing
from genvlm.studies.compare.questions import Asked, ask, name_by_pixels, probe, sections
from genvlm.studies.flops import training_flops
from genvlm.studies.retrieval import scene_gallery
from genvlm.studies.runs import train_model
from genvlm.training import steps
from genvlm.training.run_folder import MODEL_FOLDER
from genvlm.training.stopping import StoppedError

SCHEMA = 1
RECORD_FILE = "record.json"
_CELLS, _CACHE, _RUN, BASELINES = "cells", "cache", "run", "baselines"
_GO_ON = "the same command goes on"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the command line draws."""

    stage: Callable[[str], None] = lambda name: None
    training: Callable[[], AbstractContextManager[steps.Progress]] = lambda: nullcontext(
        steps.Progress()
    )
    asking: Callable[[str], AbstractContextManager[Callable[[int, int], None]]] = lambda name: (
        nullcontext(lambda done, total: None)
    )
    """A bar of what is asked."""


def run_cells(
    config: CompareConfig, out: Path, *, only: Sequence[str] = (), told: Told | None = None
) -> None:
    """Train every cell and ask it whatever its record does not hold yet.

    Several processes may work on one folder at a time, each with cells of its own.

    Raises:
        ConfigError: as `load_recipes`, `choose_cells` and `check_joined`, or the FLOPs do not make
            a step.
        EvaluationError: `out` holds the record of another comparison, or a gallery is too large.
        StoppedError: on SIGINT or SIGTERM; records stay, training goes on from its checkpoint.
    """
    told = told or Told()
    recipes = load_recipes(config, out)
    cells = choose_cells(plan_cells(config), list(only))
    # What cannot be gone on with is refused before hours.
    records = read_records(config, out)
    scene_gallery(config.evaluation.gallery)
    left = [
        c for c in cells if c not in records or not set(sections(c, config)) <= records[c].keys()
    ]
    untrained = [cell for cell in left if cell not in records]
    for cell in untrained:
        check_joined(recipes[cell.recipe], config)
    earlier = dict[str, float]()
    for cell in untrained:
        for part, trained in in_front(recipes[cell.recipe], config).items():
            if part not in earlier:
                told.stage(part.replace("_", " "))
                earlier[part] = _train_in_front(trained, out, part, told)
    for number, cell in enumerate(left, 1):
        told.stage(f"{cell.name} ({number} of {len(left)})")
        with hold_folder(out / _CELLS / cell.name, wait=True):
            _run_cell(cell, recipes[cell.recipe], config, out, earlier, told)


def _run_cell(
    cell: Cell,
    recipe: ModelTrainConfig,
    config: CompareConfig,
    out: Path,
    earlier: Mapping[str, float],
    told: Told,
) -> None:
    folder = out / _CELLS / cell.name
    record = read_record(folder, identity(cell, recipe, config))
    if record is None:
        record = _train_cell(cell, recipe, config, out, earlier, told)
        _write(record, folder)
    asked = Asked(
        model=folder / _RUN / MODEL_FOLDER,
        kind=recipe.kind,
        cell=cell,
        config=config,
        sources=recipe.data.sources,
    )
    for section in sections(cell, config):
        if section not in record:
            with told.asking(section) as bar:
                record[section] = ask(section, asked, bar)
            _write(record, folder)


def read_records(config: CompareConfig, out: Path) -> dict[Cell, dict[str, Any]]:
    """Of all cells that were trained, in the order of `plan_cells`. Raises as `run_cells`."""
    recipes = load_recipes(config, out)
    found = {}
    for cell in plan_cells(config):
        expected = identity(cell, recipes[cell.recipe], config)
        record = read_record(out / _CELLS / cell.name, expected)
        if record is not None:
            found[cell] = record
    return found


def baselines(config: CompareConfig, out: Path) -> dict[str, Any]:
    """What needs no model, of the same drawings and shots; kept in `out`."""
    folder, of = out / BASELINES, config.evaluation
    expected = fingerprint_of([SCHEMA, to_plain(of)])
    with hold_folder(folder, wait=True):
        record = read_record(folder, expected)
        if record is None:
            record = {
                "schema": SCHEMA,
                "identity": expected,
                "drawings": name_by_pixels(of),
                "probes": probe(pixel_features(), of),
            }
            _write(record, folder)
    return record


def identity(cell: Cell, recipe: ModelTrainConfig, config: CompareConfig) -> str:
    """sha256 of everything that a record of this cell depends on."""
    own = to_plain(cell_config(cell, recipe))
    for without_effect in ("num_steps", "log_every", "checkpoint_every", "tensorboard"):
        own.pop(without_effect)
    for part, trained in in_front(recipe, config).items():
        own["model"][part] = to_plain(trained)  # not where it lies
    asked = [config.training_flops, to_plain(config.evaluation), config.seeds[0] == cell.seed]
    return fingerprint_of([SCHEMA, cell.name, own, asked])


def read_record(folder: Path, expected: str) -> dict[str, Any] | None:
    """The record of a cell; None where there is none yet.

    Raises:
        EvaluationError: it is damaged, or of another configuration.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = record["identity"]
    except (ValueError, KeyError, TypeError):
        raise EvaluationError(f"{path} is no record of a cell: delete it, to run it anew") from None
    if found != expected:
        raise EvaluationError(
            f"{path} is of another configuration than this comparison: choose another --out, or "
            f"delete {folder}"
        )
    return record


def _train_cell(
    cell: Cell,
    recipe: ModelTrainConfig,
    config: CompareConfig,
    out: Path,
    earlier: Mapping[str, float],
    told: Told,
) -> dict[str, Any]:
    """The record of a model that has not been asked anything."""
    cache = out / _CACHE
    trained = cell_config(cell, recipe)
    compute = training_flops(trained, cache)
    num_steps = round(config.training_flops / compute.per_step)
    if num_steps < 1:
        raise ConfigError(
            f"training_flops {config.training_flops:g} is less than one step of {cell.recipe}, "
            f"{compute.per_step:.3g}: raise it, or make its batch smaller"
        )
    trained = with_steps(trained, num_steps)
    began = time.perf_counter()
    resumed = _train(trained, out / _CELLS / cell.name / _RUN, cache, told)
    seconds = time.perf_counter() - began
    encoded = tokenizing(trained)
    return {
        "schema": SCHEMA,
        "identity": identity(cell, recipe, config),
        "cell": {
            "name": cell.name, "recipe": cell.recipe, "kind": recipe.kind, "seed": cell.seed,
            "data_share": cell.data_share, "batch_size": cell.batch_size,
        },
        "training": {
            "parameters": compute.num_parameters,
            "flops": compute.per_step * num_steps,
            "num_steps": num_steps,
            "batch_size": trained.global_batch_size,
            "pairs": num_steps * trained.global_batch_size,
            "seconds": None if resumed else seconds,
            "frozen_parameters": compute.num_frozen + encoded.parameters,
            "tokenizing_flops": encoded.flops,
            "earlier_flops": sum((earlier[part] for part in in_front(recipe, config)), 0.0),
        },
    }  # fmt: skip


def _train(config: ModelTrainConfig, run: Path, cache: Path, told: Told) -> bool:
    """Train, or go on with it; whether it went on."""
    resumed = run.is_dir()
    with told.training() as progress:
        try:
            train_model(config, run, resume=resumed, progress=progress, cache=cache)
        except StoppedError as stopped:
            raise StoppedError(stopped.step, stopped.signal_number, _GO_ON) from None
    return resumed


def _write(record: dict[str, Any], folder: Path) -> None:
    write_whole(folder / RECORD_FILE, json.dumps(record, indent=1) + "\n")


def _train_in_front(config: ModelTrainConfig, out: Path, part: str, told: Told) -> float:
    """Train what projectors join, once; what it took."""
    cache = out / _CACHE
    with hold_folder(out, wait=True):
        _train(config, out / part, cache, told)
    return training_flops(config, cache).per_step * config.num_steps
