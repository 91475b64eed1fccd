"""Text tokenizers: SentencePiece models and Hugging Face `tokenizers` JSON files, unchanged."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from genvlm.errors import CheckpointError, TokenError

SENTENCEPIECE_FILE = "text.model"
HUGGINGFACE_FILE = "text.json"


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
    """A `tokenizer.json` of the Hugging Face `tokenizers` library."""

    def __init__(self, json: bytes, source: str = "tokenizer.json") -> None:
        from tokenizers import Tokenizer

        self._bytes = json
        try:
            self._tokenizer = Tokenizer.from_str(json.decode("utf-8"))
        except Exception:  # the Rust side raises plain Exception
            raise CheckpointError(f"{source} is not a `tokenizers` JSON file") from None

    @property
    def size(self) -> int:
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self._bytes).hexdigest()

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(_checked(text), add_special_tokens=False).ids)

    def decode(self, pieces: list[int]) -> str:
        return str(self._tokenizer.decode(pieces, skip_special_tokens=False))

    def save(self, folder: Path) -> None:
        (folder / HUGGINGFACE_FILE).write_bytes(self._bytes)


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
        return HuggingFaceTokenizer(path.read_bytes(), str(path))
    return SentencePieceTokenizer(path.read_bytes(), str(path))


def train_sentencepiece(sentences: Iterable[str], *, vocab_size: int) -> SentencePieceTokenizer:
    """BPE pieces with byte fallback (no text is ever unknown), no normalization (round trips hold).

    One character is lost: SentencePiece writes blanks as U+2581, and so reads U+2581 as a blank.
    Whole digits and words of the sentences; single-threaded, so that the same sentences give the
    same model.
    """
    from sentencepiece import SentencePieceTrainer

    model = io.BytesIO()
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
    return SentencePieceTokenizer(model.getvalue())


def _checked(text: str) -> str:
    if not text.strip():
        raise TokenError("the text is empty: give it at least one word")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise TokenError(f"the text {text!r} is not valid Unicode: save it as UTF-8") from None
    return text
