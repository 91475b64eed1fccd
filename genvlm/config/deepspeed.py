"""DeepSpeed's JSON beside the run's YAML: one says how to shard, the other all else.

Whatever both could say, the YAML says; a JSON that says otherwise is refused, because which of the
two won would be seen in the results alone.
"""

import difflib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from genvlm.config.training import RunConfig
from genvlm.errors import ConfigError

MAX_STAGE = 3
_AUTO = "auto"
"""How others leave a key to their trainer; here it is as good as absent."""
_OFFLOADS = {"offload_optimizer": 1, "offload_param": 3}
"""What can lie elsewhere, and the lowest stage that can do it."""
_NOWHERE = "none"
_NOT_OURS = {
    "optimizer": "optimizer",
    "scheduler": "optimizer.warmup_steps and optimizer.final_fraction",
    "fp16": "precision (float32 or bfloat16)",
    "amp": "precision (float32 or bfloat16)",
    "torch_autocast": "precision (float32 or bfloat16)",
    "data_types": "precision (float32 or bfloat16)",
    "activation_checkpointing": "activation_checkpointing",
    "compile": "compile",
}
_OURS = {
    "zero_optimization", "bf16", "train_batch_size", "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps", "gradient_clipping", "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer", "aio", "communication_data_type", "prescale_gradients",
    "gradient_predivide_factor", "disable_allgather", "steps_per_print", "wall_clock_breakdown",
    "memory_breakdown", "dump_state", "flops_profiler", "comms_logger", "tensorboard", "wandb",
    "csv_monitor", "comet", "timers", "log_level", "disable_python_gc",
}  # fmt: skip
"""All that may be there: DeepSpeed passes over a key that it does not know, without a word."""


def read_deepspeed(path: Path, run: RunConfig, num_processes: int) -> dict[str, Any]:
    """The JSON, completed by what the run says.

    Raises:
        ConfigError: not a JSON object, or at odds with the run; one sentence for each culprit.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no readable DeepSpeed JSON ({error})") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a JSON object of DeepSpeed's keys")
    said = _said_by_run(run, num_processes)
    culprits = [
        *sorted(_strange_keys(content)),
        *_contradictions(content, said),
        *_sharding_faults(content, run),
    ]
    if culprits:
        raise ConfigError(f"{path} does not go with this run. " + " ".join(culprits))
    return {
        **{key: value for key, value in content.items() if value != _AUTO and key not in _NOT_OURS},
        **said,
        # Without the check a bfloat16 run would step on NaN.
        "bf16": {"enabled": run.precision == "bfloat16", "check_grad_overflow": True},
        "zero_allow_untested_optimizer": True,
    }


def refused_by_deepspeed(
    path: Path, content: dict[str, Any], error: ValidationError
) -> ConfigError:
    """A sentence of what DeepSpeed itself, which alone knows the inner keys, says of the JSON."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    sections = (
        k for k, v in content.items() if isinstance(v, dict) and place[:1] and place[0] in v
    )
    key = ".".join([*sections][:1] + place)
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{path}: {key} is no key of DeepSpeed's: correct or remove it")
    return ConfigError(
        f"{path}: {key} is {first['input']!r}, which DeepSpeed refuses: {first['msg']}"
    )


def zero_stage(content: dict[str, Any]) -> int:
    """ZeRO's stage in a JSON that `read_deepspeed` has let through."""
    return int(content.get("zero_optimization", {}).get("stage", 0))


def offloads(content: dict[str, Any]) -> bool:
    """Whether such a JSON keeps parameters or optimizer elsewhere than on their device."""
    zero = content.get("zero_optimization", {})
    devices = [(zero.get(key) or {}).get("device", _NOWHERE) for key in _OFFLOADS]
    return any(device != _NOWHERE for device in devices)


def _said_by_run(run: RunConfig, num_processes: int) -> dict[str, float]:
    return {
        "train_batch_size": run.global_batch_size,
        "train_micro_batch_size_per_gpu": run.micro_batch_size,
        "gradient_accumulation_steps": run.grad_accum_steps(num_processes),
        "gradient_clipping": run.optimizer.grad_clip,
    }


def _strange_keys(content: dict[str, Any]) -> Iterator[str]:
    for key in content.keys() - _OURS - _NOT_OURS.keys():
        near = difflib.get_close_matches(key, _OURS, n=1, cutoff=0.7)
        mend = f"did you mean {near[0]}?" if near else "remove the key."
        yield f"Its {key} is no key that genvlm hands to DeepSpeed: {mend}"


def _contradictions(content: dict[str, Any], said: dict[str, float]) -> Iterator[str]:
    for key, expected in said.items():
        found = content.get(key, _AUTO)
        if found not in (_AUTO, expected):
            yield f"Its {key} is {found!r} and the run's is {expected}: remove the key."
    for key, ours in _NOT_OURS.items():
        if key in content and not _switched_off(content[key]):
            yield f"Its {key} is set, which the run's YAML says by {ours}: remove the key."


def _sharding_faults(content: dict[str, Any], run: RunConfig) -> Iterator[str]:
    bf16 = content.get("bf16", {})
    enabled = bf16.get("enabled", _AUTO) if isinstance(bf16, dict) else bf16
    if enabled not in (_AUTO, run.precision == "bfloat16"):
        yield f"Its bf16.enabled is {enabled!r} and the run's precision {run.precision}: remove it."
    zero = content.get("zero_optimization", {})
    if not isinstance(zero, dict):
        yield f"Its zero_optimization is {zero!r}: give an object such as {{'stage': 2}}."
        return
    stage = zero.get("stage", 0)
    if isinstance(stage, bool) or stage not in range(MAX_STAGE + 1):
        yield f"Its zero_optimization.stage is {stage!r}: ZeRO has stages 0, 1, 2 and 3."
        return
    if stage == 0 and run.precision == "bfloat16":
        yield "ZeRO 0 with bfloat16 trains differently: use stage 1, or precision float32."
    if stage == 3 and run.compile:
        yield (
            "ZeRO 3 brings weights back inside the blocks, which torch.compile then compiles again "
            "and again: set compile to false, or use stage 2."
        )
    yield from _offload_faults(zero, stage)


def _offload_faults(zero: dict[str, Any], stage: int) -> Iterator[str]:
    for key, lowest in _OFFLOADS.items():
        offload = zero.get(key) or {}
        if not isinstance(offload, dict):
            yield f"Its {key} is {offload!r}: give an object such as {{'device': 'cpu'}}."
            continue
        device = offload.get("device", _NOWHERE)
        if device not in (_NOWHERE, "cpu", "nvme"):
            yield f"Its {key}.device is {device!r}: give none, cpu or nvme."
        elif device != _NOWHERE and stage < lowest:
            yield f"Its {key} is there for ZeRO {lowest} or higher, and its stage is {stage}."
        elif device == "nvme" and "nvme_path" not in offload:
            yield f"Its {key} is to nvme: name the folder by {key}.nvme_path."


def _switched_off(value: Any) -> bool:
    if isinstance(value, dict):
        return not value or value.get("enabled") in (False, _AUTO)
    return value in (None, False, _AUTO)
