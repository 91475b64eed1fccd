"""Our own mixed-modal transformer as a language model of text alone, and every language model.

B rows, T tokens, P tokens of a shared prefix, D width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.config.assets import resolve_path
from genvlm.config.projector import ForeignLanguageConfig, OwnLanguageConfig
from genvlm.models.auxiliary.language_model import (
    Language,
    LanguageModel,
    Prefix,
    load_foreign_language,
)
from genvlm.models.mixed_modal.transformer import KVCache, MixedModalTransformer
from genvlm.models.model_folder import copy_folder
from genvlm.models.pretrained import load_pretrained
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.tokenization.text import TextTokenizer
from genvlm.tokenization.vocabulary import Vocabulary


def build_language(config: ForeignLanguageConfig | OwnLanguageConfig) -> Language:
    """A frozen language model, whoever wrote it.

    Raises:
        CheckpointError: a folder is missing or incomplete.
        ConfigError: it holds no causal language model that vectors can be given to.
    """
    match config:
        case ForeignLanguageConfig():
            return load_foreign_language(resolve_path(config.path))
        case OwnLanguageConfig():
            return load_text_only(resolve_path(config.path))
        case _:
            assert_never(config)


def load_text_only(folder: Path) -> Language:
    """The text half of one of our model folders. Raises CheckpointError as `load_pretrained`."""
    pretrained = load_pretrained(folder)
    return Language(
        model=TextOnlyModel(pretrained.model, pretrained.vocabulary),
        coder=TextOnlyTokens(pretrained.text_tokenizer),
        fingerprint=fingerprint_of(["text of genvlm", pretrained.fingerprint]),
        save=lambda target: copy_folder(folder, target),
    )


class TextOnlyTokens:
    """Pieces of the text tokenizer, then the end, then the begin of a document."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self.end = tokenizer.size
        self.begin = (tokenizer.size + 1,)
        self.unknown: int | None = None
        self.fingerprint = fingerprint_of(["text of genvlm", tokenizer.fingerprint])

    def encode(self, text: str) -> list[int]:
        """Without begin and end. Raises TokenError: blank."""
        return self._tokenizer.encode(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of the pieces."""
        return self._tokenizer.decode([i for i in token_ids if i < self.end])


class TextOnlyModel(LanguageModel):
    """Reads and writes the numbers of `TextOnlyTokens`; logits are of pieces and the end alone."""

    table: Tensor

    def __init__(self, model: MixedModalTransformer, vocabulary: Vocabulary) -> None:
        super().__init__(model, width=model.config.hidden_size, context=model.config.context_length)
        self._eos, self._size = vocabulary.eos, vocabulary.size
        pieces = vocabulary.text_tokens(np.arange(vocabulary.text_size))
        table = torch.tensor([*pieces.tolist(), vocabulary.eos, vocabulary.bos])
        self.register_buffer("table", table, persistent=False)

    @torch.no_grad()
    def embed(self, token_ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens width"]:
        """Vectors of tokens."""
        vectors: Tensor = self._transformer.embedding(self.table[token_ids])
        return vectors

    def forward(
        self, vectors: Float[Tensor, "batch tokens width"], keep: int
    ) -> Float[Tensor, "batch keep text"]:
        """Logits behind each of the last `keep` places."""
        states = self._transformer(vectors, positions=_no_codes(vectors))
        return self._logits(states[:, -keep:])

    @torch.no_grad()
    def prefill(self, vectors: Float[Tensor, "1 prefix width"]) -> Prefix:
        """Read what many rows stand behind."""
        cache = KVCache(
            self._transformer.config, 1, vectors.shape[1],
            dtype=vectors.dtype, device=vectors.device,
        )  # fmt: skip
        states = self._transformer(vectors, positions=_no_codes(vectors), cache=cache)
        return Prefix(vectors, self._logits(states[:, -1:])[:, 0], cache.layers)

    @torch.no_grad()
    def behind(
        self, prefix: Prefix, vectors: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens text"]:
        """Logits behind each token of rows that all stand behind the prefix."""
        states = self._transformer(vectors, positions=_no_codes(vectors), prefix=prefix.past)
        return self._logits(states)

    @property
    def _transformer(self) -> MixedModalTransformer:
        assert isinstance(self.model, MixedModalTransformer)
        return self.model

    def _logits(
        self, states: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens text"]:
        """In the order of `TextOnlyTokens`: EOS stands in front of the text pieces, then BOI."""
        flat = states.flatten(0, 1)
        logits = self._transformer.head(flat, ids=range(self._eos, self._size))
        in_order = torch.cat([logits[:, 2:], logits[:, :1]], 1)
        return in_order.unflatten(0, states.shape[:2])


def _no_codes(vectors: Float[Tensor, "batch tokens width"]) -> Int[Tensor, "batch tokens+1 3"]:
    """Positions of text; the vectors of a picture have those of text, too."""
    batch, tokens, _ = vectors.shape
    return torch.full((batch, tokens + 1, 3), -1, device=vectors.device)
