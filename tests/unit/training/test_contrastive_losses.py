"""InfoNCE and the pairwise sigmoid: by hand, as transformers computes them, and their bounds."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genvlm.training.objectives.contrastive_losses import info_nce, pairwise_sigmoid

ONE = torch.tensor(1.0, dtype=torch.float64)


def unit_rows(num: int, seed: int, dim: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num, dim, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=-1)


def test_three_pairs_by_hand() -> None:
    """Logits of images (rows) and texts that are no others when transposed."""
    logits = [[2.0, 1.0, 1.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.0]]
    images, texts = torch.eye(3, dtype=torch.float64), torch.tensor(logits, dtype=torch.float64).T
    e = math.e
    of_images = (math.log(e**2 + 2 * e) - 2) + (math.log(e**2 + 2) - 2) + math.log(3)
    of_texts = (math.log(e**2 + 2) - 2) + (math.log(e + e**2 + 1) - 2) + math.log(e + 2)
    loss = info_nce(images, texts, ONE, range(3))
    assert loss.item() == pytest.approx((of_images + of_texts) / 2)
    own = 2 * math.log(1 + e**-2) + math.log(2)
    others = 2 * math.log(1 + e) + 4 * math.log(2)
    sigmoid = pairwise_sigmoid(images, texts, ONE, 0 * ONE, range(3))
    assert sigmoid.item() == pytest.approx(own + others)


def test_the_scale_multiplies_and_the_bias_adds() -> None:
    images, texts = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    loss = info_nce(images, texts, 3 * ONE, range(3))
    assert loss.item() == pytest.approx(3 * math.log(1 + 2 * math.exp(-3)))
    sigmoid = pairwise_sigmoid(images, texts, 3 * ONE, -1 * ONE, range(3))
    by_hand = 3 * math.log(1 + math.exp(-2)) + 6 * math.log(1 + math.exp(-1))
    assert sigmoid.item() == pytest.approx(by_hand)


@given(st.integers(2, 7), st.integers(0, 100), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_own_pairs_and_chunks_add_up_to_the_whole(num: int, seed: int, chunk_rows: int) -> None:
    images, texts, scale = unit_rows(num, seed), unit_rows(num, seed + 1), 4 * ONE
    images.requires_grad_(True)
    for loss in (
        lambda own, **more: info_nce(images, texts, scale, own, **more),
        lambda own, **more: pairwise_sigmoid(images, texts, scale, -ONE, own, **more),
    ):
        whole = loss(range(num))
        halves = loss(range(num // 2)) + loss(range(num // 2, num), chunk_rows=chunk_rows)
        torch.testing.assert_close(halves, whole)
        gradients = [torch.autograd.grad(value, images)[0] for value in (whole, halves)]
        torch.testing.assert_close(*gradients)


def test_a_negative_caption_is_one_text_more_and_a_missing_one_is_none() -> None:
    images, texts, negatives = unit_rows(3, 0), unit_rows(3, 1), unit_rows(3, 2)
    both = torch.cat([texts, negatives])
    allowed = torch.tensor([True] * 4 + [False] * 2)
    for loss in (
        lambda texts, **more: info_nce(images, texts, ONE, range(3), **more),
        lambda texts, **more: pairwise_sigmoid(images, texts, ONE, ONE, range(3), **more),
    ):
        one_more = torch.cat([texts, negatives[:1]])
        torch.testing.assert_close(loss(both, allowed=allowed), loss(one_more))
        assert loss(one_more) > loss(texts)


def test_a_negative_caption_is_no_partner_of_an_image() -> None:
    """From texts to images, negatives are asked nothing."""
    images, texts, negatives = unit_rows(3, 0), unit_rows(3, 1), unit_rows(3, 2)
    logits = images @ torch.cat([texts, negatives]).T
    rows = torch.nn.functional.cross_entropy(logits, torch.arange(3), reduction="sum")
    columns = torch.nn.functional.cross_entropy(logits[:, :3].T, torch.arange(3), reduction="sum")
    found = info_nce(images, torch.cat([texts, negatives]), ONE, range(3))
    torch.testing.assert_close(found, (rows + columns) / 2)


def gaussian_pairs(information: float, num: int, seed: int) -> tuple[Tensor, Tensor]:
    """Embeddings whose dot product is log p(y | x) / p(y) of two Gaussians, the optimal critic."""
    rho = math.sqrt(1 - math.exp(-2 * information))
    rest = math.exp(-2 * information)
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, num, generator=generator, dtype=torch.float64)
    y = rho * x + math.sqrt(rest) * noise
    one, constant = torch.ones_like(x), -0.5 * math.log(rest) * torch.ones_like(x)
    square = -(rho**2) / (2 * rest)
    of_x = torch.stack([rho / rest * x, square * x**2, one, constant], 1)
    of_y = torch.stack([y, one, square * y**2, one], 1)
    return of_x, of_y


def bounds(information: float, num: int, batches: int) -> Tensor:
    """log N - loss of batches, in nats."""
    found = [
        math.log(num) - info_nce(*gaussian_pairs(information, num, seed), ONE, range(num)) / num
        for seed in range(batches)
    ]
    return torch.stack(found)


def test_the_optimal_critic_measures_little_information_nearly_exactly() -> None:
    """van den Oord et al. 2018, eq. 5; Poole et al. 2019."""
    found = bounds(0.5, 512, 100)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - 0.5) < 0.025
    assert abs(found.mean() - 0.5) < 3 * error
    assert found.mean() < 0.5 + 2 * error


def test_much_information_is_bounded_by_the_batch() -> None:
    found = bounds(10.0, 64, 50)
    assert (found <= math.log(64)).all()
    assert found.mean() > 0.8 * math.log(64)
