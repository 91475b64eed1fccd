"""Tiny runs of training that are stopped and resumed, and what they must have in common."""

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genvlm.cli.main import main
from genvlm.config.data import CaptionsSource
from genvlm.config.schema import dump_config
from genvlm.config.training import TrainConfig
from genvlm.nn.safetensors_folder import fingerprint_tensors, load_tensors
from genvlm.nn.whole_files import hash_file
from genvlm.testing.faults.row import demand
from genvlm.testing.tiny import tiny_train_config, write_tiny_captions
from genvlm.training.checkpoint import list_checkpoints
from genvlm.training.run_folder import CHECKPOINTS, LOG_FILE, MODEL_FOLDER, read_log
from genvlm.training.run_log import CLOCK_KEYS


def tiny_run(folder: Path, *, num_steps: int, checkpoint_every: int) -> TrainConfig:
    """Dropout, so that the random state counts; two micro-batches a step; three steps an epoch."""
    config = tiny_train_config(
        folder,
        num_steps=num_steps,
        global_batch_size=4,
        micro_batch_size=2,
        checkpoint_every=checkpoint_every,
    )
    return replace(config, model=replace(config.model, dropout=0.1))


def variants(config: TrainConfig, folder: Path) -> dict[str, TrainConfig]:
    """Runs with another order of samples, optimizer or state beside it, by what is special."""
    data = config.data
    more = CaptionsSource(path=str(write_tiny_captions(folder / "more")))
    mixture = replace(data, sources=(*data.sources, more), weights=(2.0, 1.0))
    return {
        "padded": config,
        "packed": replace(config, data=replace(data, packing=True)),
        "mixed by weight": replace(config, data=mixture),
        "averaged": replace(config, ema_decay=0.9),
        "Muon": replace(config, optimizer=replace(config.optimizer, kind="muon")),
    }


def write_run(config: TrainConfig, path: Path) -> list[str]:
    """The arguments of `genvlm` that train it, but --out."""
    path.write_text(dump_config(config))
    return ["train", str(path)]


@dataclass(frozen=True)
class RunEnd:
    """What two runs of one configuration must share, whatever happened to one of them."""

    weights: str
    """Fingerprint of the model folder's."""
    checkpoint: Mapping[str, str]
    """What each file of the newest checkpoint holds."""
    log: tuple[Mapping[str, Any], ...]
    """Without what the clock decides about."""


def end_of(out: Path) -> RunEnd:
    """Of a finished run."""
    newest = list_checkpoints(out / CHECKPOINTS)[-1]
    checkpoint = {
        str(path.relative_to(newest)): _content(path)
        for path in sorted(newest.rglob("*"))
        if path.is_file() and path.name != "manifest.json"  # hashes of the others, as bytes
    }
    demand("optimizer.pt" in checkpoint, f"{newest} holds no optimizer")
    records = tuple(
        {
            name: value
            for name, value in record.items()
            if name not in CLOCK_KEYS and not name.endswith("_per_second")
        }
        for record in read_log(out / LOG_FILE)
    )
    weights = fingerprint_tensors(load_tensors(out / MODEL_FOLDER / "model.safetensors"))
    return RunEnd(weights, checkpoint, records)


def demand_same(out: Path, expected: RunEnd) -> None:
    """Raise AssertionError unless a run ended bitwise as another."""
    found = end_of(out)
    demand(found.log == expected.log, f"{out} has another log")
    demand(found.weights == expected.weights, f"{out} has other weights")
    names = found.checkpoint.keys() | expected.checkpoint.keys()
    differing = [n for n in sorted(names) if found.checkpoint.get(n) != expected.checkpoint.get(n)]
    demand(not differing, f"the last checkpoint of {out} has another {', '.join(differing)}")


def last_logged(out: Path) -> int:
    """The last step of which a run has told; 0 before."""
    path = out / LOG_FILE
    records = read_log(path) if path.is_file() else []
    return int(records[-1]["step"]) if records else 0


def warm_up(config: TrainConfig, folder: Path) -> None:
    """Before a fork: load all that the command loads; threads of torch die in a child."""
    torch.set_num_threads(1)
    arguments = write_run(replace(config, num_steps=1), folder.with_suffix(".yaml"))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = main([*arguments, "--out", str(folder)])
    demand(code == 0, f"the command ends with {code}")


def _content(path: Path) -> str:
    """Of a file of torch the numbers: equal ones can be pickled otherwise."""
    if path.suffix != ".pt":
        return hash_file(path)
    tensors = dict[str, Tensor]()
    _flatten(torch.load(path, weights_only=True), path.name, tensors)
    return fingerprint_tensors(tensors)


def _flatten(value: object, name: str, found: dict[str, Tensor]) -> None:
    """Tensors by their path; numbers become tensors, so that they are compared too."""
    if isinstance(value, Tensor):
        found[name] = value
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            _flatten(inside, f"{name}.{key}", found)
    elif isinstance(value, (list, tuple)):
        for number, inside in enumerate(value):
            _flatten(inside, f"{name}.{number}", found)
    elif isinstance(value, (int, float)):
        found[name] = torch.tensor(value, dtype=torch.float64)
