"""What machines can: memory and peak speed of GPUs by their data sheets, memory of this machine."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from genvlm.errors import ConfigError

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """Numbers of a data sheet; nothing here was measured."""

    memory: int
    """Bytes."""
    bfloat16: float
    """Peak FLOP/s of dense bfloat16 products that are added up in float32."""
    float32: float
    """Peak FLOP/s in float32, without TF32, as torch computes by default."""

    def peak_flops(self, precision: str) -> float:
        """FLOP/s of a run's `precision`."""
        return self.bfloat16 if precision == "bfloat16" else self.float32


GPUS = {
    "h100": Gpu(80 * GIB, 989e12, 67e12),
    "h100-pcie": Gpu(80 * GIB, 756e12, 51e12),
    "h200": Gpu(140 * GIB, 989e12, 67e12),
    "b200": Gpu(180 * GIB, 2250e12, 75e12),
    "a100": Gpu(80 * GIB, 312e12, 19.5e12),
    "a100-40": Gpu(40 * GIB, 312e12, 19.5e12),
    "l40s": Gpu(48 * GIB, 362e12, 91.6e12),
    "rtx4090": Gpu(24 * GIB, 165e12, 82.6e12),
}
"""By the names that `genvlm plan --gpu` takes."""
# Of what drivers call them: the first whose words all occur.
_DEVICE_NAMES = {
    ("H100", "PCIe"): "h100-pcie",
    ("H100",): "h100",
    ("H200",): "h200",
    ("B200",): "b200",
    ("A100", "40GB"): "a100-40",
    ("A100",): "a100",
    ("L40S",): "l40s",
    ("RTX 4090",): "rtx4090",
}


def find_gpu(name: str) -> Gpu:
    """A GPU by its name here. Raises ConfigError: it is not listed."""
    if name not in GPUS:
        raise ConfigError(f"no GPU {name!r} is listed; choose one of {', '.join(GPUS)}")
    return GPUS[name]


def recognise_gpu(device_name: str) -> Gpu | None:
    """A GPU by what its driver calls it; None where it is not listed."""
    for words, name in _DEVICE_NAMES.items():
        if all(word in device_name for word in words):
            return GPUS[name]
    return None


class Memory(NamedTuple):
    """Of one device, in bytes."""

    total: int
    available: int


def machine_memory(root: Path = Path("/")) -> Memory | None:
    """What this process may use: of the machine, or of the tightest control group that holds it.

    None where the system does not tell (it is no Linux). Pages that a group has cached of files
    count as available, as in MemAvailable.
    """
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line}
        memory = Memory(values["MemTotal"], values["MemAvailable"])
    except (OSError, KeyError, ValueError, IndexError):
        return None
    for limit, used in _group_limits(root):
        if limit < memory.total:
            memory = Memory(limit, min(memory.available, max(0, limit - used)))
    return memory


def processes_here() -> int:
    """Processes of this run on this machine, which share its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) of this process's control groups, of both versions, from inside out."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
            cached = "inactive_file"
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            cached = "total_inactive_file"
        else:
            continue
        # Within a container the own path may not be mounted: its root then is the own group.
        inside = mount / path.lstrip("/")
        for folder in (inside, *inside.parents):
            if folder.is_relative_to(mount):
                yield from _read_limit(folder, names, cached)


def _read_limit(folder: Path, names: tuple[str, str], cached: str) -> Iterator[tuple[int, int]]:
    try:
        limit, used = ((folder / name).read_text().strip() for name in names)
        if limit == "max":
            return
        statistics = (folder / "memory.stat").read_text().splitlines()
        of_files = sum(int(line.split()[1]) for line in statistics if line.startswith(f"{cached} "))
        found = int(limit), int(used) - of_files
    except (OSError, ValueError, IndexError):
        return  # what the system does not tell limits nothing
    yield found
