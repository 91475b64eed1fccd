"""Memory of a training step as it is, to compare predictions with."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SavedTensors:
    """What autograd kept for the backward pass, every storage once."""

    tensors: dict[int, Tensor]
    """One of each storage, by its address."""

    @property
    def num_bytes(self) -> int:
        """Of all storages."""
        return sum(t.untyped_storage().nbytes() for t in self.tensors.values())


def saved_by(forward: Callable[[], object], without: Iterable[Tensor] = ()) -> SavedTensors:
    """Run a forward pass and collect what it saves, without the storages of some tensors.

    Args:
        without: such as parameters and the batch.
    """
    known = {t.untyped_storage().data_ptr() for t in without}
    kept = dict[int, Tensor]()

    def keep(tensor: Tensor) -> Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in known:
            kept[address] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = forward()  # what is freed could give its address to another tensor
    del held
    return SavedTensors(kept)
