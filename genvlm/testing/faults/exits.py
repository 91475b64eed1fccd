"""How two-process runs of the command end: a run that is done must also exit with 0."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from genvlm.config.schema import dump_config
from genvlm.models.model_folder import is_finished
from genvlm.testing.faults.row import Progress, Row, demand, run_trials, silent
from genvlm.testing.processes import ROOT
from genvlm.testing.tiny import tiny_train_config
from genvlm.training.run_folder import MODEL_FOLDER

_TIMEOUT = 300.0


def exit_in_pairs(count: int, seed: int, folder: Path, progress: Progress = silent) -> Row:
    """`genvlm train` in two processes by torchrun, over gloo; every other run is with ZeRO 2."""
    config = tiny_train_config(
        folder / "data", num_steps=2, micro_batch_size=1, global_batch_size=2
    )
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def trial(number: int, _rng: random.Random, own: Path) -> str:
        deepspeed = "configs/deepspeed/zero2.json" if number % 2 else None
        path, out = own / "run.yaml", own / "run"
        path.write_text(dump_config(replace(config, deepspeed=deepspeed)))
        command = [sys.executable, *launcher, "-m", "genvlm.cli.main", "train", str(path)]
        run = subprocess.run(
            [*command, "--out", str(out)], cwd=ROOT, env=environment, capture_output=True,
            text=True, timeout=_TIMEOUT, check=False,
        )  # fmt: skip
        demand(run.returncode == 0, f"exit code {run.returncode}: {run.stderr[-400:]}")
        demand(is_finished(out / MODEL_FOLDER), "exit code 0 without a model")
        return "with ZeRO 2" if deepspeed else "without DeepSpeed"

    return run_trials(
        "exits of two processes", count, seed, folder / "trials", trial, progress=progress
    )
