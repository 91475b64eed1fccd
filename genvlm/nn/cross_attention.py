"""Attention from one sequence to another, blocks that do so, and pooling by learned queries.

B batch, T tokens, S tokens of what is read, Q queries, D hidden.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from genvlm.nn.encoder import EncoderBlock
from genvlm.nn.layers import Rotary


class CrossAttention(nn.Module):
    """Every token sees all of what is read; queries and keys normalised."""

    def __init__(self, hidden_size: int, read_size: int, *, num_heads: int, norm_eps: float):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(read_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(read_size, hidden_size, bias=False)
        self.o_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.q_norm, self.k_norm = (
            nn.RMSNorm(hidden_size // num_heads, eps=norm_eps) for _ in range(2)
        )

    def forward(
        self, x: Float[Tensor, "batch tokens hidden"], read: Float[Tensor, "batch read size"]
    ) -> Float[Tensor, "batch tokens hidden"]:
        """What each token takes from `read`."""
        q, k, v = (
            rearrange(t, "b t (n h) -> b n t h", n=self.num_heads)
            for t in (self.q_proj(x), self.k_proj(read), self.v_proj(read))
        )
        q, k = self.q_norm(q).to(v.dtype), self.k_norm(k).to(v.dtype)
        out = F.scaled_dot_product_attention(q, k, v)
        mixed: Tensor = self.o_proj(rearrange(out, "b n t h -> b t (n h)"))
        return mixed


class ReadingBlock(nn.Module):
    """An encoder block that also reads another sequence, before everything else."""

    def __init__(self, hidden_size: int, *, num_heads: int, norm_eps: float) -> None:
        super().__init__()
        self.read_norm = nn.RMSNorm(hidden_size, eps=norm_eps)
        self.reading = CrossAttention(
            hidden_size, hidden_size, num_heads=num_heads, norm_eps=norm_eps
        )
        self.block = EncoderBlock(hidden_size, num_heads=num_heads, norm_eps=norm_eps)

    def forward(
        self,
        x: Float[Tensor, "batch tokens hidden"],
        rotary: Rotary,
        seen: Bool[Tensor, "batch 1 tokens tokens"],
        read: Float[Tensor, "batch read hidden"],
    ) -> Float[Tensor, "batch tokens hidden"]:
        """States of the tokens; each sees all of `read`, and those tokens that `seen` says."""
        out: Tensor = self.block(x + self.reading(self.read_norm(x), read), rotary, seen)
        return out


class AttentionPooler(nn.Module):
    """Learned queries that attend to states (CoCa, Yu et al. 2022, section 3.2)."""

    def __init__(self, num_queries: int, hidden_size: int, read_size: int, *, num_heads: int,
                 norm_eps: float) -> None:  # fmt: skip
        super().__init__()
        self.queries = nn.Parameter(torch.empty(num_queries, hidden_size))
        self.attention = CrossAttention(
            hidden_size, read_size, num_heads=num_heads, norm_eps=norm_eps
        )
        self.norm = nn.RMSNorm(hidden_size, eps=norm_eps)

    def forward(
        self, states: Float[Tensor, "batch read size"]
    ) -> Float[Tensor, "batch queries hidden"]:
        """One state a query."""
        queries = self.queries.to(states.dtype).repeat(len(states), 1, 1)
        pooled: Tensor = self.norm(self.attention(queries, states))
        return pooled
