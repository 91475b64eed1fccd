"""ZeRO 0 to 3 in two processes: the same gradients, losses, weights as one process without it."""

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genvlm.config.schema import dump_config
from genvlm.config.training import TrainConfig
from genvlm.models.pretrained import load_pretrained
from genvlm.nn import layers
from genvlm.nn.safetensors_folder import load_tensors
from genvlm.testing.processes import run_elsewhere
from genvlm.testing.tiny import tiny_train_config
from genvlm.training.checkpoint import list_checkpoints
from genvlm.training.engine import Engine
from genvlm.training.loop import prepare_transformer, train

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None
    or importlib.util.find_spec("ninja") is None
    or shutil.which("g++") is None,
    reason="deepspeed, or ninja or g++ with which it builds its communication, is not installed",
)
WORKER = Path(__file__).with_name("zero_worker.py")
STAGES = [None, 0, 1, 2, 3]


def found(folder: Path) -> list[dict[str, Any]]:
    """What each process tells."""
    return [json.loads(p.read_text()) for p in sorted(folder.glob("process-*.json"))]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    return tiny_train_config(
        tmp_path_factory.mktemp("tiny"), num_steps=20, global_batch_size=4, micro_batch_size=1,
        checkpoint_every=100,
    )  # fmt: skip


@pytest.fixture(scope="module")
def stages(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it, in three starts. The first start on a machine compiles for a minute.

    Runs of every stage take three steps in one process, three in two, the last two in one; all else
    is done by two processes with two micro-batches each.
    """
    out = tmp_path_factory.mktemp("stages") / "out"
    path = out.with_name("config.yaml")
    path.write_text(dump_config(config))
    for job, num_processes in (("first", 1), ("together", 2), ("last", 1)):
        run_elsewhere(WORKER, [job, str(path), str(out)], num_processes=num_processes)
    return out


class Alone:
    """One process, the whole batch at once, no DeepSpeed."""

    def __init__(self, config: TrainConfig, num_steps: int) -> None:
        source, objective, _ = prepare_transformer(
            config, Path(config.tokenizers.text).with_name("cache")
        )
        objective.z_loss_weight = 1e-4
        engine = Engine(
            objective, config.optimizer, num_steps=config.num_steps, precision=config.precision
        )
        (batch,) = source.batch(0)
        losses = objective(batch)
        (losses.weighted_sum / batch.loss_denominator).backward()
        self.gradients = {n: p.grad.clone() for n, p in objective.named_parameters()}
        objective.zero_grad()
        results = [engine.train_step(step, source.batch(step)) for step in range(num_steps)]
        self.losses = [[r.terms["text"], r.terms["image"], r.grad_norm] for r in results]
        self.weights = {n: t.detach().clone() for n, t in engine.state_dict().items()}
        parts = [source.batch(0, rank=rank, num_ranks=2, accum=2) for rank in range(2)]
        self.sizes = {sum(float(b.loss_weights.sum()) for b in part) for part in parts}


@pytest.fixture(scope="module")
def alone(config: TrainConfig) -> Alone:
    return Alone(config, 20)


def close(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, atol=atol, rtol=0, msg=name)


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_of_the_first_step_equal_one_process(
    stages: Path, alone: Alone, stage: int | None
) -> None:
    assert len(alone.sizes) == 2  # tokens of the two processes differ, or this would prove little
    close(
        load_tensors(stages / f"float32-{stage}" / "gradients.safetensors"), alone.gradients, 1e-6
    )


@pytest.mark.parametrize("stage", STAGES)
def test_losses_of_twenty_steps_equal_one_process(
    stages: Path, alone: Alone, stage: int | None
) -> None:
    folder = stages / f"float32-{stage}"
    for process in found(folder):
        assert len(process["losses"]) == 20
        torch.testing.assert_close(
            torch.tensor(process["losses"]), torch.tensor(alone.losses), atol=1e-4, rtol=0
        )
    close(load_tensors(folder / "weights.safetensors"), alone.weights, 1e-3)


def test_zero_3_scores_in_pieces_with_a_tied_head(
    stages: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "_MAX_LOGITS", 0)
    tied = replace(config, model=replace(config.model, tie_head=True))
    one = Alone(tied, 5)
    (losses, _) = (process["losses"] for process in found(stages / "tied-3"))
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(one.losses), atol=1e-4, rtol=0)
    close(load_tensors(stages / "tied-3" / "gradients.safetensors"), one.gradients, 1e-6)
    close(load_tensors(stages / "tied-3" / "weights.safetensors"), one.weights, 1e-4)


def test_zero_3_brings_weights_back_for_blocks_that_compute_twice(
    stages: Path, alone: Alone
) -> None:
    folder = stages / "checkpointed-3"
    for process in found(folder):
        assert process["skipped"] == 6 * [True]
        torch.testing.assert_close(
            torch.tensor(process["losses"]), torch.tensor(alone.losses[:3]), atol=1e-4, rtol=0
        )
    close(load_tensors(folder / "gradients.safetensors"), alone.gradients, 1e-6)


def test_bfloat16_learns_alike_in_every_stage(stages: Path, alone: Alone) -> None:
    """Gradients are added up in another order and rounded: two digits agree, all learn."""
    losses = [found(stages / f"bfloat16-{stage}")[0]["losses"] for stage in (2, 3)]
    for of_stage in losses:
        torch.testing.assert_close(
            torch.tensor(of_stage), torch.tensor(alone.losses[:5]), atol=3e-2, rtol=0
        )
    weights = [load_tensors(stages / f"bfloat16-{s}" / "weights.safetensors") for s in (2, 3)]
    for state in weights:
        # The float32 numbers that the optimizer steps, and not what the module rounds them to.
        assert any(not torch.equal(t, t.bfloat16().float()) for t in state.values())
        close(state, weights[0], 1e-2)


@pytest.mark.parametrize("stage", ["2-offload", "3-offload"])
def test_an_optimizer_in_the_memory_of_the_cpu_steps_alike(
    stages: Path, alone: Alone, stage: str
) -> None:
    folder = stages / f"float32-{stage}"
    for process in found(folder):
        torch.testing.assert_close(
            torch.tensor(process["losses"]), torch.tensor(alone.losses[:5]), atol=1e-4, rtol=0
        )
    close(load_tensors(folder / "gradients.safetensors"), alone.gradients, 1e-6)


@pytest.mark.parametrize(
    "case",
    [
        *(f"float32-{stage}" for stage in STAGES),
        *("float32-2-offload", "float32-3-offload", "bfloat16-2", "bfloat16-3"),
    ],
)
def test_nan_in_one_process_changes_nothing_in_any(stages: Path, case: str) -> None:
    """NaN in one input, infinity in one gradient: skipped, all held bitwise; then a step again."""
    processes = found(stages / case)
    assert [p["skipped"] for p in processes] == 2 * [6 * [True]]


@pytest.mark.parametrize("case", [f"float32-{s}" for s in STAGES])
def test_a_state_with_nan_is_refused_by_all_processes(stages: Path, case: str) -> None:
    first, second = (p["told"] for p in found(stages / case))
    assert "not finite, in another process: no checkpoint is written" in first
    assert "of the optimizer)" in second or "(parameter " in second


# --- other numbers of processes ------------------------------------------------------------------


@pytest.fixture(scope="module")
def uninterrupted(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    train(replace(config, num_steps=8, ema_decay=0.9), out)
    return out


def newest(run: Path) -> Path:
    return list_checkpoints(run / "checkpoints")[-1]


@pytest.mark.parametrize("stage", [None, 2, 3])
def test_the_number_of_processes_may_change(
    stages: Path, uninterrupted: Path, stage: int | None
) -> None:
    """1 -> 2 -> 1: losses, weights and their average are those of a run that nothing stopped."""
    run = stages / f"run-{stage}"
    records = [
        [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        for out in (run, uninterrupted)
    ]
    for ours, theirs in zip(*records, strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    averages = [load_tensors(newest(out) / "ema.safetensors") for out in (run, uninterrupted)]
    assert averages[0]["num_updates"] == 8
    close(*averages, 1e-5)
    folders = [load_pretrained(out / "model").model.state_dict() for out in (run, uninterrupted)]
    close(*folders, 1e-5)


@pytest.mark.parametrize("stage", [0, 1])
def test_zero_0_and_1_refuse_another_number_in_words(
    stages: Path, uninterrupted: Path, stage: int
) -> None:
    run = stages / f"run-{stage}"
    for process in found(run / "leg-6"):
        assert (
            f"was written by 1 processes and this run has 2: with ZeRO {stage}" in process["told"]
        )
    # Nothing is lost: as many processes as then go on.
    assert found(run / "leg-99") == [{"told": ""}]
    folders = [load_pretrained(out / "model").model.state_dict() for out in (run, uninterrupted)]
    close(*folders, 1e-5)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_model_folder_holds_what_the_engine_held(stages: Path, stage: int) -> None:
    """DeepSpeed's own way from a checkpoint to whole weights agrees with ours, bit for bit."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    theirs = get_fp32_state_dict_from_zero_checkpoint(
        str(newest(stages / f"exact-{stage}")), "deepspeed"
    )
    ours = load_pretrained(stages / f"exact-{stage}" / "model").model.state_dict()
    assert {f"model.{name}" for name in ours} == set(theirs)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[f"model.{name}"]), name
