"""What holds for every shape of the transformer: full and grouped heads, with and without norms."""

import itertools
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch

from genvlm.errors import ConfigError, TokenError
from genvlm.models.build import build_transformer
from genvlm.models.mixed_modal.transformer import KVCache, MixedModalTransformer
from genvlm.nn import layers
from genvlm.nn.layers import TokenHead
from genvlm.nn.safetensors_folder import load_into
from genvlm.testing.tiny import tiny_transformer_config

VOCAB = 40
SHAPES = {
    f"{kv_heads} of 4 heads{', qk_norm' if norm else ''}": tiny_transformer_config(
        num_kv_heads=kv_heads, qk_norm="rms" if norm else None
    )
    for kv_heads, norm in itertools.product((1, 2, 4), (True, False))
} | {
    "rotary positions by index alone": tiny_transformer_config(rotary_dims=None),
    "LayerNorm of queries and keys": tiny_transformer_config(qk_norm="layer"),
    "a norm per head, behind branches": tiny_transformer_config(
        qk_norm="layer", qk_norm_per_head=True, norm_order="swin"
    ),
    "a norm per head, tied head": tiny_transformer_config(qk_norm_per_head=True, tie_head=True),
}


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def model(request: pytest.FixtureRequest) -> MixedModalTransformer:
    return build_transformer(request.param, VOCAB, seed=1).eval()


def tokens(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def places(ids: torch.Tensor, at: int = 0) -> torch.Tensor:
    """Positions of tokens `at`, at + 1 ... and of the one behind them."""
    table = torch.randint(-1, 4, (4, 32, 3), generator=torch.Generator().manual_seed(9))
    return table[: ids.shape[0], at : at + ids.shape[1] + 1]


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


@torch.no_grad()
def test_future_tokens_do_not_change_earlier_outputs(model: MixedModalTransformer) -> None:
    ids = tokens(2, 12)
    changed = ids.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % VOCAB
    before, after = (model(i, positions=places(ids)) for i in (ids, changed))
    assert torch.equal(before[:, :7], after[:, :7])
    assert (before[:, 7:] - after[:, 7:]).abs().amax(-1).min() > 1e-3


def test_gradients_reach_no_later_token(model: MixedModalTransformer) -> None:
    embedded = model.embedding(tokens(1, 9)).detach().requires_grad_()
    model.embedding.register_forward_hook(lambda *_: embedded)
    hidden = model(tokens(1, 9), positions=places(tokens(1, 9)))
    hidden[:, 4].sum().backward()
    assert embedded.grad[:, :5].abs().amax(-1).min() > 0
    assert embedded.grad[:, 5:].abs().max() == 0


@torch.no_grad()
@pytest.mark.parametrize("parts", [(12,), (1,) * 12, (5, 1, 1, 5)], ids=str)
def test_cached_equals_uncached(model: MixedModalTransformer, parts: tuple[int, ...]) -> None:
    ids = tokens(3, 12)
    cache = KVCache(model.config, 3, 16)
    outputs, at = [], 0
    for n in parts:
        part = ids[:, at : at + n]
        outputs.append(model(part, positions=places(part, at), cache=cache))
        cache.lengths = cache.lengths + n
        at += n
    close(torch.cat(outputs, 1), model(ids, positions=places(ids)))


@torch.no_grad()
def test_padding_changes_nothing(model: MixedModalTransformer) -> None:
    ids = tokens(1, 8)
    padded = torch.cat([ids, torch.full((1, 5), 3)], 1)
    alone = model(ids, positions=places(ids))
    close(model(padded, positions=places(padded))[:, :8], alone)
    # And neither do neighbours in the batch.
    batch = torch.cat([ids, tokens(3, 8, seed=5)])
    close(model(batch, positions=places(batch))[:1], alone)


@torch.no_grad()
def test_rows_of_different_lengths_share_a_cache(model: MixedModalTransformer) -> None:
    lengths = torch.tensor([2, 9, 5])
    ids = tokens(3, 16)
    cache = KVCache(model.config, 3, 16)
    prefix = ids[:, :9].clone()
    for row, n in enumerate(lengths.tolist()):
        prefix[row, n:] = 0  # padding, which the next tokens overwrite
    hidden = model(prefix, positions=places(prefix), cache=cache)
    cache.lengths = lengths.clone()
    rows = torch.arange(3)
    expected = model(ids, positions=places(ids))
    close(hidden[rows, lengths - 1], expected[rows, lengths - 1])
    for step in range(6):
        at = lengths + step
        two = places(ids)[rows[:, None], at[:, None] + torch.arange(2)]
        hidden = model(ids[rows, at][:, None], positions=two, cache=cache)[:, 0]
        cache.lengths = cache.lengths + 1
        close(hidden, expected[rows, at])


@torch.no_grad()
def test_explicit_indices_and_mask_equal_the_defaults(model: MixedModalTransformer) -> None:
    ids = tokens(2, 10)
    mask = torch.ones(10, 10, dtype=torch.bool).tril()[None, None].expand(2, 1, -1, -1)
    at = places(ids)
    default = model(ids, positions=at)
    close(model(ids, positions=at, indices=torch.arange(10).expand(2, -1), mask=mask), default)
    # Rotary positions are relative: all of them moved by the same number change nothing.
    moved = torch.arange(10)[None] + 17
    close(model(ids, positions=at + 5, indices=moved), default, 1e-4)


@torch.no_grad()
def test_queries_stand_where_their_prediction_will_stand() -> None:
    config = tiny_transformer_config(rotary_dims=(2, 2, 2, 2))
    model = build_transformer(config, VOCAB, seed=1).eval()
    ids = tokens(1, 6)
    at = places(ids)
    for axis in range(3):
        moved = at.clone()
        moved[:, -1, axis] += 1  # the position of the seventh token, which is not read yet
        changed = (model(ids, positions=moved) - model(ids, positions=at)).abs().amax(-1)[0]
        assert changed[:5].max() == 0
        assert changed[5] > 1e-4
    with pytest.raises(ValueError, match="needs the positions"):
        model(ids)


def test_what_does_not_fit_is_refused() -> None:
    model = build_transformer(tiny_transformer_config(context_length=8), VOCAB, seed=0)
    with pytest.raises(TokenError, match="9 tokens do not fit the context of 8"):
        model(tokens(1, 9))
    with pytest.raises(TokenError, match="9 tokens asked for, and the context holds 8"):
        KVCache(model.config, 1, 9)
    with pytest.raises(TokenError, match="5 tokens do not fit a cache of 4"):
        model(tokens(1, 5), cache=KVCache(model.config, 1, 4))
    with pytest.raises(ConfigError, match="num_heads 4 is not a multiple of num_kv_heads 3"):
        tiny_transformer_config(num_kv_heads=3)


def test_grouped_heads_equal_full_heads_with_repeated_weights() -> None:
    grouped = build_transformer(tiny_transformer_config(num_kv_heads=2), VOCAB, seed=1).eval()
    full = build_transformer(tiny_transformer_config(num_kv_heads=4), VOCAB, seed=2).eval()
    state = dict(grouped.state_dict())
    for name in [n for n in state if "k_proj" in n or "v_proj" in n]:
        state[name] = state[name].view(2, 8, -1).repeat_interleave(2, 0).reshape(32, -1)
    full.load_state_dict(state)
    with torch.no_grad():
        ids = tokens(2, 9)
        close(full(ids, positions=places(ids)), grouped(ids, positions=places(ids)))


def test_one_seed_gives_one_model_and_residual_branches_start_smaller() -> None:
    first, second, other = (
        build_transformer(tiny_transformer_config(), VOCAB, seed=s) for s in (3, 3, 4)
    )
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name])
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    block = first.blocks[0]
    assert block.attention.o_proj.weight.std() < 0.7 * block.attention.q_proj.weight.std()


