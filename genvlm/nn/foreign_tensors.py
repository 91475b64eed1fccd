"""Tensors of foreign files. Pickles are read with `weights_only`: code in them never runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genvlm.errors import CheckpointError
from genvlm.nn.safetensors_folder import load_tensors, save_tensors

_INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_KEYS = ("state_dict", "model")
"""Under which published files keep their tensors: taming's and Meta's, LlamaGen's."""


def read_pickled(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.pth`, `.pt` or `.ckpt` file.

    Raises:
        CheckpointError: missing, unreadable without running code, or no dictionary of tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises several kinds for foreign or hostile files
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors and cannot be read without running "
            "code: save its state_dict alone"
        ) from None
    if isinstance(content, dict):
        content = next((content[k] for k in _KEYS if isinstance(content.get(k), dict)), content)
        if content and all(isinstance(t, Tensor) for t in content.values()):
            return dict(content)
    raise CheckpointError(f"{path} holds no state_dict of tensors")


def load_state(path: Path) -> Any:
    """Tensors and plain numbers of a state that torch.save wrote, on the CPU.

    Raises:
        CheckpointError: missing, damaged, or it holds more than that.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # as above
        raise CheckpointError(
            f"{path} is missing, damaged, or holds more than tensors and numbers: copy the "
            "checkpoint again, or remove it to resume from the one before it"
        ) from None


def read_sharded(folder: Path) -> dict[str, Tensor]:
    """Tensors of `model.safetensors`, or of all the files that its index names.

    Raises:
        CheckpointError: neither is there, a shard is missing, or lacks what the index promises.
    """
    if not (folder / _INDEX).is_file():
        return load_tensors(folder / _SINGLE)
    try:
        places = dict(json.loads((folder / _INDEX).read_text("utf-8"))["weight_map"].items())
        if not all(isinstance(name, str) and "\0" not in name for name in places.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{folder / _INDEX} is no index of shards") from None
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise CheckpointError(f"{folder / _INDEX} names {name}, which is outside the folder")
        tensors |= load_tensors(path)
    if lost := sorted(places.keys() - tensors.keys()):
        raise CheckpointError(f"the shards in {folder} lack {len(lost)} tensors, first {lost[0]}")
    return tensors


def write_sharded(tensors: Mapping[str, Tensor], folder: Path, *, max_bytes: int) -> None:
    """One safetensors file, or several of at most `max_bytes` with the index that names them."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    if len(shards) == 1:
        save_tensors(shards[0], folder / _SINGLE)
        return
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        save_tensors(shard, folder / name)
    places = {t: name for name, shard in zip(names, shards, strict=True) for t in shard}
    total = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / _INDEX).write_text(json.dumps(index, indent=2))
