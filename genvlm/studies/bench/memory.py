"""Peak memory of one piece of work, in a fresh process.

The child builds what it needs, makes a small first call, gives free memory back to the system,
resets the kernel's high-water mark and works once. What counts is the highest resident size from
there on minus the resident size before.
"""

import contextlib
import ctypes
import multiprocessing
import re
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(
    prepare: Callable[..., Callable[[], object]], *arguments: object, threads: int
) -> int | None:
    """Bytes that the callable which `prepare(*arguments)` returns takes beyond what was there.

    None where the system does not tell (anything but Linux). `prepare` is a function of a module.
    """
    if not (_STATUS.is_file() and _CLEAR.is_file()):
        return None
    # spawn: a forked child would begin with the memory of its parent.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (prepare, arguments, threads))


def _measure(
    prepare: Callable[..., Callable[[], object]], arguments: tuple[object, ...], threads: int
) -> int | None:
    torch.set_num_threads(threads)
    work = prepare(*arguments)
    with contextlib.suppress(OSError, AttributeError):  # not glibc: nothing to give back
        ctypes.CDLL(None).malloc_trim(0)
    try:
        _CLEAR.write_text("5")
    except OSError:  # no permission: the mark would hold the building of the model
        return None
    before = _status("VmRSS")
    work()
    return max(0, _status("VmHWM") - before)


def peak_of_process(pid: int) -> int | None:
    """Highest resident size that a process had; None where the system does not tell."""
    path = Path(f"/proc/{pid}/status")
    return _status("VmHWM", path) if path.is_file() else None


def _status(key: str, path: Path = _STATUS) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    if found is None:
        raise RuntimeError(f"{path} has no {key}")
    return int(found[1]) * 1024