def test_like_codes_begin_alike_and_other_rows_as_before() -> None:
    codebook = torch.randn(20, 4, generator=torch.Generator().manual_seed(5))
    codebook[1] = codebook[0]
    codebook[3] = -codebook[2]
    config = tiny_transformer_config(initializer_std=0.02)
    plain = build_transformer(config, VOCAB, seed=3)
    seeded = build_transformer(config, VOCAB, seed=3, codebooks=[codebook])
    for name in ("embedding.weight", "head.proj.weight"):
        before, rows = plain.get_parameter(name), seeded.get_parameter(name)
        assert torch.equal(before[20:], rows[20:])
        torch.testing.assert_close(rows[1], rows[0])
        torch.testing.assert_close(rows[3], -rows[2])
        assert rows[:20].std() > 2 * before.std()
    again = build_transformer(config, VOCAB, seed=3, codebooks=[codebook])
    assert torch.equal(again.head.proj.weight, seeded.head.proj.weight)


def test_codes_of_two_codebooks_stand_behind_one_another() -> None:
    first, second = (torch.randn(n, 4, generator=torch.Generator().manual_seed(n)) for n in (6, 9))
    second[4] = second[1]
    config = tiny_transformer_config(initializer_std=0.02)
    one, both = (
        build_transformer(config, VOCAB, seed=3, codebooks=c) for c in ([first], [first, second])
    )
    for name in ("embedding.weight", "head.proj.weight"):
        before, rows = one.get_parameter(name), both.get_parameter(name)
        assert torch.equal(before[:6], rows[:6])
        torch.testing.assert_close(rows[6 + 4], rows[6 + 1])
        assert (rows[6:15] != before[6:15]).all()
        assert torch.equal(before[15:], rows[15:])


