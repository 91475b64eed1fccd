"""An exponential moving average of weights, which samples and scores better than the last ones."""

from pathlib import Path

import torch
from torch import Tensor

from genvlm.errors import CheckpointError
from genvlm.nn.safetensors_folder import load_tensors, save_tensors
from genvlm.training.shards import ParameterShards

FILE = "ema.safetensors"
_UPDATES = "num_updates"


class WeightAverage:
    """A float32 shadow of the trained parameters; every process averages what it steps.

    Its decay warms up, min(decay, (1 + n) / (10 + n)) after n updates, so that the first weights
    are soon forgotten.
    """

    def __init__(self, parameters: ParameterShards, decay: float) -> None:
        self.decay, self.num_updates = decay, 0
        self._parameters = parameters
        self._shadow = {n: p.float().clone() for n, p in parameters.local().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the parameters as they are now."""
        n = self.num_updates
        rate = 1 - min(self.decay, (1 + n) / (10 + n))
        for name, parameter in self._parameters.local().items():
            self._shadow[name].lerp_(parameter.float(), rate)
        self.num_updates += 1

    def gather(self) -> dict[str, Tensor]:
        """Whole averages in the main process; empty in others. Called in all."""
        return self._parameters.gather(self._shadow)

    def save(self, folder: Path) -> None:
        """Write into a checkpoint, which then goes with any number of processes. Called in all."""
        counted: dict[str, Tensor] = {_UPDATES: torch.tensor(self.num_updates)}
        if whole := self.gather():
            save_tensors(whole | counted, folder / FILE)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint. Raises CheckpointError: it is of another model."""
        tensors = load_tensors(folder / FILE)
        num_updates = tensors.pop(_UPDATES)
        if {n: t.shape for n, t in tensors.items()} != self._parameters.shapes():
            raise CheckpointError(f"{folder / FILE} is of another model: resume its own run")
        self.num_updates = int(num_updates)
        for name, tensor in self._parameters.split(tensors).items():
            self._shadow[name].copy_(tensor)
