"""Text as a network reads it: a small encoder of our own, or a frozen one of transformers.

B texts, T tokens, D width. Every text begins with a token of its own, so that "" is the text of
that token alone and no row is all padding.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genvlm.config.assets import resolve_path
from genvlm.config.text_encoder import FrozenTextEncoderConfig, SmallTextEncoderConfig
from genvlm.errors import CheckpointError, ConfigError, TokenError
from genvlm.models.foreign import (
    copy_part,
    fingerprint_tokenizer_files,
    import_transformers,
    load_part,
    load_tokenizer,
    read_config,
)
from genvlm.nn.encoder import EncoderBlock
from genvlm.nn.frozen import Frozen
from genvlm.nn.layers import rotary_table
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.tokenization.text import TextTokenizer, load_text_tokenizer

_NORM_EPS = 1e-5
_THETA = 10_000.0
_INITIALIZER_STD = 0.02


class TextCoder(Protocol):
    """Text to padded pieces, never cut."""

    @property
    def fingerprint(self) -> str: ...

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[Int[Tensor, "texts tokens"], Bool[Tensor, "texts tokens"]]:
        """Pieces and where they stand; "" is the text that says nothing.

        Raises:
            TokenError: a text longer than the encoder takes, named.
        """
        ...


class Texts(NamedTuple):
    """Both halves of reading a text."""

    coder: TextCoder
    encoder: nn.Module
    """forward(pieces, mask) -> states."""
    width: int
    """Of the states."""


class PieceCoder:
    """Pieces of our text tokenizer behind a begin token, which has the number behind the last."""

    def __init__(self, tokenizer: TextTokenizer, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    @property
    def fingerprint(self) -> str:
        """sha256 over tokenizer and limit."""
        return fingerprint_of(["pieces", self.tokenizer.fingerprint, self.max_tokens])

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[Int[Tensor, "texts tokens"], Bool[Tensor, "texts tokens"]]:
        """Pieces and where they stand. Raises TokenError: a text that is too long, or blank."""
        begin = self.tokenizer.size
        rows = [[begin, *(self.tokenizer.encode(text) if text else ())] for text in texts]
        return pad_pieces(texts, rows, self.max_tokens)


class SmallTextEncoder(nn.Module):
    """A bidirectional transformer, trained with the network."""

    def __init__(self, config: SmallTextEncoderConfig, num_pieces: int) -> None:
        super().__init__()
        self.head_dim = config.hidden_size // config.num_heads
        self.embedding = nn.Embedding(num_pieces, config.hidden_size)
        self.blocks = nn.ModuleList(
            EncoderBlock(config.hidden_size, num_heads=config.num_heads, norm_eps=_NORM_EPS)
            for _ in range(config.num_layers)
        )
        self.norm = nn.RMSNorm(config.hidden_size, eps=_NORM_EPS)

    def forward(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens dim"]:
        """States of the tokens; those of padding mean nothing."""
        places = torch.arange(pieces.shape[1], device=pieces.device)[None, :, None]
        rotary = rotary_table(places, [self.head_dim], [_THETA])
        seen = mask[:, None, None].expand(-1, -1, pieces.shape[1], -1)
        x = self.embedding(pieces)
        for block in self.blocks:
            x = block(x, rotary, seen)
        normed: Tensor = self.norm(x)
        return normed

    def init_weights(self, seed: int) -> None:
        """Normal matrices, norms of 1."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=_INITIALIZER_STD, generator=generator)