def score(
    head: TokenHead, hidden: torch.Tensor, ids: range | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both results, then the gradients of a mixture of them for the input and the weight."""
    hidden = hidden.clone().requires_grad_()
    head.zero_grad()
    scored = head(hidden, torch.arange(len(hidden)) % 7 + 5, ids=ids)
    weights = torch.linspace(-1, 2, len(hidden), dtype=hidden.dtype)
    (scored.log_prob * weights + 0.1 * scored.log_normalizer.square()).sum().backward()
    return (
        scored.log_prob.detach(), scored.log_normalizer.detach(),
        hidden.grad, head.proj.weight.grad.clone(),
    )  # fmt: skip


@pytest.mark.parametrize("bounded", [False, True], ids=["vocabulary", "range"])
@pytest.mark.parametrize("rows_kept", [1, 10])
@pytest.mark.parametrize("rows_per_piece", [1, 4, 10])
def test_the_head_in_pieces_equals_the_whole_one(
    bounded: bool, rows_per_piece: int, rows_kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    head, hidden = TokenHead(6, VOCAB), torch.randn(10, 6)
    ids = range(5, 12) if bounded else None
    whole = score(head, hidden, ids)
    for limit in ("_MAX_LOGITS", "_MAX_SCORED"):
        monkeypatch.setattr(layers, limit, (7 if bounded else VOCAB) * rows_kept)
    monkeypatch.setattr(layers, "_PIECE_ROWS", rows_per_piece)
    monkeypatch.setattr(layers, "_PIECE_IDS", 3)
    for a, b in zip(score(head, hidden, ids), whole, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        scored = head(hidden, torch.arange(10) % 7 + 5, ids=ids)
    torch.testing.assert_close(scored.log_prob, whole[0], atol=1e-6, rtol=1e-6)


def test_the_head_equals_a_plain_softmax_over_the_allowed_ids() -> None:
    torch.manual_seed(0)
    head, hidden = TokenHead(6, VOCAB).double(), torch.randn(1, 6, dtype=torch.float64)
    logits = head(hidden)[0]
    scored = head(hidden, torch.tensor([7]), ids=range(5, 9))
    assert scored.log_prob.dtype == torch.float64
    torch.testing.assert_close(scored.log_prob[0], logits[5:9].log_softmax(0)[2])
    torch.testing.assert_close(scored.log_normalizer[0], logits[5:9].logsumexp(0))


def test_bfloat16_models_report_float32() -> None:
    head = TokenHead(6, VOCAB).bfloat16()
    assert (
        head(torch.randn(3, 6).bfloat16(), torch.tensor([1, 2, 3])).log_prob.dtype == torch.float32
    )


def test_positions_where_nothing_is_learned_give_empty_results() -> None:
    assert (
        TokenHead(6, VOCAB)(torch.zeros(0, 6), torch.zeros(0, dtype=torch.long)).log_prob.numel()
        == 0
    )


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_norms_per_head_with_equal_weights_equal_a_shared_one(
    kind: Literal["rms", "layer"],
) -> None:
    shared = build_transformer(tiny_transformer_config(qk_norm=kind), VOCAB, seed=1).eval()
    for name, parameter in shared.named_parameters():
        if "q_norm" in name or "k_norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5, torch.Generator().manual_seed(2))
    own = tiny_transformer_config(qk_norm=kind, qk_norm_per_head=True)
    per_head = build_transformer(own, VOCAB).eval()
    state = {
        n: t.expand(per_head.state_dict()[n].shape) if "q_norm" in n or "k_norm" in n else t
        for n, t in shared.state_dict().items()
    }
    per_head.load_state_dict(state)
    with torch.no_grad():
        ids = tokens(2, 9)
        expected = shared(ids, positions=places(ids))
        close(per_head(ids, positions=places(ids)), expected)
        per_head.blocks[0].attention.k_norm.weight[0] += 1  # type: ignore[operator, union-attr]
        changed = per_head(ids, positions=places(ids))
        assert (changed - expected)[:, 1:].abs().amax(-1).min() > 1e-4


def test_a_tied_head_is_kept_once_and_comes_back_tied() -> None:
    config = tiny_transformer_config(tie_head=True)
    model = build_transformer(config, VOCAB, seed=1)
    state = model.state_dict()
    assert "head.proj.weight" not in state
    other = build_transformer(config, VOCAB, seed=2)
    load_into(other, state, "memory")
    assert other.head.proj.weight is other.embedding.weight
    assert torch.equal(other.head.proj.weight, model.embedding.weight)
    hidden = torch.randn(3, config.hidden_size)
    torch.testing.assert_close(other.head(hidden), hidden @ model.embedding.weight.T)


def test_a_head_of_zeros_begins_with_equal_logits_and_conditions_are_never_predicted() -> None:
    config = replace(tiny_transformer_config(), zero_init_head=True, num_conditions=5)
    model = build_transformer(config, VOCAB, seed=1, codebooks=[torch.randn(9, 4)])
    assert model.embedding.weight.shape[0] == VOCAB + 5
    hidden = model(torch.full((1, 3), VOCAB + 4), positions=torch.full((1, 4, 3), -1))
    assert hidden.abs().max() > 0
    assert model.head(hidden).shape[-1] == VOCAB
    assert model.head(hidden).abs().max() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qk_norm": None, "qk_norm_per_head": True}, "qk_norm_per_head without a qk_norm"),
        ({"tie_head": True, "zero_init_head": True}, "zero embedding"),
        ({"tie_head": True, "num_conditions": 3}, "choose one of both"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(tiny_transformer_config(), **change)
