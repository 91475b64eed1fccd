"""How two-process runs of the command end: a run that is done must also exit with 0."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from genvlm.config.schema import dump_config
from genvlm.testing.processes import ROOT
from genvlm.testing.tiny import tiny_train_config

_TIMEOUT = 300.0


class Exit(NamedTuple):
    """The end of one run."""

    code: int
    finished: bool
    """Its model folder is there."""
    errors: str
    """The end of what it said, where the code is not 0."""


def run_pairs(
    num_runs: int, folder: Path, told: Callable[[int, Exit], None] = lambda number, run: None
) -> list[Exit]:
    """Run `genvlm train` in two processes by torchrun, over gloo, so many times.

    Every other run is with ZeRO 2. A run is clean if its code is 0 and it is finished.
    """
    config = tiny_train_config(
        folder / "data", num_steps=2, micro_batch_size=1, global_batch_size=2
    )
    exits = []
    for number in range(num_runs):
        deepspeed = "configs/deepspeed/zero2.json" if number % 2 else None
        path, out = folder / f"{number}.yaml", folder / f"run-{number}"
        path.write_text(dump_config(replace(config, deepspeed=deepspeed)))
        exits.append(_run(path, out))
        told(number, exits[-1])
    return exits


def _run(config: Path, out: Path) -> Exit:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "genvlm.cli.main"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [*command, "train", str(config), "--out", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False,
    )  # fmt: skip
    finished = (out / "model" / "manifest.json").is_file()
    return Exit(run.returncode, finished, run.stderr[-2000:] if run.returncode else "")
