"""Documents: segments of text, images and videos, and their encoding as token ids.

T tokens. The arrays that go with the ids (modality, position, loss weight) are the ones that loss
weights and positional encodings read; they equal what stepping the grammar yields.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int8, Int16

from genvlm.errors import TokenError
from genvlm.tokenization.text import TextTokenizer
from genvlm.tokenization.vocabulary import Modality, Vocabulary


@dataclass(frozen=True, eq=False)
class Text:
    """A run of text."""

    text: str
    pieces: Sequence[int] | Int[np.ndarray, " pieces"] | None = None
    """Its tokens in the text tokenizer, where they are known already."""


@dataclass(frozen=True, eq=False)
class Image:
    """A picture as codes, (rows, columns)."""

    codes: Int[np.ndarray, "rows columns"]


@dataclass(frozen=True, eq=False)
class Video:
    """A clip as codes, (frames, rows, columns)."""

    codes: Int[np.ndarray, "frames rows columns"]


Segment = Text | Image | Video


@dataclass(frozen=True, kw_only=True)
class Document:
    """A sequence of segments; `loss` says which of them are learned (all by default)."""

    id: str
    segments: Sequence[Segment]
    loss: Sequence[bool] | None = None


class EncodedDocument(NamedTuple):
    """A document as arrays of one length."""

    token_ids: Int[np.ndarray, " tokens"]
    modality: Int8[np.ndarray, " tokens"]
    positions: Int16[np.ndarray, "tokens 3"]
    """(frame, row, column) of a code; of EOV, that of the code which stood there if the video went
    on, since what precedes a token must tell its position; -1 for every other token."""
    loss_weights: Float32[np.ndarray, " tokens"]
    """Weight of predicting this token from those before it; 0 for BOS, which nothing predicts."""


def encode_document(
    document: Document,
    vocabulary: Vocabulary,
    text_tokenizer: TextTokenizer,
    *,
    grid: tuple[int, int],
    max_tokens: int | None = None,
) -> EncodedDocument:
    """`BOS (text | BOI codes EOI | BOV frames EOV)* EOS`.

    A sized image is `BOI rows columns codes EOI`.

    Args:
        grid: rows and columns of codes of every frame, and of every image that is not sized.
        max_tokens: the model's context.

    Raises:
        TokenError: an image of another grid, a code outside the codebook, or too long.
    """
    parts = [_encode_control(vocabulary.bos, 0.0)]
    losses = document.loss if document.loss is not None else [True] * len(document.segments)
    for segment, learned in zip(document.segments, losses, strict=True):
        parts.extend(
            _encode_segment(segment, vocabulary, text_tokenizer, grid, float(learned), document.id)
        )
    parts.append(_encode_control(vocabulary.eos, 1.0))
    encoded = EncodedDocument(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if max_tokens is not None:
        check_length(document.id, len(encoded.token_ids), max_tokens)
    return encoded


def count_tokens(document: Document, text_tokenizer: TextTokenizer, *, sized_images: bool) -> int:
    """How many token ids `encode_document` gives, at a fraction of the work.

    Args:
        sized_images: images tell their rows and columns.
    """
    counts = (_count(segment, text_tokenizer, sized_images) for segment in document.segments)
    return 2 + sum(num + num_control for _, num, num_control in counts)


def count_learned(
    document: Document, text_tokenizer: TextTokenizer, *, sized_images: bool
) -> Int[np.ndarray, " modalities"]:
    """How many tokens of each `Modality` have a loss, likewise."""
    total = np.zeros(len(Modality), np.int64)
    total[Modality.CONTROL] = 1  # EOS
    losses = document.loss if document.loss is not None else [True] * len(document.segments)
    for segment, learned in zip(document.segments, losses, strict=True):
        if learned:
            modality, num, num_control = _count(segment, text_tokenizer, sized_images)
            total[modality] += num
            total[Modality.CONTROL] += num_control
    return total


def check_length(document_id: str, num_tokens: int, max_tokens: int) -> None:
    """Raises TokenError: a document is longer than the context."""
    if num_tokens > max_tokens:
        raise TokenError(
            f"document {document_id!r} has {num_tokens} tokens, more than the context of "
            f"{max_tokens}: shorten its text or split it"
        )


def decode_document(
    token_ids: Int[np.ndarray, " tokens"],
    vocabulary: Vocabulary,
    text_tokenizer: TextTokenizer,
    *,
    grid: tuple[int, int],
) -> list[Segment]:
    """Segments of a token sequence, as the grammar emits them; a missing EOS (cut off) is allowed.

    Raises:
        TokenError: the sequence is not a document.
    """
    ids = [int(i) for i in token_ids]
    segments: list[Segment] = []
    text: list[int] = []

    def flush() -> None:
        if text:
            pieces = vocabulary.text_pieces(np.asarray(text))
            segments.append(Text(text_tokenizer.decode(pieces)))
            text.clear()

    at = 1 if ids and ids[0] == vocabulary.bos else 0
    while at < len(ids) and ids[at] != vocabulary.eos:
        if ids[at] == vocabulary.boi:
            flush()
            begin, shape = _shape_at(ids, at, vocabulary, grid)
            end = begin + shape[0] * shape[1]
            segments.append(Image(_codes(ids[begin:end], vocabulary, shape)))
            if end >= len(ids) or ids[end] != vocabulary.eoi:
                raise TokenError(f"the image that begins at token {at} has no end")
            at = end + 1
        elif ids[at] == vocabulary.bov:
            flush()
            size = grid[0] * grid[1]
            end = ids.index(vocabulary.eov, at) if vocabulary.eov in ids[at:] else len(ids)
            frames = vocabulary.video_codes(np.asarray(ids[at + 1 : end]))
            if end == len(ids) or len(frames) == 0 or len(frames) % size:
                raise TokenError(f"the video that begins at token {at} has no whole frames or end")
            segments.append(Video(frames.reshape(-1, *grid)))
            at = end + 1
        else:
            text.append(ids[at])
            at += 1
    flush()
    return segments


def _count(
    segment: Segment, text_tokenizer: TextTokenizer, sized_images: bool
) -> tuple[Modality, int, int]:
    """Modality and number of the tokens of a segment, and of the control tokens around them."""
    match segment:
        case Text(text, pieces):
            known = text_tokenizer.encode(text) if pieces is None else pieces
            return Modality.TEXT, len(known), 0
        case Image(codes):
            return Modality.IMAGE, codes.size, 4 if sized_images else 2
        case Video(codes):
            return Modality.VIDEO, codes.size, 2


def _encode_segment(
    segment: Segment,
    vocabulary: Vocabulary,
    text_tokenizer: TextTokenizer,
    grid: tuple[int, int],
    weight: float,
    document_id: str,
) -> list[EncodedDocument]:
    match segment:
        case Text(text, pieces):
            known = text_tokenizer.encode(text) if pieces is None else pieces
            ids = vocabulary.text_tokens(known)
            positions = np.full((len(ids), 3), -1, np.int16)
            return [_encoded(ids, Modality.TEXT, positions, weight)]
        case Image(codes):
            if not vocabulary.sized_images:
                _check_grid(codes.shape, grid, document_id)
            sides = codes.shape if vocabulary.sized_images else ()
            return [
                _encode_control(vocabulary.boi, weight),
                *(_encode_control(vocabulary.number(side), weight) for side in sides),
                _encode_codes(vocabulary.image_tokens(codes)[None], Modality.IMAGE, weight),
                _encode_control(vocabulary.eoi, weight),
            ]
        case Video(codes):
            if vocabulary.video is None:
                raise TokenError(
                    f"document {document_id!r} holds a video, and this model has no video codebook"
                )
            _check_grid(codes.shape[1:], grid, document_id)
            return [
                _encode_control(vocabulary.bov, weight),
                _encode_codes(vocabulary.video_tokens(codes), Modality.VIDEO, weight),
                _encode_control(vocabulary.eov, weight, (len(codes), 0, 0)),
            ]


def _encode_control(
    token_id: int, weight: float, position: tuple[int, int, int] = (-1, -1, -1)
) -> EncodedDocument:
    return _encoded(
        np.array([token_id], np.int64), Modality.CONTROL, np.array([position], np.int16), weight
    )


def _encode_codes(
    token_ids: Int[np.ndarray, "frames rows columns"], modality: Modality, weight: float
) -> EncodedDocument:
    positions = np.stack(list(np.indices(token_ids.shape)), -1).reshape(-1, 3).astype(np.int16)
    return _encoded(token_ids.reshape(-1), modality, positions, weight)


def _encoded(
    token_ids: np.ndarray, modality: Modality, positions: np.ndarray, weight: float
) -> EncodedDocument:
    n = len(token_ids)
    return EncodedDocument(
        token_ids, np.full(n, modality, np.int8), positions, np.full(n, weight, np.float32)
    )


def _check_grid(shape: tuple[int, ...], grid: tuple[int, int], document_id: str) -> None:
    if tuple(shape) != tuple(grid):
        raise TokenError(
            f"an image of document {document_id!r} has {'x'.join(map(str, shape))} codes; this "
            f"model takes {grid[0]}x{grid[1]}: encode it with the model's own tokenizer"
        )


def _shape_at(
    ids: list[int], at: int, vocabulary: Vocabulary, grid: tuple[int, int]
) -> tuple[int, tuple[int, int]]:
    """Place of the first code of the image that begins at `at`, and its rows and columns."""
    if not vocabulary.sized_images:
        return at + 1, grid
    sides = [i - vocabulary.number_range.start + 1 for i in ids[at + 1 : at + 3]]
    if len(sides) < 2 or not all(1 <= side <= vocabulary.num_numbers for side in sides):
        raise TokenError(f"the image that begins at token {at} does not tell its size")
    return at + 3, (sides[0], sides[1])


def _codes(ids: list[int], vocabulary: Vocabulary, grid: tuple[int, int]) -> np.ndarray:
    if len(ids) != grid[0] * grid[1]:
        raise TokenError(f"an image has {len(ids)} codes instead of {grid[0] * grid[1]}")
    return vocabulary.image_codes(np.asarray(ids)).reshape(grid)
