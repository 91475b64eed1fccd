"""Tensors on disk as safetensors, and the fingerprint of what they say. No pickle is ever read."""

import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from genvlm.errors import CheckpointError


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write all tensors into one safetensors file, which appears whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with _signals_afterwards():
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        CheckpointError: missing, truncated or not safetensors.
    """
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}: the folder is incomplete, copy it again")
    try:
        with _signals_afterwards(), safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged or not safetensors ({error}): copy it again"
        ) from None


def load_into(
    module: nn.Module, tensors: Mapping[str, Tensor], source: str, *, assign: bool = False
) -> None:
    """Copy tensors into a module, after checking that names and shapes agree exactly.

    Args:
        assign: take the tensors themselves, with their dtype, instead of copies.

    Raises:
        CheckpointError: lists what is missing, unexpected and misshapen.
    """
    expected = module.state_dict()
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys())
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if tensors[name].shape != expected[name].shape
    ]
    if missing or unexpected or misshapen:
        problems = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
        said = "; ".join(f"{k}: {_some(v)}" for k, v in problems.items() if v)
        raise CheckpointError(f"{source} does not fit its configuration ({said})")
    module.load_state_dict(dict(tensors), assign=assign)


def fingerprint_tensors(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over sorted (name, dtype, shape, bytes): equal for equal weights anywhere."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint_of(payload: object) -> str:
    """sha256 of canonical JSON: sorted keys, no blanks, ASCII."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _signals_afterwards() -> Iterator[None]:
    """SIGINT and SIGTERM wait: what a handler raises inside safetensors comes out as another error.

    Only the main thread runs handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, remember)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        for waiting in received:
            signal.raise_signal(waiting)


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
