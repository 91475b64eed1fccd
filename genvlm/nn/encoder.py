"""A block of a bidirectional transformer. B batch, T tokens, D hidden."""

from jaxtyping import Bool, Float
from torch import Tensor, nn

from genvlm.nn.layers import Attention, Rotary, SwiGLU


class EncoderBlock(nn.Module):
    """Attention with normalised queries and keys, and SwiGLU, each behind an RMSNorm."""

    def __init__(self, hidden_size: int, *, num_heads: int, norm_eps: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden_size, eps=norm_eps)
        self.attention = Attention(
            hidden_size,
            num_heads=num_heads,
            num_kv_heads=num_heads,
            head_dim=hidden_size // num_heads,
            qk_norm="rms",
            qk_norm_per_head=False,
            norm_eps=norm_eps,
        )
        self.mlp_norm = nn.RMSNorm(hidden_size, eps=norm_eps)
        self.mlp = SwiGLU(hidden_size, 3 * hidden_size)

    def forward(
        self,
        x: Float[Tensor, "batch tokens hidden"],
        rotary: Rotary,
        seen: Bool[Tensor, "batch 1 tokens tokens"],
    ) -> Float[Tensor, "batch tokens hidden"]:
        """States of the tokens; each sees those that `seen` says."""
        attended = self.attention(self.attention_norm(x), (rotary, rotary), seen, None, None)
        x = x + attended
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out
