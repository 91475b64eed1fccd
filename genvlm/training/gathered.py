"""Rows of all processes side by side, with gradients. n own rows, N of all."""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from genvlm.errors import TrainingError


class Gathered(NamedTuple):
    """Rows in the order of processes."""

    rows: Float[Tensor, "all ..."]
    own: range
    """Which are this process's."""


def gather_rows(rows: Float[Tensor, "own ..."]) -> Gathered:
    """Rows of all processes.

    Each process's loss may depend on all rows: the gradient of own rows is summed over processes,
    so that the sum of all losses is differentiated, as if one process had all rows.

    Raises:
        TrainingError: processes have different numbers of rows.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return Gathered(rows, range(len(rows)))
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    found = [int(c) for c in counts]
    if len(set(found)) > 1:
        raise TrainingError(
            f"processes have {', '.join(map(str, found))} pairs of one batch, and a contrastive "
            "loss needs as many of each: choose a global_batch_size that they share evenly"
        )
    start = dist.get_rank() * len(rows)
    return Gathered(_Gather.apply(rows), range(start, start + len(rows)))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        ctx.num_rows = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # gloo has no reduce-scatter.
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.num_rows
        return total[start : start + ctx.num_rows]
