"""What a machine has, and what a run is told before it starts."""

from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from genvlm.errors import TrainingError
from genvlm.testing.tiny import tiny_train_config
from genvlm.training import memory
from genvlm.training.footprint import count_parameters
from genvlm.training.hardware import GIB, GPUS, Memory, machine_memory, recognise_gpu
from genvlm.training.loop import prepare_transformer, train
from genvlm.training.memory import check_fits, check_memory, check_model_memory, work_of
from genvlm.training.plan import DeviceMemory
from genvlm.training.steps import Progress

NEEDED = DeviceMemory(
    parameters=10 * GIB, gradients=10 * GIB, optimizer=20 * GIB, ema=0,
    activations=30 * GIB, temporary=GIB, buffers=0,
)  # fmt: skip


def machine(root: Path, *, cgroup: str = "0::/\n", total: int = 64, available: int = 48) -> Path:
    """A root folder of a Linux with so many MiB."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "proc/meminfo").write_text(
        f"MemTotal: {total * 1024} kB\nMemFree: 1 kB\nMemAvailable: {available * 1024} kB\n"
    )
    return root


def group(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content + "\n")


def test_without_control_groups_the_machine_counts(tmp_path: Path) -> None:
    assert machine_memory(machine(tmp_path)) == Memory(64 * 2**20, 48 * 2**20)


def test_this_machine_tells(tmp_path: Path) -> None:
    found = machine_memory()
    assert found is None or 0 < found.available <= found.total


def test_the_tightest_group_of_version_2_counts_and_cached_files_are_free(tmp_path: Path) -> None:
    root = machine(tmp_path, cgroup="0::/jobs/mine\n")
    group(root / "sys/fs/cgroup/jobs/mine", {"memory.max": "max", "memory.current": "5"})
    group(
        root / "sys/fs/cgroup/jobs",
        {
            "memory.max": str(32 * 2**20),
            "memory.current": str(30 * 2**20),
            "memory.stat": f"anon 1\ninactive_file {10 * 2**20}",
        },
    )
    assert machine_memory(root) == Memory(32 * 2**20, 12 * 2**20)


def test_a_container_that_sees_its_group_as_the_root_is_limited_too(tmp_path: Path) -> None:
    root = machine(tmp_path, cgroup="4:memory:/outside/name\n")
    group(
        root / "sys/fs/cgroup/memory",
        {
            "memory.limit_in_bytes": str(16 * 2**20),
            "memory.usage_in_bytes": str(2**20),
            "memory.stat": "cache 0\ntotal_inactive_file 0",
        },
    )
    assert machine_memory(root) == Memory(16 * 2**20, 15 * 2**20)


def test_unlimited_groups_of_version_1_limit_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, cgroup="4:memory:/\n")
    files = {"memory.limit_in_bytes": str(2**63 - 4096), "memory.usage_in_bytes": "1"}
    group(root / "sys/fs/cgroup/memory", {**files, "memory.stat": ""})
    assert machine_memory(root) == Memory(64 * 2**20, 48 * 2**20)


def test_a_system_that_does_not_tell_is_not_guessed(tmp_path: Path) -> None:
    assert machine_memory(tmp_path) is None


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA H200", "h200"),
    ],
)
def test_gpus_are_recognised_by_what_drivers_call_them(device: str, name: str) -> None:
    assert recognise_gpu(device) is GPUS[name]
    assert recognise_gpu("Radeon of tomorrow") is None


# --- before a run ---------------------------------------------------------------------------------


def told(total: int, available: int) -> list[str]:
    said: list[str] = []
    there = Memory(total * GIB, available * GIB), "this machine"
    check_fits(NEEDED, there, num_processes=2, say=said.append)
    return said


def test_states_that_do_not_fit_at_all_are_refused_with_need_have_and_mend() -> None:
    with pytest.raises(TrainingError) as info:
        told(39, 39)
    message = str(info.value)
    assert "at least 40.0 GiB in each of 2 process(es), and this machine has 39.0 GiB" in message
    assert "optimizer 20.0 GiB" in message
    assert "zero3.json" in message


def test_what_may_not_fit_is_said_and_not_refused() -> None:
    """Other programs may end, and documents may be shorter than the context."""
    (message,) = told(80, 30)
    assert "may need 71.0 GiB" in message
    assert "30.0 GiB free" in message
    assert "micro_batch_size" in message
    assert "activation_checkpointing" in message


def test_what_fits_is_not_mentioned() -> None:
    assert told(80, 72) == []


def test_nothing_is_said_where_nobody_knows_the_memory() -> None:
    check_fits(NEEDED, None, num_processes=1, say=pytest.fail)


def test_a_run_that_cannot_fit_stops_before_anything_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_train_config(tmp_path)
    little = Memory(2**20 // 4, 2**20 // 4)
    monkeypatch.setattr(memory, "device_memory", lambda: (little, "this machine"))
    progress = Progress(encode=lambda done, total: pytest.fail("a picture was encoded"))
    with pytest.raises(TrainingError, match=r"needs at least .* MiB .* this machine has"):
        train(config, tmp_path / "run", progress=progress)


def test_a_run_that_may_not_fit_is_told_so_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_train_config(tmp_path), num_steps=1)
    tight = Memory(GIB, 2**20)
    monkeypatch.setattr(memory, "device_memory", lambda: (tight, "this machine"))
    said: list[str] = []
    train(config, tmp_path / "run", progress=Progress(say=said.append))
    assert [s for s in said if s.startswith("warning: with full rows")]


def test_what_is_planned_is_what_is_built(tmp_path: Path) -> None:
    config = tiny_train_config(tmp_path)
    work = work_of(config)
    run = prepare_transformer(config, tmp_path / "cache")
    assert work.vocab_size == run.source.vocabulary.size
    built = sum(p.numel() for p in run.objective.parameters())
    assert count_parameters(work.model, work.vocab_size).total == built


@pytest.mark.parametrize(
    ("offload", "left_to_deepspeed"), [('{"device": "cpu"}', True), ('{"device": "none"}', False)]
)
def test_only_offloaded_runs_are_left_to_deepspeed(
    offload: str, left_to_deepspeed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    json = tmp_path / "offload.json"
    json.write_text(f'{{"zero_optimization": {{"stage": 2, "offload_optimizer": {offload}}}}}')
    config = replace(tiny_train_config(tmp_path), deepspeed=str(json))
    monkeypatch.setattr(memory, "device_memory", lambda: (Memory(1, 1), "a GPU"))
    refused = nullcontext() if left_to_deepspeed else pytest.raises(TrainingError, match="at least")
    with refused:
        check_memory(config, pytest.fail)


def test_frozen_parts_of_a_model_have_no_gradients_and_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(tiny_train_config(tmp_path), ema_decay=0.9)
    model = nn.Sequential(nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False))
    model[1].requires_grad_(False)
    size = 64 * 64 * 4

    def check(total: int) -> None:
        monkeypatch.setattr(memory, "device_memory", lambda: (Memory(total, total), "it"))
        check_model_memory(config, model)

    check(5 * size)  # parameters, gradients, two moments and an average of one layer
    with pytest.raises(TrainingError, match="at least"):
        check(5 * size - 1)


def test_parts_are_named_as_they_are_counted() -> None:
    assert sum(asdict(NEEDED).values()) == NEEDED.total
    assert NEEDED.states == 40 * GIB
    assert torch.cuda.is_available() or memory.device_memory() is not None
