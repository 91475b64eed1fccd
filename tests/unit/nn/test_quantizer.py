import pytest
import torch

from genvlm.nn import quantizer
from genvlm.nn.quantizer import VectorQuantizer

both = pytest.mark.parametrize("l2_normalized", [False, True], ids=["euclid", "sphere"])


def make(l2_normalized: bool, size: int = 11, dim: int = 3) -> VectorQuantizer:
    torch.manual_seed(0)
    made = VectorQuantizer(size, dim, l2_normalized=l2_normalized)
    torch.nn.init.normal_(made.embedding.weight)
    return made


@both
def test_the_nearest_code_is_that_of_brute_force(
    l2_normalized: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantizer, "_ROWS", 7)
    monkeypatch.setattr(quantizer, "_CODES_CPU", 4)
    vq = make(l2_normalized)
    latents = torch.randn(3, 3, 4, 5)
    rows = latents.permute(0, 2, 3, 1).reshape(-1, 3).double()
    book = vq.embedding.weight.detach().double()
    if l2_normalized:
        rows = rows / rows.norm(dim=-1, keepdim=True)
        book = book / book.norm(dim=-1, keepdim=True)
    expected = [min(range(11), key=lambda k: float((row - book[k]).square().sum())) for row in rows]
    assert vq.nearest(latents).flatten().tolist() == expected
    assert vq(latents).codes.flatten().tolist() == expected


@pytest.mark.parametrize("codes_at_once", [1, 4, 100])
def test_the_lower_code_wins_a_tie(codes_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantizer, "_CODES_CPU", codes_at_once)
    vq = make(False)
    with torch.no_grad():
        vq.embedding.weight[:] = torch.tensor([1.0, 0, 0])
    assert vq.nearest(torch.randn(1, 3, 2, 2)).unique().tolist() == [0]


@both
def test_latents_are_exactly_the_codes_vectors(l2_normalized: bool) -> None:
    vq = make(l2_normalized)
    result = vq(torch.randn(2, 3, 4, 4))
    torch.testing.assert_close(result.latents, vq.lookup(result.codes), atol=1e-6, rtol=0)
    assert torch.equal(vq.nearest(vq.lookup(result.codes)), result.codes)


def test_the_straight_through_gradient_is_the_identity() -> None:
    vq = make(False)
    latents = torch.randn(2, 3, 4, 4, requires_grad=True)
    upstream = torch.randn(2, 3, 4, 4)
    (vq(latents).latents * upstream).sum().backward()
    assert torch.equal(latents.grad, upstream)
    assert vq.embedding.weight.grad is None


def test_each_loss_moves_its_own_side() -> None:
    vq = make(False)
    latents = torch.randn(2, 3, 4, 4, requires_grad=True)
    vq(latents).codebook_loss.backward()
    assert latents.grad is None
    assert vq.embedding.weight.grad.abs().sum() > 0
    vq.embedding.weight.grad = None
    vq(latents).commitment_loss.backward()
    assert latents.grad.abs().sum() > 0
    assert vq.embedding.weight.grad is None


def test_codes_nobody_uses_move_onto_current_latents() -> None:
    vq = make(False)
    before = vq.embedding.weight.detach().clone()
    latents = torch.randn(1, 3, 2, 2) + 50
    used = torch.tensor([[[1, 4], [4, 1]]])
    generator = torch.Generator().manual_seed(0)
    moved = [
        vq.restart_unused(used, latents, restart_after=3, generator=generator) for _ in range(3)
    ]
    assert moved == [0, 0, 9]
    rows = {tuple(r.tolist()) for r in latents[0].flatten(1).T}
    for code in range(11):
        vector = vq.embedding.weight[code].detach()
        if code in (1, 4):
            assert torch.equal(vector, before[code])
        else:
            assert tuple(vector.tolist()) in rows
    # Moved codes get the same time again.
    assert vq.restart_unused(used, latents, restart_after=3, generator=generator) == 0


def test_a_code_used_in_between_counts_from_there() -> None:
    vq = make(False)
    latents, generator = torch.randn(1, 3, 1, 1), torch.Generator().manual_seed(0)
    everyone = torch.arange(11).view(1, 11, 1)
    for codes in (everyone, torch.tensor([[[0]]]), everyone, torch.tensor([[[0]]])):
        assert vq.restart_unused(codes, latents, restart_after=2, generator=generator) == 0