class FrozenTextEncoder(Frozen):
    """A text encoder of transformers."""

    @torch.no_grad()
    def forward(
        self, pieces: Int[Tensor, "texts tokens"], mask: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens dim"]:
        """The last hidden states."""
        read = self.model(input_ids=pieces, attention_mask=mask.long())
        states: Tensor = read.last_hidden_state
        return states


class ForeignCoder:
    """A tokenizer of transformers with the tokens that it adds.

    Args:
        folders: where encoder and tokenizer lie; both may be one folder.
    """

    def __init__(self, folders: tuple[Path, ...], tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        self._folders = folders
        self.fingerprint = fingerprint_of(
            ["transformers", fingerprint_tokenizer_files(folders[-1]), max_tokens]
        )

    def encode(
        self, texts: Sequence[str]
    ) -> tuple[Int[Tensor, "texts tokens"], Bool[Tensor, "texts tokens"]]:
        """Pieces and where they stand.

        Raises:
            TokenError: a text is too long, or spells a control token, which would be obeyed.
        """
        refuse_controls(texts, self.tokenizer.all_special_tokens)
        rows = [
            self.tokenizer(text, truncation=False, padding=False)["input_ids"] for text in texts
        ]
        return pad_pieces(texts, rows, self.max_tokens)

    def save(self, folder: Path) -> None:
        """Copy encoder and tokenizer."""
        copy_part(self._folders, folder)


def mean_state(
    states: Float[Tensor, "texts tokens dim"], mask: Bool[Tensor, "texts tokens"]
) -> Float[Tensor, "texts dim"]:
    """The mean over the tokens that are there."""
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def build_texts(
    config: SmallTextEncoderConfig | FrozenTextEncoderConfig, *, seed: int = 0
) -> Texts:
    """Coder and encoder; a small one is initialised from the seed.

    Raises:
        CheckpointError: a folder is missing or incomplete.
        ConfigError: it holds no text encoder, or one that reads fewer tokens.
    """
    match config:
        case SmallTextEncoderConfig():
            tokenizer = load_text_tokenizer(resolve_path(config.tokenizer))
            return small_texts(config, tokenizer, seed=seed)
        case FrozenTextEncoderConfig():
            path = resolve_path(config.path)
            return load_frozen_texts(path, path, config.max_tokens)
        case _:
            assert_never(config)


def small_texts(config: SmallTextEncoderConfig, tokenizer: TextTokenizer, *, seed: int) -> Texts:
    """A small encoder for the pieces of a tokenizer, initialised from the seed."""
    encoder = SmallTextEncoder(config, tokenizer.size + 1)
    encoder.init_weights(seed)
    return Texts(PieceCoder(tokenizer, config.max_tokens), encoder, config.hidden_size)


def load_frozen_texts(encoder: Path, tokenizer: Path, max_tokens: int) -> Texts:
    """A text encoder of transformers and its tokenizer, from one folder or from two.

    Raises:
        CheckpointError: a folder is missing or incomplete.
        ConfigError: the encoder reads fewer than `max_tokens`, or an empty text has no token.
    """
    transformers = import_transformers()
    content = read_config(encoder)
    names = content.get("architectures") or [None]
    cls = getattr(transformers, str(names[0]), None)
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise CheckpointError(
            f"{encoder} is a {names[0]!r}, which transformers does not know: give a folder of a "
            "text encoder such as CLIPTextModel or T5EncoderModel"
        )
    model = load_part(cls, encoder)
    limit = getattr(model.config, "max_position_embeddings", None)
    if isinstance(limit, int) and limit < max_tokens:
        raise ConfigError(
            f"max_tokens is {max_tokens}, and {encoder} reads at most {limit}: lower it"
        )
    read = load_tokenizer(transformers.AutoTokenizer, tokenizer)
    if not read("")["input_ids"]:
        raise ConfigError(
            f"the tokenizer in {tokenizer} adds no token, so that an empty text would be nothing "
            "at all: choose an encoder whose tokenizer adds a begin or an end"
        )
    folders = (encoder, tokenizer) if encoder != tokenizer else (encoder,)
    return Texts(
        ForeignCoder(folders, read, max_tokens), FrozenTextEncoder(model), model.config.hidden_size
    )


def refuse_controls(texts: Sequence[str], controls: Sequence[str]) -> None:
    """Raises TokenError: a text spells a control token, which would be obeyed."""
    for text in texts:
        if spelled := [control for control in controls if control and control in text]:
            raise TokenError(
                f"{text[:60]!r} spells the text encoder's control token {spelled[0]!r}: write it "
                "otherwise"
            )


def pad_pieces(
    texts: Sequence[str], rows: Sequence[Sequence[int]], max_tokens: int
) -> tuple[Int[Tensor, "texts tokens"], Bool[Tensor, "texts tokens"]]:
    """Rows padded on the right, and where there is a token.

    Raises:
        TokenError: a text of more than `max_tokens`.
    """
    for text, row in zip(texts, rows, strict=True):
        if len(row) > max_tokens:
            raise TokenError(
                f"{text[:60]!r} has {len(row)} tokens, and the text encoder takes {max_tokens}: "
                "shorten it, or train with a larger max_tokens"
            )
    longest = max((len(row) for row in rows), default=1)
    pieces = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        pieces[number, : len(row)] = torch.tensor(row)
        mask[number, : len(row)] = True
    return pieces, mask
