"""What every objective returns."""

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor


class Losses(NamedTuple):
    """Sums over one micro-batch, so that they add up over micro-batches and processes."""

    weighted_sum: Float[Tensor, ""]
    """Divided by the batch's `loss_denominator` it is the loss."""
    terms: Mapping[str, Float[Tensor, ""]]
    """Unweighted sums in nats, detached, for the log."""
    counts: Mapping[str, Float[Tensor, ""]]
    """How many tokens each term adds up."""
    means: Mapping[str, Float[Tensor, "2"]]
    """(sum, count) of what is logged beside the terms, by its name in the log; detached."""
    maxima: Mapping[str, Float[Tensor, ""]]
    """Largest values, by their names in the log, minus infinity where there is none; detached."""
