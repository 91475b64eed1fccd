"""Configuration of the mixed-modal transformer."""

from dataclasses import dataclass

from genvlm.config.schema import Positive, Probability, strict
from genvlm.errors import ConfigError


@strict
@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Shape of a decoder-only transformer, from 2 M to 34 B parameters.

    The vocabulary size comes from the tokenizers, not from here.
    """

    hidden_size: Positive
    num_layers: Positive
    num_heads: Positive
    num_kv_heads: Positive
    """Fewer than `num_heads` gives grouped-query attention."""
    head_dim: Positive
    intermediate_size: Positive
    """Width of the SwiGLU."""
    context_length: Positive
    """Most tokens of one sequence."""
    rope_theta: float = 10_000.0
    rotary_dims: tuple[int, int, int, int] | None = None
    """Dimensions of a head turned by (sequence index, frame, row, column); None: all by the index.

    LlamaGen's 2-D positions are (0, 0, head_dim / 2, head_dim / 2).
    """
    axis_theta: float = 100.0
    """Base of the frequencies of frame, row and column, which count to dozens, not to thousands."""
    qk_norm: bool = True
    """RMSNorm of queries and keys per head, as Chameleon needs to stay stable over modalities."""
    norm_eps: float = 1e-5
    initializer_std: float = 0.02
    dropout: Probability = 0.0
    """On the residual branches."""

    def __post_init__(self) -> None:
        if self.num_kv_heads < 1 or self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"num_heads {self.num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(f"head_dim {self.head_dim} is odd: rotary positions turn pairs")
        dims = self.rotary_dims
        if dims is not None and (sum(dims) != self.head_dim or any(d < 0 or d % 2 for d in dims)):
            raise ConfigError(
                f"rotary_dims {list(dims)} must be even numbers that add up to head_dim "
                f"{self.head_dim}"
            )
