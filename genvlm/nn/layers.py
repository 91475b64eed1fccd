"""Transformer layers: rotary positions, grouped-query attention with a cache, SwiGLU, the head.

B batch, T tokens, S cached plus new tokens, D hidden, N heads, K key-value heads, H head dim,
V vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

# Logits that the head keeps for the backward pass: 16 M float32 numbers are 64 MB. More are
# computed again.
_MAX_LOGITS = 2**24
# Logits that it makes at once where nothing is kept: glibc gives blocks above 32 MB back to the
# system as soon as they are free, and gets each anew.
_MAX_SCORED = 2**22
# Rows and ids of a piece: 4 MB stay in a processor's cache.
_PIECE_ROWS, _PIECE_IDS = 1024, 1024


class Rotary(NamedTuple):
    """Cosines and sines of rotary position embedding, in float32; `sin` is negative in front."""

    cos: Float[Tensor, "batch tokens 1 dim"]
    sin: Float[Tensor, "batch tokens 1 dim"]


def rotary_table(
    coordinates: Int[Tensor, "batch tokens axes"], dims: Sequence[int], thetas: Sequence[float]
) -> Rotary:
    """Rotary position embedding (Su et al. 2021) over one or more axes.

    Axis `a` turns `dims[a]` dimensions of a head with frequencies `thetas[a]^(-2i / dims[a])`.
    """
    angles = []
    for axis, (dim, theta) in enumerate(zip(dims, thetas, strict=True)):
        half = torch.arange(0, dim, 2, device=coordinates.device, dtype=torch.float32)
        angles.append(coordinates[..., axis, None].float() * theta ** (-half / max(dim, 1)))
    turned = torch.cat(angles, -1)[:, :, None]
    cos, sin = turned.cos(), turned.sin()
    return Rotary(torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1))


def rotate(x: Float[Tensor, "batch tokens heads dim"], table: Rotary) -> Tensor:
    """Turn the pairs (i, i + dim/2) by the angles of the table (the layout of Hugging Face)."""
    cos, sin = (t.to(x.dtype) for t in table)
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat([second, first], dim=-1), sin)


class LayerCache(NamedTuple):
    """Preallocated keys and values of one layer; of each head they lie together."""

    keys: Float[Tensor, "batch kv_heads capacity dim"]
    values: Float[Tensor, "batch kv_heads capacity dim"]


QKNorm = Literal["rms", "layer"]


class HeadNorm(nn.Module):
    """RMSNorm, or LayerNorm with a bias, of each head's queries or keys.

    With `num_heads` every head has its own weight and bias (`num_heads`, `head_dim`); without, all
    share one (`head_dim`,).
    """

    def __init__(self, kind: QKNorm, head_dim: int, eps: float, num_heads: int | None) -> None:
        super().__init__()
        self.kind, self.eps = kind, eps
        shape = (head_dim,) if num_heads is None else (num_heads, head_dim)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape)) if kind == "layer" else None

    def forward(
        self, x: Float[Tensor, "batch tokens heads dim"]
    ) -> Float[Tensor, "batch tokens heads dim"]:
        """Normalise the last dimension."""
        shared = self.weight.dim() == 1
        weight, bias = (self.weight, self.bias) if shared else (None, None)
        if self.kind == "rms":
            x = F.rms_norm(x, x.shape[-1:], weight, self.eps)
        else:
            x = F.layer_norm(x, x.shape[-1:], weight, bias, self.eps)
        if shared:
            return x
        return x * self.weight if self.bias is None else torch.addcmul(self.bias, x, self.weight)


class Attention(nn.Module):
    """Causal grouped-query self-attention with normalised queries and keys."""

    def __init__(
        self,
        hidden_size: int,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        qk_norm: QKNorm | None,
        qk_norm_per_head: bool,
        norm_eps: float,
    ) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.q_proj = nn.Linear(hidden_size, num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(hidden_size, num_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(hidden_size, num_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, hidden_size, bias=False)
        self.q_norm, self.k_norm = (
            nn.Identity()
            if qk_norm is None
            else HeadNorm(qk_norm, head_dim, norm_eps, heads if qk_norm_per_head else None)
            for heads in (num_heads, num_kv_heads)
        )

    def forward(
        self,
        x: Float[Tensor, "batch tokens hidden"],
        rotary: tuple[Rotary, Rotary],
        mask: Bool[Tensor, "batch 1 tokens keys"] | Float[Tensor, "batch 1 tokens keys"] | None,
        cache: LayerCache | None,
        slots: Int[Tensor, "batch tokens"] | slice | None,
        prefix: LayerCache | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Attend.

        Args:
            rotary: of the queries and of the keys.
            mask: True where a query may see a key, or what is added to its logit; None means causal
                within `x`, or one query that sees all that is cached.
            cache: written at `slots` (a row of indices per batch row, or one slice for all), then
                read as far as `mask` or the slice goes.
            prefix: read in front of `x` by equal runs of rows, without `mask` and `cache`.
        """
        shape = (*x.shape[:2], -1, self.head_dim)
        of_queries, of_keys = rotary
        q = rotate(self.q_norm(self.q_proj(x).view(shape)), of_queries)
        k = rotate(self.k_norm(self.k_proj(x).view(shape)), of_keys)
        v = self.v_proj(x).view(shape)
        if prefix is not None:
            return self.o_proj(attend_behind(q, k, v, prefix))
        if cache is None or slots is None:
            k, v = k.transpose(1, 2), v.transpose(1, 2)
        else:
            k, v = _write(cache, k, v, slots, mask)
        out = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.to(q.dtype),
            v.to(q.dtype),
            attn_mask=mask,
            is_causal=mask is None and x.shape[1] > 1,
            enable_gqa=self.num_heads != self.num_kv_heads,
        )
        return self.o_proj(out.transpose(1, 2).reshape(*x.shape[:2], -1))


