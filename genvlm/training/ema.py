"""An exponential moving average of weights, which samples and scores better than the last ones."""

from pathlib import Path

import torch
from torch import Tensor, nn

from genvlm.errors import CheckpointError
from genvlm.nn.safetensors_folder import load_tensors, save_tensors

FILE = "ema.safetensors"
_UPDATES = "num_updates"


class WeightAverage:
    """A float32 shadow of the trained parameters.

    Its decay warms up, min(decay, (1 + n) / (10 + n)) after n updates, so that the first weights
    are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.num_updates = decay, 0
        self._parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self._shadow = {n: p.detach().float().clone() for n, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the parameters as they are now."""
        n = self.num_updates
        rate = 1 - min(self.decay, (1 + n) / (10 + n))
        for name, parameter in self._parameters.items():
            self._shadow[name].lerp_(parameter.float(), rate)
        self.num_updates += 1

    @torch.no_grad()
    def write_into(self, module: nn.Module) -> None:
        """The averages become the parameters of a module of the same names."""
        parameters = dict(module.named_parameters())
        for name, shadow in self._shadow.items():
            parameters[name].copy_(shadow)

    def save(self, folder: Path) -> None:
        """Write into a checkpoint."""
        counted: dict[str, Tensor] = {_UPDATES: torch.tensor(self.num_updates)}
        save_tensors(self._shadow | counted, folder / FILE)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint. Raises CheckpointError: it is of another model."""
        tensors = load_tensors(folder / FILE)
        shapes = {name: shadow.shape for name, shadow in self._shadow.items()}
        if {n: t.shape for n, t in tensors.items() if n != _UPDATES} != shapes:
            raise CheckpointError(f"{folder / FILE} is of another model: resume its own run")
        self.num_updates = int(tensors.pop(_UPDATES))
        for name, tensor in tensors.items():
            self._shadow[name].copy_(tensor)
