"""Muon: the matrices and kernels of hidden layers step along orthogonal directions."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

# Newton-Schulz coefficients of Jordan et al.: singular values end between 0.7 and 1.2. They take
# five iterations, which lift smaller singular values too; three cost a CPU less.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 3
_MOMENTUM = 0.95


@torch.no_grad()
def orthogonalize(
    matrices: Float[Tensor, "matrices rows columns"],
) -> Float[Tensor, "matrices rows columns"]:
    """Each matrix with its singular values moved close to one (quintic Newton-Schulz iteration).

    In bfloat16 on a GPU, where it was published, and in float32 on a CPU, which may lack it.
    """
    x = matrices.bfloat16() if matrices.is_cuda else matrices.float()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (torch.linalg.matrix_norm(x.float(), keepdim=True).to(x.dtype) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are orthogonal matrices (Jordan et al. 2024), for layer weights only.

    A convolution's kernel counts as the matrix (out, in x height x width). A step is scaled by
    0.2 sqrt(max(rows, columns)), to the root mean square of an AdamW step (Liu et al. 2025, "Muon
    is Scalable for LLM Training"), so that both take one learning rate and one weight decay.
    `torch.optim.Muon` takes no kernels and computes in bfloat16 everywhere, which crawls on a CPU
    without it.
    """

    def __init__(self, matrices: Iterable[Tensor], *, lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every matrix that has a gradient. There is no closure."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shape = len(parameter), parameter[0].numel()
                    by_shape.setdefault(shape, []).append(parameter)
            for shape, parameters in by_shape.items():
                momenta = [self._momentum(p).flatten(1) for p in parameters]
                steps = orthogonalize(torch.stack(momenta))
                rate = group["lr"] * 0.2 * math.sqrt(max(shape))
                for parameter, direction in zip(parameters, steps, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(direction.view_as(parameter), alpha=-rate)

    def _momentum(self, parameter: Tensor) -> Tensor:
        """Nesterov's."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - _MOMENTUM)
        return parameter.grad.lerp(state["momentum"], _MOMENTUM)
