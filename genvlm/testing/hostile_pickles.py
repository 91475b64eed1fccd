"""Pickles that run code when they are loaded: they make a folder, the canary, and nothing else.

Each is loaded naively by `load_naively`, so that a test can see that the code would have run.
"""

import builtins
import functools
import importlib
import io
import marshal
import operator
import os
import pickle
import shutil
import struct
import subprocess
import timeit
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

Loader = Literal["pickle", "torch", "numpy"]


@dataclass(frozen=True)
class HostilePickle:
    """A file."""

    name: str
    content: bytes
    loader: Loader
    """What would run it."""


def hostile_pickles(canary: Path) -> list[HostilePickle]:
    """All of them; code that runs makes the folder `canary`."""
    made = [HostilePickle(f"call_{n}", _dump(c), "pickle") for n, c in _calls(canary).items()]
    hostile = _calls(canary)["os.mkdir"]
    made += [
        HostilePickle(f"protocol_{number}", pickle.dumps(hostile, number), "pickle")
        for number in range(6)
    ]
    made += [HostilePickle(f"opcode_{n}", c, "pickle") for n, c in _opcodes(canary).items()]
    made += [HostilePickle(f"torch_{n}", c, "torch") for n, c in _torch_files(hostile).items()]
    made += [HostilePickle(f"numpy_{n}", c, "numpy") for n, c in _numpy_files(hostile).items()]
    return made


def load_naively(hostile: HostilePickle) -> None:
    """Load it as nobody should, which runs its code."""
    try:
        match hostile.loader:
            case "pickle":
                pickle.loads(hostile.content)
            case "torch":
                torch.load(io.BytesIO(hostile.content), weights_only=False)
            case "numpy":
                loaded = np.load(io.BytesIO(hostile.content), allow_pickle=True)
                if not isinstance(loaded, np.ndarray):
                    loaded["objects"]
    except Exception:  # what comes after the code has run does not matter
        return


class _Call:
    """Is pickled as a call; of a call, where the function is one itself."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._said = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._said

    def __call__(self) -> None:
        """Never: pickle asks whether a function can be called."""


def _dump(value: object) -> bytes:
    return pickle.dumps(value, 4)


def _calls(canary: Path) -> dict[str, _Call]:
    """Ways to the canary, also through functions that a list of forbidden ones would lack."""
    path, source = str(canary), f"__import__('os').mkdir({str(canary)!r})"
    code = marshal.dumps(compile(source, "hostile", "eval"))
    module = _Call(importlib.import_module, "os")
    function = _Call(getattr, _Call(importlib.import_module, "types"), "FunctionType")
    mkdir = _Call(os.mkdir, path)
    return {
        "os.mkdir": mkdir,
        "os.makedirs": _Call(os.makedirs, path),
        "os.system": _Call(os.system, f"mkdir '{path}'"),
        "subprocess.call": _Call(subprocess.call, ["mkdir", path]),
        "subprocess.check_output": _Call(subprocess.check_output, ["mkdir", path]),
        "eval": _Call(builtins.eval, source),
        "exec": _Call(builtins.exec, source),
        "getattr": _Call(_Call(getattr, module, "mkdir"), path),
        "partial": _Call(_Call(functools.partial, os.mkdir), path),
        "methodcaller": _Call(_Call(operator.methodcaller, "mkdir", path), module),
        "map": _Call(list, _Call(map, os.mkdir, [path])),
        "pathlib": _Call(Path.mkdir, Path(path)),
        "copytree": _Call(shutil.copytree, str(Path(__file__).parent / "faults"), path),
        "timeit": _Call(timeit.timeit, source, "pass", timeit.default_timer, 1),
        "bytecode": _Call(_Call(function, _Call(marshal.loads, code), _Call(dict))),
        "nested_pickle": _Call(pickle.loads, pickle.dumps(mkdir)),
        "torch_storage": _Call(torch.storage._load_from_bytes, _torch_zip(mkdir)),
    }


def _opcodes(canary: Path) -> dict[str, bytes]:
    """By instructions that no pickler of today writes."""
    path = str(canary).encode()
    text = b"X" + struct.pack("<I", len(path)) + path
    call = b"cos\nmkdir\n" + text + b"\x85R"
    return {
        "inst": b"(V" + path + b"\nios\nmkdir\n.",
        "obj": b"(cos\nmkdir\n" + text + b"o.",
        "stack_global": b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + text + b"\x85R.",
        "dotted_global": b"\x80\x04\x8c\x07pathlib\x8c\x0aPath.mkdir\x93"
        + b"\x8c\x07pathlib\x8c\x04Path\x93" + text + b"\x85R\x85R.",
        "thrown_away": call + b"0N.",
        "inside_of_a_dictionary": b"}X\x01\x00\x00\x00a" + call + b"s.",
        "build": b"ccollections\nOrderedDict\n)R}X\x01\x00\x00\x00a" + call + b"sb.",
        "before_the_magic_number": call + b"0\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
    }  # fmt: skip


def _torch_zip(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _torch_files(hostile: _Call) -> dict[str, bytes]:
    """As torch.save writes them, old and new, with good tensors around."""
    tensors = {"weight": torch.zeros(2, 2)}
    legacy = io.BytesIO()
    torch.save(
        {"state_dict": tensors, "hook": hostile}, legacy, _use_new_zipfile_serialization=False
    )
    ordered = OrderedDict(tensors)
    ordered["hook"] = hostile  # type: ignore[assignment]
    return {
        "zip": _torch_zip(hostile),
        "beside_tensors": _torch_zip({"state_dict": tensors, "callbacks": hostile}),
        "among_tensors": _torch_zip({"state_dict": ordered}),
        "as_a_name": _torch_zip([hostile, tensors]),
        "legacy": legacy.getvalue(),
        "other_protocol": _torch_protocol(hostile),
    }


def _torch_protocol(hostile: _Call) -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": hostile}, buffer, pickle_protocol=4)
    return buffer.getvalue()


def _numpy_files(hostile: _Call) -> dict[str, bytes]:
    array, archive, one = io.BytesIO(), io.BytesIO(), io.BytesIO()
    objects = np.array([hostile, None], dtype=object)
    np.save(array, objects, allow_pickle=True)
    np.savez(archive, encoded=np.zeros(3), samples=np.zeros(2, np.uint8), objects=objects)
    np.save(one, np.array(hostile, dtype=object), allow_pickle=True)
    return {"npy": array.getvalue(), "npz": archive.getvalue(), "scalar": one.getvalue()}
