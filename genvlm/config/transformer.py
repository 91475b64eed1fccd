"""Configuration of the mixed-modal transformer."""

from dataclasses import dataclass
from typing import Literal

from genvlm.config.image_tokenizer import VQGANConfig
from genvlm.config.schema import Count, Positive, PositiveFloat, Probability, Weight, strict
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
    rope_theta: PositiveFloat = 10_000.0
    rotary_dims: tuple[int, int, int, int] | None = None
    """Dimensions of a head turned by (sequence index, frame, row, column); None: all by the index.

    LlamaGen's 2-D positions are (0, 0, head_dim / 2, head_dim / 2).
    """
    axis_theta: PositiveFloat = 100.0
    """Base of the frequencies of frame, row and column, which count to dozens, not to thousands."""
    qk_norm: Literal["rms", "layer"] | None = "rms"
    """Normalised queries and keys, which Chameleon needs to stay stable over modalities: RMSNorm,
    or Chameleon's LayerNorm with a bias."""
    qk_norm_per_head: bool = False
    """Every head has its own weight and bias of `qk_norm` (Chameleon as Hugging Face stores it)."""
    norm_order: Literal["pre", "swin"] = "pre"
    """pre: branches read normalised input. swin: their output is normalised before it is added
    (Swin Transformer V2), which Chameleon 34B needs to stay stable."""
    norm_eps: PositiveFloat = 1e-5
    initializer_std: Weight = 0.02
    dropout: Probability = 0.0
    """On the residual branches."""
    tie_head: bool = False
    """The head reads the embedding's rows instead of its own."""
    zero_init_head: bool = False
    """Training begins with equal logits (LlamaGen)."""
    num_conditions: Count = 0
    """Ids behind the vocabulary that are read and never predicted (LlamaGen's class labels)."""

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
        if self.qk_norm is None and self.qk_norm_per_head:
            raise ConfigError("qk_norm_per_head without a qk_norm: choose rms or layer")
        if self.tie_head and self.num_conditions:
            raise ConfigError(
                "tie_head would predict the ids of num_conditions: choose one of both"
            )
        if self.tie_head and self.zero_init_head:
            raise ConfigError(
                "zero_init_head would begin with a zero embedding: set tie_head false"
            )


@strict
@dataclass(frozen=True, kw_only=True)
class PublishedShape:
    """Shape of a published model, to be copied into the `model` of a run of one's own."""

    kind: Literal["shape"] = "shape"
    source: str
    """Where it was published."""
    vocab_size: Positive
    num_parameters: Positive
    """Of the transformer with this vocabulary."""
    model: TransformerConfig
    image_tokenizer: VQGANConfig | None = None
    """Where it is built from taming's modules."""
