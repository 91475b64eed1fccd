"""Training in processes of their own: DeepSpeed and process groups leave marks behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from genvlm.config.schema import dump_config

# As the command does: see `leave`.
_LEAVE = """
from genvlm.training.launch import leave
leave(0)
"""
ROOT = Path(__file__).resolve().parents[2]


def train_elsewhere(
    code: str, config: object, out: Path, *, num_processes: int = 1, resume: bool = False
) -> None:
    """Run `code` with the arguments CONFIG OUT [resume]; fails with what it said on failure."""
    script = out.with_suffix(".py")
    script.write_text(code + _LEAVE)
    out.with_suffix(".yaml").write_text(dump_config(config))
    arguments = [str(out.with_suffix(".yaml")), str(out), *(["resume"] if resume else [])]
    run_elsewhere(script, arguments, num_processes=num_processes)


def run_elsewhere(script: Path, arguments: Sequence[str], *, num_processes: int = 1) -> None:
    """Run a script, by torchrun where there are several; fails with what it said on failure."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command = [
        sys.executable,
        *([*launcher, str(num_processes)] if num_processes > 1 else []),
        str(script),
        *arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    ) as run:  # fmt: skip
        try:
            _, errors = run.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)  # workers of the launcher too
            raise
    assert run.returncode == 0, errors[-3000:]