def additive(mask: Bool[Tensor, "*shape"], x: Tensor) -> Float[Tensor, "*shape"]:
    """0 and -inf for True and False, in the numbers in which attention on `x` computes.

    Attention turns a mask of truth values into such numbers itself and keeps them for the backward
    pass, in every layer anew; these are kept once.
    """
    dtype, device = x.dtype, x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -math.inf)


def _write(
    cache: LayerCache,
    k: Float[Tensor, "batch tokens kv_heads dim"],
    v: Float[Tensor, "batch tokens kv_heads dim"],
    slots: Int[Tensor, "batch tokens"] | slice,
    mask: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Store keys and values; all that there are then."""
    if isinstance(slots, slice):
        cache.keys[:, :, slots], cache.values[:, :, slots] = k.transpose(1, 2), v.transpose(1, 2)
        seen = slots.stop
    else:
        rows = torch.arange(len(k), device=k.device)[:, None]
        cache.keys[rows, :, slots] = k.to(cache.keys.dtype)
        cache.values[rows, :, slots] = v.to(cache.values.dtype)
        seen = cache.keys.shape[2] if mask is None else mask.shape[-1]
    return cache.keys[:, :, :seen], cache.values[:, :, :seen]


def attend_behind(
    q: Float[Tensor, "rows tokens heads dim"],
    k: Float[Tensor, "rows tokens kv_heads dim"],
    v: Float[Tensor, "rows tokens kv_heads dim"],
    prefix: LayerCache,
) -> Float[Tensor, "rows tokens heads*dim"]:
    """Causal attention of rows that stand behind a few prefixes, each shared by a run of rows.

    The queries of a run meet the keys of their prefix in one product: nothing is repeated.
    """
    rows, tokens, heads, dim = q.shape
    num_prefixes, kv_heads, length, _ = prefix.keys.shape
    split = (num_prefixes, rows // num_prefixes, tokens, kv_heads, -1, dim)
    by_row, by_prefix = (rows * kv_heads, -1, dim), (num_prefixes * kv_heads, -1, dim)
    # Heads in front of rows: of one prefix and head, all queries lie together.
    q, k, v = (
        t.reshape(split).permute(0, 3, 1, 2, 4, 5).reshape(by_row) for t in (q * dim**-0.5, k, v)
    )
    prefix_k, prefix_v = (t.to(q.dtype).reshape(by_prefix) for t in prefix)
    to_prefix = q.view(by_prefix) @ prefix_k.transpose(1, 2)
    to_own = q @ k.transpose(1, 2)
    later = torch.ones(tokens, tokens, dtype=torch.bool, device=q.device).triu(1)
    to_own.masked_fill_(later.repeat_interleave(heads // kv_heads, 0), -math.inf)
    scores = torch.cat([to_prefix.view(*to_own.shape[:2], length), to_own], -1)
    shares = scores.softmax(-1, dtype=torch.float64 if q.dtype == torch.float64 else torch.float32)
    of_prefix, of_own = shares.to(q.dtype).split([length, tokens], -1)
    out = (of_prefix.reshape(len(prefix_v), -1, length) @ prefix_v).view(by_row) + of_own @ v
    out = out.view(num_prefixes, kv_heads, split[1], tokens, -1, dim)
    return out.permute(0, 2, 3, 1, 4, 5).reshape(rows, tokens, -1)


class SwiGLU(nn.Module):
    """Gated feed-forward layer (Shazeer 2020)."""

    def __init__(self, hidden_size: int, intermediate_size: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, hidden_size, bias=False)

    def forward(
        self, x: Float[Tensor, "batch tokens hidden"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """silu(gate x) * (up x), projected back."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TokenLogProbs(NamedTuple):
    """What the head says of one target per position, in nats; float32 or the model's float64."""

    log_prob: Float[Tensor, " positions"]
    log_normalizer: Float[Tensor, " positions"]
    """log of the sum of exponentials that `log_prob` was normalised by (for the z-loss)."""
    max_logit: Float[Tensor, " positions"]
    """The largest logit, without a gradient (for the log)."""


class TokenHead(nn.Module):
    """Output projection: logits, or log-probabilities of targets in pieces."""

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.proj = _HeadProjection(hidden_size, vocab_size)

    def forward(
        self,
        hidden: Float[Tensor, "positions hidden"],
        targets: Int[Tensor, " positions"] | None = None,
        *,
        ids: range | None = None,
    ) -> Tensor | TokenLogProbs:
        """Logits (positions, ids) without targets; with targets, their log-probabilities in pieces.

        Args:
            ids: the only ids wanted, or allowed: no other is computed, and the softmax runs over
                them alone. None: the whole vocabulary.
        """
        scored: Tensor | TokenLogProbs = self.proj(hidden, targets, ids)
        return scored


class _HeadProjection(nn.Module):
    """The weight of the head, which nothing but this module's own `forward` reads.

    ZeRO 3 keeps weights elsewhere and brings those of a module back for its `forward` alone. That
    is why this is a module of its own and no `nn.Linear` whose weight the head would read.
    """

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.weight: Tensor = nn.Parameter(torch.empty(vocab_size, hidden_size))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(
        self, hidden: Tensor, targets: Tensor | None, ids: range | None
    ) -> Tensor | TokenLogProbs:
        """As the head's."""
        weight = self.weight if ids is None else self.weight[ids.start : ids.stop]
        if targets is None:
            return F.linear(hidden, weight)
        targets = targets if ids is None else targets - ids.start
        most = _MAX_LOGITS if torch.is_grad_enabled() else _MAX_SCORED
        if len(hidden) * len(weight) <= most:
            return TokenLogProbs(*_log_probs(F.linear(hidden, weight), targets))
        dtype, device = hidden.dtype, hidden.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        scored = _LogProbsInPieces.apply(hidden.to(dtype), weight.to(dtype), targets)
        return TokenLogProbs(*scored)


class _LogProbsInPieces(torch.autograd.Function):
    """`_log_probs` of a linear head, a piece of rows and ids at a time.

    No logits are kept: gradients compute them again. The gradient of the weight grows in one place.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        dtype = torch.promote_types(hidden.dtype, torch.float32)
        log_prob, log_normalizer, max_logit = hidden.new_empty((3, len(hidden)), dtype=dtype)
        buffer = hidden.new_empty((_PIECE_ROWS, _PIECE_IDS), dtype=dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in _parts(len(hidden), _PIECE_ROWS):
                top = log_prob.new_full((len(targets[rows]),), -math.inf)
                total, chosen = torch.zeros_like(top), torch.zeros_like(top)
                for ids in _parts(len(weight), _PIECE_IDS):
                    logits = _logits_into(buffer, hidden[rows], weight[ids], None)
                    place, inside = _places(targets[rows], ids, logits.shape[1])
                    chosen = torch.where(inside, logits.gather(1, place[:, None])[:, 0], chosen)
                    higher = torch.maximum(top, logits.amax(1))
                    total = total * (top - higher).exp_()
                    total += logits.sub_(higher[:, None]).exp_().sum(1)
                    top = higher
                max_logit[rows] = top
                log_normalizer[rows] = total.log_().add_(top)
                log_prob[rows] = chosen - log_normalizer[rows]
        ctx.save_for_backward(hidden, weight, targets, log_normalizer)
        ctx.mark_non_differentiable(max_logit)
        return log_prob, log_normalizer, max_logit

    @staticmethod
    def backward(
        ctx: Any, of_log_prob: Tensor, of_log_normalizer: Tensor, _of_max_logit: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        hidden, weight, targets, log_normalizer = ctx.saved_tensors
        of_hidden = torch.zeros_like(hidden, dtype=log_normalizer.dtype)
        of_weight = torch.zeros_like(weight, dtype=log_normalizer.dtype)
        buffer = of_weight.new_empty((_PIECE_ROWS, _PIECE_IDS))
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in _parts(len(hidden), _PIECE_ROWS):
                states, of_chosen = hidden[rows], of_log_prob[rows, None]
                of_share = of_log_normalizer[rows, None] - of_chosen
                for ids in _parts(len(weight), _PIECE_IDS):
                    part = weight[ids]
                    shares = _logits_into(buffer, states, part, -log_normalizer[rows, None])
                    grad = shares.exp_().mul_(of_share)
                    place, inside = _places(targets[rows], ids, grad.shape[1])
                    grad.scatter_add_(1, place[:, None], of_chosen * inside[:, None])
                    of_hidden[rows] += grad.to(part.dtype) @ part
                    of_weight[ids].addmm_(grad.T, states.to(grad.dtype))
        return of_hidden.to(hidden.dtype), of_weight.to(weight.dtype), None


def _parts(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]


def _places(targets: Tensor, ids: slice, num_ids: int) -> tuple[Tensor, Tensor]:
    """Place of each target among the ids of a piece, and whether it is one of them."""
    place = targets - ids.start
    inside = (place >= 0) & (place < num_ids)
    return place.clamp(0, num_ids - 1), inside


def _logits_into(buffer: Tensor, hidden: Tensor, weight: Tensor, shift: Tensor | None) -> Tensor:
    """Logits, plus `shift`, in memory that every piece uses again."""
    logits = buffer[: len(hidden), : len(weight)]
    if hidden.dtype != logits.dtype:
        logits.copy_(hidden @ weight.T)
        return logits if shift is None else logits.add_(shift)
    if shift is not None:
        return torch.addmm(shift, hidden, weight.T, out=logits)
    return torch.mm(hidden, weight.T, out=logits)


def _log_probs(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if logits.dtype != torch.float64:
        logits = logits.float()
    log_normalizer = logits.logsumexp(-1)
    chosen = logits.gather(-1, targets[:, None])[:, 0]
    return chosen - log_normalizer, log_normalizer, logits.detach().amax(-1)
