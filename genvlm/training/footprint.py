"""What one training step of a transformer holds and computes, from its shape alone.

The sums follow what our layers do, tensor by tensor; tests compare them with what autograd saves.
n positions (rows x tokens), D hidden, I intermediate, V vocabulary.
"""

from dataclasses import dataclass
from typing import Literal

from genvlm.config.transformer import TransformerConfig

Numbers = Literal["float32", "autocast", "bfloat16"]
"""autocast: weights in float32, products in bfloat16 (Accelerate). bfloat16: weights too, of which
the optimizer keeps a float32 copy (DeepSpeed)."""

MAX_LOGITS = 2**24
"""More are never kept but computed again, a piece at a time (`nn/layers.py`)."""
_FLOAT = 4  # bytes of a float32 number
_PIECE = 1024 * 1024 * _FLOAT


@dataclass(frozen=True, kw_only=True)
class ParameterCounts:
    """Trained parameters by part."""

    embedding: int
    attention: int
    """Projections of queries, keys, values and output."""
    mlp: int
    norms: int
    head: int
    """0 where it is tied to the embedding."""

    @property
    def blocks(self) -> int:
        """Matrices inside the blocks."""
        return self.attention + self.mlp

    @property
    def total(self) -> int:
        """All of them."""
        return self.embedding + self.blocks + self.norms + self.head


@dataclass(frozen=True, kw_only=True)
class SavedBytes:
    """What a forward pass keeps for the backward pass."""

    blocks: int
    head: int
    """Last norm, head and loss."""
    recomputed: int
    """Of the block that is computed again, with activation checkpointing."""

    @property
    def total(self) -> int:
        """At its highest."""
        return self.blocks + self.head + self.recomputed


def count_parameters(model: TransformerConfig, vocab_size: int) -> ParameterCounts:
    """Parameters of `MixedModalTransformer`."""
    queries, keys = _widths(model)
    hidden, layers = model.hidden_size, model.num_layers
    heads = (model.num_heads, model.num_kv_heads) if model.qk_norm_per_head else (1, 1)
    of_qk_norm = {None: 0, "rms": 1, "layer": 2}[model.qk_norm] * sum(heads) * model.head_dim
    return ParameterCounts(
        embedding=(vocab_size + model.num_conditions) * hidden,
        attention=layers * hidden * 2 * (queries + keys),
        mlp=layers * hidden * 3 * model.intermediate_size,
        norms=layers * (2 * hidden + of_qk_norm) + hidden,
        head=0 if model.tie_head else vocab_size * hidden,
    )


def flops_per_token(model: TransformerConfig, vocab_size: int, row_length: float) -> float:
    """FLOPs of forward and backward, a multiplication with its addition as two.

    6 N + 12 L (heads x head_dim) T, as in PaLM's MFU (Chowdhery et al. 2022, appendix B): N are the
    weights of matrix products, the embedding not among them; attention counts every pair of
    positions, seen or not; nothing that is computed twice counts twice.
    """
    counts = count_parameters(model, vocab_size)
    products = counts.blocks + vocab_size * model.hidden_size
    queries, _ = _widths(model)
    return 6 * products + 12 * model.num_layers * queries * row_length


def saved_bytes(
    model: TransformerConfig,
    vocab_size: int,
    *,
    rows: int,
    tokens: int,
    numbers: Numbers,
    checkpointing: bool = False,
    packed: bool = False,
) -> SavedBytes:
    """What autograd keeps of one micro-batch of full rows, all of whose tokens are learned.

    Norms as on a CPU, where each keeps its input as it is and normalised, in float32; those of a
    GPU keep less.

    Args:
        packed: rows hold several documents, whose mask is kept once.
    """
    positions, num_layers = rows * tokens, model.num_layers
    size = _FLOAT if numbers == "float32" else 2
    places = positions if packed or model.rotary_dims is not None else tokens
    # A norm's weights of every head, which autocast leaves in float32, make its result float32.
    turned = "float32" if numbers == "autocast" and model.qk_norm_per_head else numbers
    tables = _rotary_bytes(model, places, turned)
    shared = tables if turned == "float32" else 0  # float32 tables serve every block
    block = positions * _block_bytes(model, numbers) + (0 if shared else tables)
    shared += size * positions * tokens if packed else 0
    casts = 2 * count_parameters(model, vocab_size).blocks if numbers == "autocast" else 0
    head = positions * (model.hidden_size * (2 * _FLOAT + size) + 2 * _FLOAT)
    head += vocab_size * model.hidden_size * size if numbers == "autocast" else 0
    head += positions * (vocab_size * _FLOAT if _keeps_logits(positions, vocab_size) else 24)
    if not checkpointing:
        return SavedBytes(blocks=num_layers * block + casts + shared, head=head, recomputed=0)
    inputs = positions * model.hidden_size * (2 if numbers == "bfloat16" else _FLOAT)
    return SavedBytes(
        blocks=num_layers * inputs + shared, head=head, recomputed=block + casts // num_layers
    )


def backward_bytes(
    model: TransformerConfig, vocab_size: int, *, positions: int, numbers: Numbers
) -> int:
    """A guess of what lives for a moment: gradients of logits or the head, or those of a block."""
    size = _FLOAT if numbers == "float32" else 2
    if _keeps_logits(positions, vocab_size):
        head = 2 * _FLOAT * positions * vocab_size
    else:
        head = _FLOAT * model.hidden_size * (vocab_size + positions) + _PIECE
    block = size * positions * (3 * model.intermediate_size + 2 * model.hidden_size)
    return max(head, block)


def _widths(model: TransformerConfig) -> tuple[int, int]:
    """Of all queries, and of all keys."""
    return model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim


def _keeps_logits(positions: int, vocab_size: int) -> bool:
    return positions * vocab_size <= MAX_LOGITS


def _block_bytes(model: TransformerConfig, numbers: Numbers) -> int:
    """Of one position in one block."""
    size = _FLOAT if numbers == "float32" else 2
    both, heads = sum(_widths(model)), model.num_heads + model.num_kv_heads
    # Both norms keep their input and the normalised one in float32 and a scale. Under autocast each
    # of the projections q, k, v, gate and up keeps a bfloat16 copy of what it is given.
    copies = 5 if numbers == "autocast" else 2
    hidden = 2 * (2 * _FLOAT * model.hidden_size + _FLOAT) + copies * size * model.hidden_size
    match model.qk_norm:
        case "rms":
            qk_norm = 2 * _FLOAT * both + _FLOAT * heads
        case "layer":
            of_heads = 2 if model.qk_norm_per_head else 1
            qk_norm = of_heads * size * both + 2 * _FLOAT * heads
        case None:
            qk_norm = 0
    # Turned queries and keys, values, and the output with its normalizers.
    attention = 2 * size * both + _FLOAT * model.num_heads
    mlp = 4 * size * model.intermediate_size
    dropout = 2 * size * model.hidden_size if model.dropout else 0
    return hidden + qk_norm + attention + mlp + dropout


def _rotary_bytes(model: TransformerConfig, places: int, numbers: Numbers) -> int:
    """Of one block: cosines and sines of queries and keys, which positions in pictures part."""
    if numbers != "float32":
        return 4 * 2 * places * model.head_dim  # every block rounds its own
    return (2 if model.rotary_dims is None else 4) * _FLOAT * places * model.head_dim
