import itertools

import torch

from genvlm.testing.fsq import FiniteScalarQuantizer


def test_every_combination_of_levels_is_one_code_and_comes_back_as_itself() -> None:
    quantizer = FiniteScalarQuantizer((4, 3))
    far = torch.linspace(-4, 4, 81)
    grid = torch.tensor(list(itertools.product(far.tolist(), far.tolist())))
    latents, codes, codebook_loss, commitment_loss = quantizer(grid[:, :, None, None])
    assert codes.unique().tolist() == list(range(12))
    assert latents[:, 0].unique().tolist() == [-1, -0.5, 0, 0.5]
    assert latents[:, 1].unique().tolist() == [-1, 0, 1]
    # One code, one vector, and the other way round.
    pairs = torch.cat([latents[:, :, 0, 0], codes[:, :, 0].float()], 1).unique(dim=0)
    assert len(pairs) == 12
    assert codebook_loss == commitment_loss == 0
    assert quantizer.restart_unused() == 0


def test_gradients_pass_the_rounding() -> None:
    quantizer = FiniteScalarQuantizer((8, 5))
    latents = torch.tensor([0.3, -0.2]).view(1, 2, 1, 1).requires_grad_()
    quantizer(latents).latents.sum().backward()
    half = torch.tensor([3.5, 2.0]) * 1.001
    shift = torch.atanh(torch.tensor([0.5, 0.0]) / half)
    slope = half * (1 - torch.tanh(latents.detach().flatten() + shift) ** 2)
    torch.testing.assert_close(latents.grad.flatten(), slope / torch.tensor([4.0, 2.0]))
