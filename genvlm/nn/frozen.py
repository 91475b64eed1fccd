"""What is never trained."""

from torch import nn


class Frozen(nn.Module):
    """A module that was trained elsewhere: always in eval mode, and no weight takes gradients.

    Args:
        model: what it computes with.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Frozen":
        """Stays in eval mode."""
        super().train(False)
        return self
