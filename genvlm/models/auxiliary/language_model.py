"""Causal language models that are never trained, and that read vectors in place of tokens.

B rows, T tokens, P tokens of a shared prefix, D width, V token ids. Padding stands on the right,
behind everything that a causal model reads, so that nothing masks it.
"""

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genvlm.errors import ConfigError, TokenError
from genvlm.models.foreign import (
    copy_part,
    fingerprint_tokenizer_files,
    import_transformers,
    load_part,
    load_tokenizer,
    meant,
    read_config,
)
from genvlm.nn.frozen import Frozen
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors
from genvlm.tokenization.image_slots import TokenCoder

# How far logits may move when a later token changes.
_TOLERANCE = 1e-4


class Prefix(NamedTuple):
    """What stands in front of many rows, read once."""

    vectors: Float[Tensor, "1 prefix width"]
    logits: Float[Tensor, "1 vocab"]
    """Behind its last token."""
    past: Any
    """The model's own keys and values; None: it reads the prefix anew with every row."""


class LanguageModel(Frozen, ABC):
    """A causal language model; gradients pass through it.

    Args:
        context: most tokens of a row; None: nobody knows.
    """

    def __init__(self, model: nn.Module, *, width: int, context: int | None) -> None:
        super().__init__(model)
        self.width, self.context = width, context

    @abstractmethod
    def embed(self, token_ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens width"]:
        """Vectors of tokens."""

    @abstractmethod
    def forward(
        self, vectors: Float[Tensor, "batch tokens width"], keep: int
    ) -> Float[Tensor, "batch keep vocab"]:
        """Logits behind each of the last `keep` places."""

    @abstractmethod
    def prefill(self, vectors: Float[Tensor, "1 prefix width"]) -> Prefix:
        """Read what many rows stand behind."""

    @abstractmethod
    def behind(
        self, prefix: Prefix, vectors: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens vocab"]:
        """Logits behind each token of rows that all stand behind the prefix."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """A frozen language model with its tokenizer."""

    model: LanguageModel
    coder: TokenCoder
    fingerprint: str
    """sha256 over weights, configuration and tokenizer."""
    save: Callable[[Path], None]
    """Copies both into a folder."""


class ForeignLanguageModel(LanguageModel):
    """A causal language model of transformers."""

    def __init__(self, model: Any, *, width: int, context: int | None) -> None:
        super().__init__(model, width=width, context=context)
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters

    @torch.no_grad()
    def embed(self, token_ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens width"]:
        """Vectors of tokens."""
        model: Any = self.model
        vectors: Tensor = model.get_input_embeddings()(token_ids)
        return vectors

    def forward(
        self, vectors: Float[Tensor, "batch tokens width"], keep: int
    ) -> Float[Tensor, "batch keep vocab"]:
        """Logits behind each of the last `keep` places."""
        logits: Tensor = self._read(vectors, keep, use_cache=False).logits
        return logits

    @torch.no_grad()
    def prefill(self, vectors: Float[Tensor, "1 prefix width"]) -> Prefix:
        """Read what many rows stand behind."""
        read = self._read(vectors, 1, use_cache=True)
        past = getattr(read, "cache", None)
        repeats = hasattr(past, "batch_repeat_interleave")
        return Prefix(vectors, read.logits[:, -1], past if repeats else None)

    @torch.no_grad()
    def behind(
        self, prefix: Prefix, vectors: Float[Tensor, "batch tokens width"]
    ) -> Float[Tensor, "batch tokens vocab"]:
        """Logits behind each token of rows that all stand behind the prefix."""
        if prefix.past is None:
            again = prefix.vectors.expand(len(vectors), -1, -1)
            return self(torch.cat([again, vectors], 1), vectors.shape[1])
        cache = copy.deepcopy(prefix.past)
        cache.batch_repeat_interleave(len(vectors))
        read = self._read(vectors, vectors.shape[1], use_cache=True, cache=cache)
        logits: Tensor = read.logits
        return logits

    def _read(self, vectors: Tensor, keep: int, **options: Any) -> Any:
        kept = {"logits_to_keep": keep} if self._keeps else {}
        read = self.model(inputs_embeds=vectors, **kept, **options)
        read.logits = read.logits[:, -keep:]
        return read


class ForeignTokens:
    """The tokenizer of a language model of transformers."""

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        """Raises ConfigError: the tokenizer names no end of a text, or hides how it begins one."""
        if tokenizer.eos_token_id is None:
            raise ConfigError(
                f"the tokenizer in {folder} names no eos_token, so that no caption would end: name "
                "it in tokenizer_config.json"
            )
        self._tokenizer, self._folder = tokenizer, folder
        self.end = int(tokenizer.eos_token_id)
        self.begin = self._begin()
        self.unknown: int | None = tokenizer.unk_token_id
        self.fingerprint = fingerprint_tokenizer_files(folder)

    def encode(self, text: str) -> list[int]:
        """Without begin and end. Raises TokenError: blank, or it spells a control token."""
        if not text.strip():
            raise TokenError("the text is empty: give it at least one word")
        for control in self._tokenizer.all_special_tokens:
            if control and control in text:
                raise TokenError(
                    f"{text[:60]!r} spells the language model's control token {control!r}: write "
                    "it otherwise"
                )
        return self._plain(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text without control tokens."""
        return str(
            self._tokenizer.decode(
                list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _plain(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _begin(self) -> tuple[int, ...]:
        """What the tokenizer puts in front of a text."""
        whole, bare = list(self._tokenizer("a", verbose=False)["input_ids"]), self._plain("a")
        for at in range(len(whole)):
            if bare and whole[at : at + len(bare)] == bare:
                return tuple(whole[:at])
        raise ConfigError(
            f"the tokenizer in {self._folder} makes {whole} of 'a' and {bare} without control "
            "tokens, which does not tell what a text begins with: choose another language model"
        )


def load_foreign_language(folder: Path) -> Language:
    """A causal language model of transformers.

    Raises:
        CheckpointError: the folder is missing or incomplete.
        ConfigError: no causal language model, none that vectors can be given to, or its tokenizer
            names no end.
    """
    transformers = import_transformers()
    content = read_config(folder)
    model = load_part(transformers.AutoModelForCausalLM, folder)
    width = _embedding_width(model, folder)
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    language = ForeignLanguageModel(
        model, width=width, context=context if isinstance(context, int) and context > 0 else None
    )
    _refuse_reading_ahead(language, folder)
    coder = ForeignTokens(load_tokenizer(transformers.AutoTokenizer, folder), folder)
    weights = fingerprint_tensors(model.state_dict())
    return Language(
        model=language,
        coder=coder,
        fingerprint=fingerprint_of(["transformers", weights, meant(content), coder.fingerprint]),
        save=lambda target: copy_part((folder,), target),
    )


def _embedding_width(model: Any, folder: Path) -> int:
    """Raises ConfigError: the model has no embedding layer, or takes ids alone."""
    try:
        weight = getattr(model.get_input_embeddings(), "weight", None)
    except (NotImplementedError, AttributeError):
        weight = None
    takes = "inputs_embeds" in inspect.signature(model.forward).parameters
    if not takes or not isinstance(weight, Tensor) or weight.dim() != 2:
        raise ConfigError(
            f"the {type(model).__name__} in {folder} has no embedding layer to project into: "
            "choose a language model whose forward takes inputs_embeds, such as LlamaForCausalLM"
        )
    return int(weight.shape[1])


@torch.no_grad()
def _refuse_reading_ahead(language: ForeignLanguageModel, folder: Path) -> None:
    """Raises ConfigError: a prediction depends on a later token."""
    vectors = language.embed(torch.zeros(1, 3, dtype=torch.long))
    later = vectors.clone()
    later[:, -1] += torch.linspace(-1, 1, language.width)  # a LayerNorm would take off a constant
    one, other = (language(v, 3)[:, :-1] for v in (vectors, later))
    if not (one - other).abs().max() <= _TOLERANCE:
        raise ConfigError(
            f"the {type(language.model).__name__} in {folder} reads the tokens behind the one it "
            "predicts: choose a causal language model"
        )
