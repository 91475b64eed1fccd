"""DeepSpeed's JSON against the run's YAML: every contradiction is named and refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from pydantic import BaseModel
from torch import nn

from genvlm.config.assets import resolve_path
from genvlm.config.deepspeed import read_deepspeed, zero_stage
from genvlm.config.training import OptimizerConfig, RunConfig
from genvlm.errors import ConfigError
from genvlm.training import steps

RUN = RunConfig(
    optimizer=OptimizerConfig(learning_rate=1e-3), num_steps=5, global_batch_size=16,
    micro_batch_size=2,
)  # fmt: skip


def read(content: Any, tmp_path: Path, run: RunConfig = RUN) -> dict[str, Any]:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content))
    return read_deepspeed(path, run, 2)


@pytest.mark.parametrize(
    "name", ["zero0", "zero1", "zero2", "zero3", "zero2-offload", "zero3-offload"]
)
def test_every_shipped_file_goes_with_any_run(name: str) -> None:
    content = read_deepspeed(resolve_path(f"configs/deepspeed/{name}.json"), RUN, 2)
    assert zero_stage(content) == int(name[4])
    assert content["train_batch_size"] == 16
    assert content["train_micro_batch_size_per_gpu"] == 2
    assert content["gradient_accumulation_steps"] == 4
    assert content["gradient_clipping"] == 1.0
    assert content["bf16"] == {"enabled": False, "check_grad_overflow": True}
    assert ("offload_optimizer" in content["zero_optimization"]) == name.endswith("offload")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"train_batch_size": 8}, "Its train_batch_size is 8 and the run's is 16"),
        ({"train_micro_batch_size_per_gpu": 4}, "train_micro_batch_size_per_gpu is 4 and"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps is 1 and the run's is 4"),
        ({"gradient_clipping": 0.5}, r"gradient_clipping is 0.5 and the run's is 1.0"),
        ({"bf16": {"enabled": True}}, "bf16.enabled is True and the run's precision float32"),
        ({"fp16": {"enabled": True}}, r"Its fp16 is set, which the run's YAML says by precision"),
        ({"optimizer": {"type": "Adam"}}, "Its optimizer is set"),
        ({"scheduler": {"type": "WarmupLR"}}, "Its scheduler is set.*warmup_steps"),
        ({"activation_checkpointing": {"profile": True}}, "activation_checkpointing is set"),
        ({"zero_optimization": {"stage": 4}}, "stage is 4: ZeRO has stages 0, 1, 2 and 3"),
        ({"zero_optimization": {"stage": "2"}}, "stage is '2': ZeRO has stages"),
        ({"zero_optimization": 2}, "zero_optimization is 2: give an object"),
        ({"zero_optimization": {"stage": 0, "offload_optimizer": {"device": "cpu"}}},
         "offload_optimizer is there for ZeRO 1 or higher, and its stage is 0"),
        ({"zero_optimization": {"stage": 2, "offload_param": {"device": "cpu"}}},
         "offload_param is there for ZeRO 3 or higher, and its stage is 2"),
        ({"zero_optimization": {"stage": 3, "offload_param": {"device": "nvme"}}},
         "name the folder by offload_param.nvme_path"),
        ({"zero_optimization": {"stage": 3, "offload_optimizer": {"device": "disk"}}},
         "offload_optimizer.device is 'disk': give none, cpu or nvme"),
        ({"zero_optimisation": {"stage": 3}},
         "zero_optimisation is no key.*: did you mean zero_optimization"),
        ({"steps_per_prnt": 5}, "did you mean steps_per_print"),
        ({"tensor_parallel": {"autotp_size": 2}}, "tensor_parallel is no key.*: remove the key"),
        ({"autotp": {}}, "autotp is no key that genvlm hands"),
        ({"sequence_parallel_size": 2}, "sequence_parallel_size is no key"),
        ({"checkpoint": {"load_universal": True}}, "checkpoint is no key"),
        ({"gradient_allreduce_op": "sum"}, "gradient_allreduce_op is no key"),
        ([1], "must hold a JSON object"),
    ],
)  # fmt: skip
def test_a_contradiction_is_named_with_its_mend(content: Any, named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=named):
        read(content, tmp_path)


def test_all_culprits_are_named_at_once(tmp_path: Path) -> None:
    content = {"gradient_clipping": 3, "fp16": {"enabled": True}, "zero_optimization": {"stage": 9}}
    with pytest.raises(ConfigError, match=r"gradient_clipping.*fp16.*stage is 9"):
        read(content, tmp_path)


def test_what_others_leave_to_their_trainer_is_no_contradiction(tmp_path: Path) -> None:
    content = {
        "train_batch_size": "auto", "gradient_clipping": "auto", "bf16": {"enabled": "auto"},
        "fp16": {"enabled": False}, "optimizer": "auto", "zero_optimization": {"stage": 2},
    }  # fmt: skip
    read_content = read(content, tmp_path)
    assert read_content["train_batch_size"] == 16
    assert not {"fp16", "optimizer"} & read_content.keys()


def test_zero_0_with_bfloat16_is_refused(tmp_path: Path) -> None:
    lower = RunConfig(
        optimizer=RUN.optimizer, num_steps=5, global_batch_size=4, micro_batch_size=2,
        precision="bfloat16",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="ZeRO 0 with bfloat16 trains differently"):
        read({}, tmp_path, lower)


def test_compiled_blocks_are_refused_with_zero_3(tmp_path: Path) -> None:
    compiled = replace(RUN, compile=True)
    read({"zero_optimization": {"stage": 2}}, tmp_path, compiled)
    with pytest.raises(ConfigError, match=r"ZeRO 3 brings weights back.*set compile to false"):
        read({"zero_optimization": {"stage": 3}}, tmp_path, compiled)


def test_a_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(ConfigError, match=r"mine\.json is no readable DeepSpeed JSON"):
        read_deepspeed(tmp_path / "mine.json", RUN, 1)


@pytest.mark.parametrize(
    ("zero", "said"),
    [
        ({"stag": 2}, r"mine.json: zero_optimization.stag is no key of DeepSpeed's: correct or"),
        ({"stage": 2, "bucket": "x"}, r"zero_optimization.bucket is 'x', which DeepSpeed refuses"),
        ({"offload": {"pin": 1}}, r"zero_optimization.offload.pin is no key"),
    ],
)
def test_what_deepspeed_itself_refuses_is_a_sentence_that_names_file_and_key(
    zero: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Offload(BaseModel, extra="forbid"):
        device: str = "none"

    class Zero(BaseModel, extra="forbid"):
        stage: int = 0
        bucket: int = 0
        offload: Offload = Offload()

    def engine(*_: object, deepspeed: dict[str, Any], **__: object) -> None:
        Zero(**deepspeed["zero_optimization"])

    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"flops_profiler": {}, "zero_optimization": zero}))
    monkeypatch.setattr(steps, "Engine", engine)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    run, told = replace(RUN, deepspeed=str(path)), list[str]()
    progress = steps.Progress(say=told.append)
    with pytest.raises(ConfigError, match=said):
        steps.run_steps(run, tmp_path, False, Mock(), nn.Linear(1, 1), progress, inputs={}, unit="")
    # What it may wait for without an end is told before.
    assert ["DeepSpeed may compile" in line for line in told] == [True]
    assert f"{tmp_path}/deepspeed_shm_comm/lock is there: delete" in told[0]
