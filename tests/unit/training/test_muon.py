"""Muon: orthogonal steps, the published update, and what it leaves to AdamW."""

import pytest
import torch

from genvlm.config.training import OptimizerConfig
from genvlm.training.muon import Muon, orthogonalize
from genvlm.training.optimizers import build_optimizers


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 24), (2, 24, 8)])
def test_singular_values_are_close_to_one(shape: tuple[int, int, int]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before = torch.linalg.svdvals(matrices)
    after = torch.linalg.svdvals(orthogonalize(matrices))
    assert before.max() / before.min() > 2
    # Far below the largest, three iterations lift a singular value part of the way only.
    lifted = before > 0.2 * before.amax(-1, keepdim=True)
    assert ((after[lifted] > 0.6) & (after[lifted] < 1.25)).all()


def test_matrices_keep_their_singular_vectors() -> None:
    u, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    v, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))
    rotated = u.T @ orthogonalize((u @ torch.diag(torch.arange(1.0, 7)) @ v.T)[None])[0] @ v
    assert (rotated - torch.diag(rotated.diag())).abs().max() < 1e-4


def test_one_scale_of_matrices_does_not_matter() -> None:
    matrices = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(0))
    difference = orthogonalize(matrices) - orthogonalize(100 * matrices)
    assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_updates_are_those_of_torch(shape: tuple[int, int]) -> None:
    """torch.optim.Muon rounds to bfloat16, so that it agrees to about one percent."""
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mine, theirs = (torch.nn.Parameter(weights.clone()) for _ in range(2))
    ours = Muon([mine], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(
        [theirs], lr=0.02, weight_decay=0.1, ns_steps=3, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(5):
        gradient = torch.randn(shape, generator=torch.Generator().manual_seed(10 + step))
        for parameter, optimizer in ((mine, ours), (theirs, reference)):
            parameter.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - weights).norm()
    assert (mine - theirs).norm() < 0.03 * moved


def test_a_kernel_steps_as_the_matrix_of_its_output_channels() -> None:
    weights = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel = torch.nn.Parameter(weights.clone())
    matrix = torch.nn.Parameter(weights.flatten(1).clone())
    optimizer = Muon([kernel, matrix], lr=0.02, weight_decay=0.1)
    for step in range(3):
        gradient = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(step))
        kernel.grad, matrix.grad = gradient, gradient.flatten(1)
        optimizer.step()
    assert (kernel.detach() - weights).abs().max() > 0.01
    torch.testing.assert_close(kernel.flatten(1), matrix)


def test_tables_and_norms_stay_with_adamw() -> None:
    model = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(5, 4),
            "blocks": torch.nn.ModuleList([torch.nn.Linear(4, 4)]),
            "head": torch.nn.Linear(4, 5, bias=False),
        }
    )
    adamw, muon = build_optimizers(
        model, OptimizerConfig(kind="muon", learning_rate=1e-3), fused=True
    )
    assert [p.shape for g in muon.param_groups for p in g["params"]] == [(4, 4)]
    assert sorted(tuple(p.shape) for g in adamw.param_groups for p in g["params"]) == [
        (4,), (5, 4), (5, 4)
    ]  # fmt: skip
    (only,) = build_optimizers(model, OptimizerConfig(learning_rate=1e-3), fused=True)
    assert sum(len(g["params"]) for g in only.param_groups) == 4
