import pytest
import torch

from genvlm.nn import layers
from genvlm.nn.layers import TokenHead

HIDDEN, VOCAB, POSITIONS = 6, 40, 23


def gradients(
    ids: range | None, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of a loss that uses both results, with respect to hidden states and weight."""
    generator = torch.Generator().manual_seed(0)
    head = TokenHead(HIDDEN, VOCAB)
    with torch.no_grad():
        head.proj.weight.copy_(torch.randn(VOCAB, HIDDEN, generator=generator))
    head = head.to(dtype)
    hidden = torch.randn(POSITIONS, HIDDEN, generator=generator).to(dtype).requires_grad_()
    targets = torch.randint(10, 20, (POSITIONS,), generator=generator)
    weights = torch.rand(POSITIONS, generator=generator)
    scored = head(hidden, targets, ids=ids)
    loss = (-scored.log_prob + 0.3 * scored.log_normalizer.square()) @ weights.to(
        scored.log_prob.dtype
    )
    loss.backward()
    return loss.detach(), hidden.grad, head.proj.weight.grad


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("piece", [1, 7, 100])
def test_gradients_by_hand_of_the_chunked_head_equal_those_of_autograd(
    bounded: bool, dtype: torch.dtype, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = range(10, 20) if bounded else None
    plain = gradients(ids, dtype)
    monkeypatch.setattr(layers, "_MAX_LOGITS", 0)
    monkeypatch.setattr(layers, "_PIECE_ROWS", piece)
    monkeypatch.setattr(layers, "_PIECE_IDS", piece)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-4
    for expected, found in zip(plain, gradients(ids, dtype), strict=True):
        torch.testing.assert_close(found, expected, atol=tolerance, rtol=tolerance)


@torch.no_grad()
def test_ids_are_a_slice_of_the_logits() -> None:
    head = TokenHead(HIDDEN, VOCAB).double()
    hidden = torch.randn(POSITIONS, HIDDEN).double()
    torch.testing.assert_close(head(hidden, ids=range(10, 20)), head(hidden)[:, 10:20])


@pytest.mark.parametrize("bounded", [False, True])
def test_the_largest_logit_is_told_in_pieces_as_in_one_and_has_no_gradient(
    bounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = range(10, 20) if bounded else None
    head, hidden = TokenHead(HIDDEN, VOCAB), torch.randn(POSITIONS, HIDDEN)
    expected = head(hidden, ids=ids).amax(-1)
    for limit in (layers._MAX_LOGITS, 0):
        monkeypatch.setattr(layers, "_MAX_LOGITS", limit)
        monkeypatch.setattr(layers, "_PIECE_IDS", 7)
        found = head(hidden, torch.full((POSITIONS,), 12), ids=ids).max_logit
        torch.testing.assert_close(found, expected.detach())
        assert not found.requires_grad
