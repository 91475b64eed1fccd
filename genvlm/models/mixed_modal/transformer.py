"""Mixed-modal transformer (CM3leon, Chameleon): one stack over one vocabulary.

B batch, T tokens, D hidden, S cache capacity.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genvlm.config.transformer import TransformerConfig
from genvlm.errors import TokenError
from genvlm.nn.layers import (
    Attention,
    LayerCache,
    Rotary,
    SwiGLU,
    TokenHead,
    additive,
    rotary_table,
)

# Ten and three times the usual 0.02: large against the first steps of the optimizer.
_CODE_EMBEDDING_STD = 0.2
_CODE_HEAD_STD = 0.06
_EMBEDDING, _HEAD = "embedding.weight", "head.proj.weight"


class KVCache:
    """Keys and values of a batch, preallocated; rows may have different lengths."""

    def __init__(
        self,
        config: TransformerConfig,
        batch_size: int,
        capacity: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if capacity > config.context_length:
            raise TokenError(
                f"{capacity} tokens asked for, and the context holds {config.context_length}"
            )
        shape = (batch_size, config.num_kv_heads, capacity, config.head_dim)
        self.layers: Sequence[LayerCache] = [
            LayerCache(*(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)))
            for _ in range(config.num_layers)
        ]
        self.lengths = torch.zeros(batch_size, dtype=torch.long, device=device)

    @property
    def capacity(self) -> int:
        """Most tokens of a row."""
        return self.layers[0].keys.shape[2]


class Block(nn.Module):
    """Attention and feed-forward, each on a residual branch, normalised in front or behind."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.attention = Attention(
            config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            qk_norm=config.qk_norm,
            qk_norm_per_head=config.qk_norm_per_head,
            norm_eps=config.norm_eps,
        )
        self.mlp_norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)
        self.dropout = nn.Dropout(config.dropout)
        self.swin = config.norm_order == "swin"

    def forward(
        self,
        x: Float[Tensor, "batch tokens hidden"],
        rotary: tuple[Rotary, Rotary],
        mask: Bool[Tensor, "batch 1 tokens keys"] | Float[Tensor, "batch 1 tokens keys"] | None,
        cache: LayerCache | None,
        slots: Int[Tensor, "batch tokens"] | slice | None,
        prefix: LayerCache | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """One layer."""
        if self.swin:
            attended = self.attention_norm(self.attention(x, rotary, mask, cache, slots, prefix))
            x = x + self.dropout(attended)
            return x + self.dropout(self.mlp_norm(self.mlp(x)))
        attended = self.attention(self.attention_norm(x), rotary, mask, cache, slots, prefix)
        x = x + self.dropout(attended)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class MixedModalTransformer(nn.Module):
    """Returns hidden states; `head` turns them into logits or log-probabilities."""

    def __init__(self, config: TransformerConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size + config.num_conditions, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.norm_eps)
        self.head = TokenHead(config.hidden_size, vocab_size)
        if config.tie_head:
            self.head.proj.weight = self.embedding.weight
            # Kept once in files: safetensors takes no two names of one tensor.
            self.register_state_dict_post_hook(_drop_head)
            self.register_load_state_dict_pre_hook(_tie_head)
            self.register_load_state_dict_post_hook(_tie_again)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Normal with `initializer_std`; branch outputs smaller by sqrt(2 layers) (GPT-2)."""
        std = self.config.initializer_std
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or (name == _HEAD and self.config.zero_init_head):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                scaled = std / math.sqrt(2 * self.config.num_layers)
                nn.init.normal_(parameter, std=scaled, generator=generator)
            else:
                nn.init.normal_(parameter, std=std, generator=generator)

    @torch.no_grad()
    def init_codes(
        self,
        codebook: Float[Tensor, "codes dim"],
        generator: torch.Generator | None = None,
        *,
        start: int = 0,
    ) -> None:
        """Rows from `start` on of embedding and head: random linear maps of what codes stand for.

        Code vectors that are near begin with near embeddings and near logits, so that what is
        learned of one helps with its neighbours.
        """
        scaled = [(self.embedding.weight, _CODE_EMBEDDING_STD)]
        if not self.config.zero_init_head:
            scaled.append((self.head.proj.weight, _CODE_HEAD_STD))  # a tied one ends with this
        for weight, std in scaled:
            mapped = codebook @ torch.randn(codebook.shape[1], weight.shape[1], generator=generator)
            weight[start : start + len(codebook)] = (std * mapped / mapped.std()).to(weight)

    def forward(
        self,
        token_ids: Int[Tensor, "batch tokens"] | Float[Tensor, "batch tokens hidden"],
        *,
        positions: Int[Tensor, "batch tokens+1 3"] | None = None,
        indices: Int[Tensor, "batch tokens"] | None = None,
        mask: Bool[Tensor, "batch 1 tokens keys"] | None = None,
        cache: KVCache | None = None,
        prefix: Sequence[LayerCache] | None = None,
        last_norm: bool = True,
        num_blocks: int | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Hidden states after the last norm.

        Args:
            token_ids: ids, or vectors that stand where those of the embedding would.
            positions: (frame, row, column) of each token and of the one behind the last, -1 where
                it is no code: `EncodedDocument.positions`. Read with `rotary_dims` only.
            indices: places in the sequence; 0..T-1 by default, or on from each row's cached length.
            mask: True where a query may see a key; causal by default, which with padding on the
                right needs nothing more.
            cache: new keys are written behind each row's `lengths`. The caller advances
                `lengths` by the number of real (not padding) tokens of each row.
            prefix: layers of a full cache that holds what stands in front of these tokens, without
                `cache`. Each of its rows serves a run of rows, all runs of one length.
            last_norm: False leaves `norm` to the caller, who wants to see what it is given.
            num_blocks: run the first ones alone, for states from the middle; all by default.

        Raises:
            TokenError: more tokens than the context or the cache holds.
        """
        start = prefix[0].keys.shape[2] if prefix is not None else 0
        num_tokens, device = token_ids.shape[1], token_ids.device
        slots: Tensor | slice | None = None
        if cache is not None:
            slots, mask, behind = self._slots(cache, num_tokens, mask)
            indices = behind if indices is None else indices
        elif start + num_tokens > self.config.context_length:
            raise TokenError(
                f"{start + num_tokens} tokens do not fit the context of "
                f"{self.config.context_length}: shorten the text or drop images"
            )
        if indices is None:
            indices = torch.arange(start, start + num_tokens, device=device)[None]
        rotary = self._rotary(indices, positions)
        x = token_ids if token_ids.is_floating_point() else self.embedding(token_ids)
        if mask is not None and torch.is_grad_enabled():
            mask = additive(mask, x)
        for i, block in enumerate(self.blocks[:num_blocks]):
            cached = cache.layers[i] if cache is not None else None
            shared = prefix[i] if prefix is not None else None
            x = block(x, rotary, mask, cached, slots, shared)
        return self.norm(x) if last_norm else x

    def _slots(
        self, cache: KVCache, num_tokens: int, mask: Tensor | None
    ) -> tuple[Tensor | slice, Tensor | None, Tensor]:
        """Where new keys go, what their queries see, and their places in the sequences."""
        steps = torch.arange(num_tokens, device=cache.lengths.device)
        places = cache.lengths[:, None] + steps
        lengths = cache.lengths.tolist()
        shortest, longest = min(lengths), max(lengths)
        seen = longest + num_tokens
        if seen > cache.capacity:
            raise TokenError(f"{seen} tokens do not fit a cache of {cache.capacity}")
        # Rows of one length need no mask for their first tokens, nor for a single one behind.
        if mask is None and shortest == longest and (longest == 0 or num_tokens == 1):
            return slice(longest, seen), None, places
        if mask is None:
            keys = torch.arange(seen, device=places.device)
            mask = keys[None, None, None] <= places[:, None, :, None]
        return places, mask, places

    def _rotary(self, indices: Tensor, positions: Tensor | None) -> tuple[Rotary, Rotary]:
        """Tables of queries and keys.

        A query stands where the token that it predicts will stand, a key where its own token does,
        so that "the code above" is one offset at the begin of a row as anywhere else.
        """
        config = self.config
        dims = config.rotary_dims
        if dims is None:
            table = rotary_table(indices[..., None], (config.head_dim,), (config.rope_theta,))
            return table, table
        if positions is None:
            raise ValueError("this model has rotary_dims: it needs the positions of its tokens")
        thetas = (config.rope_theta, *3 * (config.axis_theta,))

        def table_of(places: Tensor) -> Rotary:
            index = indices[..., None].expand(*places.shape[:2], 1)
            return rotary_table(torch.cat([index, places], -1), dims, thetas)

        return table_of(positions[:, 1:]), table_of(positions[:, :-1])


def _drop_head(
    module: nn.Module, state: dict[str, Any], prefix: str, local_metadata: dict[str, Any]
) -> None:
    state.pop(prefix + _HEAD, None)


def _tie_again(module: nn.Module, _incompatible: object) -> None:
    """Tensors that were taken instead of copied came as two parameters."""
    assert isinstance(module, MixedModalTransformer)
    module.head.proj.weight = module.embedding.weight


def _tie_head(module: nn.Module, state: dict[str, Any], prefix: str, *unused: object) -> None:
    if prefix + _EMBEDDING in state:
        state[prefix + _HEAD] = state[prefix + _EMBEDDING]
