"""Run the cells of a comparison, each to one JSON record."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genvlm.config.assets import resolve_path
from genvlm.config.compare import CompareConfig, CompareEvaluationConfig
from genvlm.config.kinds import ModelTrainConfig
from genvlm.config.schema import load_config, to_plain
from genvlm.config.training import TrainConfig
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmark import Item
from genvlm.evaluation.benchmarks.emoji_pairs import build_emoji_pairs
from genvlm.evaluation.benchmarks.scenes import build_scenes
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.nn.whole_files import hold_folder, write_whole
from genvlm.scoring.open import Method, open_scorer
from genvlm.scoring.protocols import Scorer
from genvlm.studies.compare.asked import (
    HELD_OUT,
    METHODS,
    UNSEEN,
    calibration_of,
    drawing_sets,
    judge,
    name_drawings,
)
from genvlm.studies.compare.cells import (
    LANGUAGE_FOLDER,
    Cell,
    cell_config,
    choose_cells,
    load_recipes,
    plan_cells,
)
from genvlm.studies.compare.compute import decision_cost, frozen_parts
from genvlm.studies.compare.frequency import caption_counts, frequency_items
from genvlm.studies.evaluations import PAIRS
from genvlm.studies.flops import training_flops
from genvlm.studies.retrieval import (
    Directions,
    relative_to_nothing,
    run_retrieval,
    scene_gallery,
)
from genvlm.studies.runs import train_model
from genvlm.training import steps
from genvlm.training.run_folder import MODEL_FOLDER

SCHEMA = 1
RECORD_FILE = "record.json"
_CELLS, _CACHE, _RUN = "cells", "cache", "run"


Bar = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the command line draws."""

    stage: Callable[[str], None] = lambda name: None
    training: Callable[[], AbstractContextManager[steps.Progress]] = lambda: nullcontext(
        steps.Progress()
    )
    asking: Callable[[str], AbstractContextManager[Bar]] = lambda name: nullcontext(
        lambda done, total: None
    )
    """A bar of what is asked."""


def run_cells(
    config: CompareConfig, out: Path, *, only: Sequence[str] = (), told: Told | None = None
) -> None:
    """Train and ask every cell that has no record yet.

    Several processes may work on one folder at a time, each with cells of its own.

    Raises:
        ConfigError: as `load_recipes` and `choose_cells`.
        EvaluationError: `out` holds the record of another comparison.
        StoppedError: on SIGINT or SIGTERM; records stay, training goes on from its checkpoint.
    """
    told = told or Told()
    cells = choose_cells(plan_cells(config), list(only))
    recipes = load_recipes(config, str(out / LANGUAGE_FOLDER / MODEL_FOLDER))
    needs_language = any(recipes[c.recipe].kind == "projector" for c in cells)
    language_flops = 0.0
    if config.language_model is not None and needs_language:
        told.stage("language model")
        language_flops = _train_language(config.language_model, out, told)
    for number, cell in enumerate(cells, 1):
        folder = out / _CELLS / cell.name
        with hold_folder(folder, wait=True):
            if read_record(folder, identity(cell, recipes[cell.recipe], config)) is None:
                told.stage(f"{cell.name} ({number} of {len(cells)})")
                record = _run_cell(cell, recipes[cell.recipe], config, out, language_flops, told)
                write_whole(folder / RECORD_FILE, json.dumps(record, indent=1) + "\n")


def read_records(config: CompareConfig, out: Path) -> dict[Cell, dict[str, Any]]:
    """Of all cells that are done, in the order of `plan_cells`. Raises as `run_cells`."""
    recipes = load_recipes(config, str(out / LANGUAGE_FOLDER / MODEL_FOLDER))
    found = {}
    for cell in plan_cells(config):
        expected = identity(cell, recipes[cell.recipe], config)
        record = read_record(out / _CELLS / cell.name, expected)
        if record is not None:
            found[cell] = record
    return found


def identity(cell: Cell, recipe: ModelTrainConfig, config: CompareConfig) -> str:
    """sha256 of everything that a record of this cell depends on."""
    own = to_plain(cell_config(cell, recipe))
    own.pop("num_steps")
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


