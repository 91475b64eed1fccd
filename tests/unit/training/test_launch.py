"""How processes of a run start, and how they end."""

import subprocess
import sys

import pytest

from genvlm.errors import TrainingError
from genvlm.training.launch import check_launcher, check_world, leave


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed: name a JSON by `deepspeed`"),
        ("ACCELERATE_USE_FSDP", "true", "FSDP: genvlm shards with DeepSpeed"),
        ("ACCELERATE_USE_MEGATRON_LM", "true", "Megatron-LM"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR", "compile with inductor: set `compile`"),
    ],
)
def test_what_accelerate_was_told_beside_the_run_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    check_launcher(uses_deepspeed=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(TrainingError, match=named):
        check_launcher(uses_deepspeed=False)


def test_accelerate_may_be_told_of_deepspeed_where_the_run_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")
    check_launcher(uses_deepspeed=True)


def test_a_process_alone_leaves_as_ever() -> None:
    with pytest.raises(SystemExit) as info:
        leave(3)
    assert info.value.code == 3


GROUP = """
import atexit, sys
import torch
from genvlm.training.launch import leave

store = torch.distributed.HashStore()
torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
atexit.register(lambda: print("taken down", flush=True))
sys.stdout.write("not yet flushed")
leave(5)
"""


def test_a_process_of_a_group_leaves_at_once_with_all_that_it_said() -> None:
    run = subprocess.run(
        [sys.executable, "-c", GROUP], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.returncode, run.stdout) == (5, "not yet flushed"), run.stderr


def test_another_number_of_processes_than_was_started_is_refused() -> None:
    """On a CPU, Accelerate can start every process alone without an error."""
    check_world(2, seen=2, alone=False)
    check_world(1, seen=1, alone=True)
    for seen, alone in ((1, False), (2, True)):
        with pytest.raises(TrainingError, match=f"2 processes were started, and each sees {seen}"):
            check_world(2, seen=seen, alone=alone)
