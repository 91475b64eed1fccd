"""What is never trained."""

from torch import nn


class Frozen(nn.Module):
    """A module of other people: always in eval mode, and its weights take no gradients.

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
