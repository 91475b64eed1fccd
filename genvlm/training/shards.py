"""Trained parameters as the processes hold them: whole, or in shards.

Names are those of the objective's state dict. What is gathered is whole in the main process alone,
so that no other one needs memory for all of it.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn


class ParameterShards(Protocol):
    """The float32 numbers that the optimizer of this process steps, and the way to whole tensors.

    `gather` is called in every process, with the same names.
    """

    def local(self) -> dict[str, Tensor]:
        """What this process steps, by name; to be read, not written."""
        ...

    def shapes(self) -> dict[str, torch.Size]:
        """Of the whole parameters."""
        ...

    def gather(self, shards: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Whole tensors of what every process gives; empty outside of the main process."""
        ...

    def split(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This process's part of whole tensors."""
        ...


class WholeParameters:
    """Every process holds, and steps, all of it."""

    def __init__(self, module: nn.Module, *, is_main: bool = True) -> None:
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._is_main = is_main

    def local(self) -> dict[str, Tensor]:
        """The parameters themselves."""
        return {name: p.detach() for name, p in self._parameters.items()}

    def shapes(self) -> dict[str, torch.Size]:
        """Of the parameters."""
        return {name: p.shape for name, p in self._parameters.items()}

    def gather(self, shards: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the main process gives."""
        return dict(shards) if self._is_main else {}

    def split(self, whole: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All of it."""
        return dict(whole)


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """None, or the name of the first tensor that holds NaN or infinity."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None
