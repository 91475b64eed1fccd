"""What the engine needs of DeepSpeed's ZeRO: shards, whole tensors, finiteness, other world sizes.

ZeRO 1 and 2 give every process one slice of all parameters laid end to end, ZeRO 3 a slice of every
parameter. The optimizer steps float32 copies of these slices, which are what counts: the module's
own weights are rounded to bfloat16 where that is the precision, and absent under ZeRO 3.
"""

import argparse
import contextlib
import logging
import os
import socket
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genvlm.errors import TrainingError

_UNIVERSAL_TAG = "universal"
_COMPILED = "deepspeed_shm_comm"
"""DeepSpeed's operation by which processes on one CPU exchange tensors."""


class ZeroShards:
    """`ParameterShards` of ZeRO 1, 2 and 3, over DeepSpeed's access to its float32 slices."""

    def __init__(self, module: nn.Module, *, stage: int, rank: int) -> None:
        self._stage, self._rank = stage, rank
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if stage == 3:
            self._clear_padding()

    def local(self) -> dict[str, Tensor]:
        """The slices; under ZeRO 1 and 2 a process has none of some parameters."""
        return {name: self._slice(parameter) for name, parameter in self._parameters.items()}

    def shapes(self) -> dict[str, torch.Size]:
        """Of the whole parameters, which ZeRO 3 keeps no more."""
        return {n: getattr(p, "ds_shape", p.shape) for n, p in self._parameters.items()}

    def gather(self, shards: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One parameter after the other, so that other processes hold one at a time.

        The shards stand in for DeepSpeed's own while it gathers them.
        """
        from deepspeed.utils import safe_get_full_fp32_param

        whole = {}
        for name, parameter in self._parameters.items():
            own = self._slice(parameter).clone()
            self._set_slice(parameter, shards[name])
            gathered = safe_get_full_fp32_param(parameter)
            self._set_slice(parameter, own)
            if self._rank == 0:
                whole[name] = gathered.detach().cpu().clone()
        return whole

    def split(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The slices of whole tensors that this process would step."""
        return {
            name: self._slice_of(parameter, whole[name])
            for name, parameter in self._parameters.items()
        }

    def _clear_padding(self) -> None:
        """The last slices are filled up to the length of the others, by what lay in memory.

        No gradient ever changes that; but NaN there would be taken for one of the weights.
        """
        for name, parameter in self._parameters.items():
            own = self._slice(parameter)
            real = self.shapes()[name].numel() - self._rank * own.numel()
            if real < own.numel():
                cleared = own.clone()
                cleared[max(0, real) :] = 0
                self._set_slice(parameter, cleared)

    def _slice(self, parameter: Any) -> Tensor:
        if self._stage == 3:
            from deepspeed.utils import safe_get_local_fp32_param

            return safe_get_local_fp32_param(parameter).detach()
        mapping = parameter._hp_mapping
        return torch.empty(0) if mapping is None else mapping.get_hp_fragment().detach()

    def _set_slice(self, parameter: Any, value: Tensor) -> None:
        if self._stage == 3:
            from deepspeed.utils import safe_set_local_fp32_param

            safe_set_local_fp32_param(parameter, value)
        elif parameter._hp_mapping is not None:
            self._slice(parameter).copy_(value)

    def _slice_of(self, parameter: Any, whole: Tensor) -> Tensor:
        own, flat = self._slice(parameter), whole.flatten()
        if self._stage == 3:
            start, end = self._rank * own.numel(), (self._rank + 1) * own.numel()
            taken = torch.zeros_like(own)
            taken[: max(0, min(end, len(flat)) - start)] = flat[start:end].to(own)
            return taken
        if parameter._hp_mapping is None:
            return own
        place = parameter._hp_mapping.lp_fragment_address
        return flat[place.start : place.start + place.numel].to(own, copy=True)


def optimizer_tensors(optimizer: Any) -> dict[str, Tensor]:
    """All that an optimizer of PyTorch holds in this process: what it steps, and its moments."""
    held = {}
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    # ZeRO 3 puts its slices into `param_groups` during a step only; the state knows them always.
    for number, parameter in enumerate({id(p): p for p in (*stepped, *optimizer.state)}.values()):
        held[f"{number}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                held[f"{number}.{key}"] = value
    return held


def load_universal(
    engine: Any, checkpoint: Path, tag: str, scratch: Path, *, is_main: bool
) -> None:
    """Load a checkpoint of another number of processes, by DeepSpeed's universal format.

    Args:
        engine: DeepSpeed's, of ZeRO 2 or 3.
        scratch: a folder that all processes see, which the caller empties afterwards.
    """
    target = scratch / _UNIVERSAL_TAG
    if is_main:
        _convert_to_universal(checkpoint / tag, target)
    torch.distributed.barrier()
    if not target.is_dir():
        raise TrainingError(
            f"{target} is not seen by every process: --out must lie in a folder that all machines "
            f"share"
        )
    optimizer = engine.optimizer
    settings = [_without_parameters(group) for group in optimizer.param_groups]
    engine._config.load_universal_checkpoint = True
    try:
        engine.load_checkpoint(str(scratch), tag=_UNIVERSAL_TAG)
    finally:
        engine._config.load_universal_checkpoint = False
    # DeepSpeed gives all groups the settings of the first, weight decay among them, and, under
    # ZeRO 3, all slices one counter of steps, which each of them would then advance.
    for group, before in zip(optimizer.param_groups, settings, strict=True):
        group.update(before)
    for state in optimizer.optimizer.state.values():
        state["step"] = state["step"].clone()


def _convert_to_universal(source: Path, target: Path) -> None:
    from deepspeed.checkpoint.ds_to_universal import main

    arguments = argparse.Namespace(
        input_folder=str(source), output_folder=str(target), num_extract_workers=1,
        num_merge_workers=1, keep_temp_folder=False, strict=True, inject_missing_state=True,
    )  # fmt: skip
    with contextlib.redirect_stdout(sys.stderr):
        main(arguments)


def _without_parameters(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def quieten_deepspeed() -> None:
    """Leave out its chatter, and a warning at every step about names that PyTorch will rename."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)


def compiling_notice() -> str | None:
    """What the first start without a GPU waits for; None with one, where NCCL does the same."""
    if torch.cuda.is_available():
        return None
    from torch.utils import cpp_extension

    lock = Path(cpp_extension._get_build_directory(_COMPILED, verbose=False)) / "lock"
    return (
        f"DeepSpeed may compile an operation first (about a minute; it waits while {lock} is "
        f"there: delete that if no other process is compiling)"
    )


def stand_alone_environment() -> None:
    """Without a launcher DeepSpeed would ask for MPI; these variables say "one process"."""
    if "RANK" in os.environ:
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ |= {
        "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