def _run_cell(
    cell: Cell,
    recipe: ModelTrainConfig,
    config: CompareConfig,
    out: Path,
    language_flops: float,
    told: Told,
) -> dict[str, Any]:
    cache = out / _CACHE
    trained = cell_config(cell, recipe)
    compute = training_flops(trained, cache)
    num_steps = max(1, round(config.training_flops / compute.per_step))
    warmup = min(trained.optimizer.warmup_steps, num_steps // 4)
    trained = replace(
        trained, num_steps=num_steps, optimizer=replace(trained.optimizer, warmup_steps=warmup)
    )
    run, began = out / _CELLS / cell.name / _RUN, time.perf_counter()
    resumed = run.is_dir()
    with told.training() as progress:
        model = train_model(trained, run, resume=resumed, progress=progress, cache=cache)
    seconds = time.perf_counter() - began
    frozen = frozen_parts(trained, language_flops)
    first = cell.is_main and cell.seed == config.seeds[0]
    record = {
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
            "pairs": num_steps * trained.global_batch_size,
            "seconds": None if resumed else seconds,
            "frozen_parameters": frozen.parameters,
            "tokenizing_flops": frozen.tokenizing_flops,
            "earlier_flops": frozen.earlier_flops,
        },
        **ask(model, recipe.kind, config.evaluation, told, main=cell.is_main, controls=first),
    }  # fmt: skip
    if first and cell.recipe in config.curves.frequency_recipes:
        method = METHODS[recipe.kind].drawings[0]
        items, frequency = frequency_items(caption_counts(trained.data.sources))
        with told.asking("concepts by their frequency") as bar:
            right = name_drawings(open_scorer(model, method), items, bar).right
        record["frequency"] = {"right": right, "captions": frequency, "method": method}
    return record


def ask(
    model: Path,
    kind: str,
    asked: CompareEvaluationConfig,
    told: Told,
    *,
    main: bool,
    controls: bool,
) -> dict[str, Any]:
    """Everything that a model is asked.

    Args:
        main: all of it; else, for a curve, drawings and scenes alone.
        controls: also the blind and the shuffled control of scenes and pairs.
    """
    methods = METHODS[kind]

    def scorer(method: Method) -> Scorer:
        num_samples = asked.num_samples if kind == "diffusion" else None
        return open_scorer(model, method, num_samples=num_samples)

    sets = drawing_sets(asked.num_training, asked.num_unseen, asked.num_held_out)
    drawings = {}
    for method in methods.drawings if main else methods.drawings[:1]:
        with told.asking(f"drawings by {method}") as bar:
            drawings[method] = _ask_drawings(method, scorer(method), sets, bar)
    found: dict[str, Any] = {"drawings": drawings.pop(methods.drawings[0])}
    found["drawings"] |= {
        "other_methods": drawings,
        "groups": {name: {i.id: i.group for i in items} for name, items in sets.items()},
    }
    benchmarks = {"scenes": build_scenes("noto", asked.num_scenes, asked.num_scenes)}
    if main:
        benchmarks[PAIRS] = build_emoji_pairs(max_items=asked.num_pairs)
    for method in methods.captions if main else methods.captions[:1]:
        judging = scorer(method)
        for name, benchmark in benchmarks.items():
            with told.asking(f"{name} by {method}") as bar:
                found.setdefault(name, {})[method] = judge(
                    name, benchmark, judging, progress=bar,
                    controls=controls and method == methods.captions[0],
                )  # fmt: skip
    if main:
        both = (methods.image_to_text, methods.text_to_image)
        with told.asking("retrieval") as bar:
            found["retrieval"] = _retrieve(scorer, both, asked.gallery, bar)
    return found


def _ask_drawings(
    method: Method, namer: Scorer, sets: Mapping[str, list[Item]], bar: Bar
) -> dict[str, Any]:
    done, total = 0, sum(map(len, sets.values()))
    right, calibration = {}, {}
    for name, items in sets.items():
        named = name_drawings(namer, items, lambda n, _, done=done: bar(done + n, total))  # type: ignore[misc]
        done += len(items)
        right[name] = named.right
        if name == UNSEEN:
            is_log_prob = namer.info.unit == "nats"
            calibration = calibration_of(items, named.values, is_log_prob=is_log_prob)
    return {
        "method": method,
        "unit": namer.info.unit,
        "right": right,
        "calibration": calibration,
        "cost": decision_cost(namer, sets[HELD_OUT][0].grid)._asdict(),
    }


def _retrieve(
    open_method: Callable[[Method], Scorer], methods: Sequence[Method], num: int, bar: Bar
) -> dict[str, Any]:
    scorers = {method: relative_to_nothing(open_method(method)) for method in methods}
    directions = Directions(*(scorers[method] for method in methods))
    ranked = run_retrieval(scene_gallery(num), directions, bar).retrieval._asdict()
    return {
        name: {
            "method": method,
            "ranks": dict(zip(found.ids, found.ranks.tolist(), strict=True)),
            "num_candidates": found.num_candidates,
        }
        for method, (name, found) in zip(methods, ranked.items(), strict=True)
    }


def _train_language(path: str, out: Path, told: Told) -> float:
    """Train what projectors write with, once; what it took."""
    folder, cache = out / LANGUAGE_FOLDER, out / _CACHE
    config = load_config(TrainConfig, resolve_path(path))
    with hold_folder(out, wait=True), told.training() as progress:
        train_model(config, folder, resume=folder.is_dir(), progress=progress, cache=cache)
    return training_flops(config, cache).per_step * config.num_steps
