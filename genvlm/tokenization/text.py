"""Text tokenizers: SentencePiece models and Hugging Face `tokenizers` JSON files, unchanged."""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from genvlm.errors import CheckpointError, ConfigError, TokenError

SENTENCEPIECE_FILE = "text.model"
HUGGINGFACE_FILE = "text.json"
PIECES_FILE = "text.pieces.json"


class TextTokenizer(Protocol):
    """Text to pieces (0..size-1) and back. Pieces become token ids in `vocabulary` only."""

    @property
    def size(self) -> int: ...

    @property
    def fingerprint(self) -> str:
        """sha256 of the file that defines it."""
        ...

    def encode(self, text: str) -> list[int]:
        """Pieces of the canonical segmentation. Raises TokenError for text without content."""
        ...

    def decode(self, pieces: list[int]) -> str: ...

    def save(self, folder: Path) -> None:
        """Write the defining file, byte for byte."""
        ...


class SentencePieceTokenizer:
    """A SentencePiece `.model` file."""

    def __init__(self, model: bytes, source: str = "SentencePiece model") -> None:
        from sentencepiece import SentencePieceProcessor

        self._bytes = model
        try:
            if not model:  # SentencePiece takes empty bytes for "load nothing"
                raise RuntimeError
            self._processor = SentencePieceProcessor(model_proto=model)
        except (RuntimeError, OSError):
            raise CheckpointError(f"{source} is not a SentencePiece model") from None

    @property
    def size(self) -> int:
        return int(self._processor.get_piece_size())

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest()

    def encode(self, text: str) -> list[int]:
        return list(self._processor.encode(_checked(text)))

    def decode(self, pieces: list[int]) -> str:
        return str(self._processor.decode(pieces))

    def save(self, folder: Path) -> None:
        (folder / SENTENCEPIECE_FILE).write_bytes(self._bytes)


class HuggingFaceTokenizer:
    """A `tokenizer.json` of the Hugging Face `tokenizers` library.

    `piece_ids`: which of its ids are text, in order, where others stand for images and control
    tokens (Chameleon); pieces are places in that list.
    """

    def __init__(
        self,
        content: bytes,
        source: str = "tokenizer.json",
        *,
        piece_ids: Sequence[int] | None = None,
    ) -> None:
        from tokenizers import Tokenizer

        self.json = content
        self._ids = list(piece_ids) if piece_ids is not None else None
        self._places = {i: place for place, i in enumerate(self._ids or ())}
        try:
            self._tokenizer = Tokenizer.from_str(content.decode("utf-8"))
            # A file may say both: they would cut texts short, or lengthen them, in silence.
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
        except Exception:  # the Rust side raises plain Exception
            raise CheckpointError(f"{source} is not a `tokenizers` JSON file") from None

    @property
    def size(self) -> int:
        if self._ids is not None:
            return len(self._ids)
        # Not the number of pieces: ids may have gaps.
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    @property
    def fingerprint(self) -> str:
        ids = json.dumps(self._ids).encode() if self._ids is not None else b""
        return hashlib.sha256(self.json + ids).hexdigest()

    def encode(self, text: str) -> list[int]:
        ids = list(self._tokenizer.encode(_checked(text), add_special_tokens=False).ids)
        if self._ids is None:
            return ids
        for i in ids:
            if i not in self._places:
                raise TokenError(
                    f"the text holds {self._tokenizer.id_to_token(i)!r}, which stands for an image "
                    "or a control token: leave it out"
                )
        return [self._places[i] for i in ids]

    def decode(self, pieces: list[int]) -> str:
        ids = pieces if self._ids is None else [self._ids[p] for p in pieces]
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    @property
    def is_subset(self) -> bool:
        """Whether some ids of the file are no text."""
        return self._ids is not None

    def piece_names(self) -> list[str]:
        """What each id of the file is called; those without a name get one of their number."""
        return [self._tokenizer.id_to_token(i) or f"<unnamed{i}>" for i in range(self.size)]

    def save(self, folder: Path) -> None:
        (folder / HUGGINGFACE_FILE).write_bytes(self.json)
        if self._ids is not None:
            (folder / PIECES_FILE).write_text(json.dumps(self._ids))


def load_text_tokenizer(path: Path) -> TextTokenizer:
    """Load a `.model` or `.json` file, or whichever of the two a folder holds.

    Raises:
        CheckpointError: neither is there, or the file is not what its name says.
    """
    if path.is_dir():
        found = [path / n for n in (SENTENCEPIECE_FILE, HUGGINGFACE_FILE) if (path / n).is_file()]
        if len(found) != 1:
            raise CheckpointError(
                f"{path} must hold one of {SENTENCEPIECE_FILE}, {HUGGINGFACE_FILE}; "
                f"it holds {len(found)}"
            )
        path = found[0]
    if not path.is_file():
        raise CheckpointError(f"no text tokenizer at {path}")
    if path.suffix == ".json":
        listed = path.with_name(PIECES_FILE)
        piece_ids = json.loads(listed.read_text()) if listed.is_file() else None
        return HuggingFaceTokenizer(path.read_bytes(), str(path), piece_ids=piece_ids)
    return SentencePieceTokenizer(path.read_bytes(), str(path))


def train_sentencepiece(sentences: Iterable[str], *, vocab_size: int) -> SentencePieceTokenizer:
    """BPE pieces with byte fallback (no text is ever unknown), no normalization (round trips hold).

    One character is lost: SentencePiece writes blanks as U+2581, and so reads U+2581 as a blank.
    Whole digits and words of the sentences; single-threaded, so that the same sentences give the
    same model.
    """
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
    try:
        SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocab_size,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=1.0,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            split_digits=True,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ConfigError(
            f"SentencePiece makes no {vocab_size} pieces of these sentences: change vocab_size "
            f"({' '.join(str(error).split())[-120:]})"
        ) from None
    return SentencePieceTokenizer(model.getvalue())


def _checked(text: str) -> str:
    if not text.strip():
        raise TokenError("the text is empty: give it at least one word")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise TokenError(f"the text {text!r} is not valid Unicode: save it as UTF-8") from None
    return text
