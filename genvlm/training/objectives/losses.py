"""What every objective returns."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Losses(NamedTuple):
    """Sums over one micro-batch, so that they add up over micro-batches and processes."""

    weighted_sum: Float[Tensor, ""]
    """Divided by the batch's `loss_denominator` it is the loss."""
    terms: dict[str, Float[Tensor, ""]]
    """Unweighted sums in nats, detached, for the log."""
    counts: dict[str, Float[Tensor, ""]]
    """How many tokens each term adds up."""
