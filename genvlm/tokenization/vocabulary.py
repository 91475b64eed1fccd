"""One flat vocabulary in contiguous ranges: visual codes | control | text.

Two id spaces meet only here: `codes` (0..codebook_size-1, what a quantizer emits) and `token_ids`
(what the transformer reads). The control range ends in BOV EOS BOI, so that everything the text
state allows is one slice, with a video codebook or without; it begins with EOV behind the last
codebook, so that "another frame or the end of the video" is one slice too. Between them stand, for
models that have them, INFILL, the numbers and the gaps.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Int

from genvlm.errors import TokenError

_FIRST, _LAST = ("EOV", "EOI", "PAD", "BOS"), ("BOV", "EOS", "BOI")


class Modality(IntEnum):
    """What a token belongs to."""

    CONTROL = 0
    TEXT = 1
    IMAGE = 2
    VIDEO = 3


@dataclass(frozen=True)
class Codebook:
    """Size and identity of a codebook; equal fingerprints share one range."""

    size: int
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The table of ranges. Frozen: an id never changes its meaning."""

    image: Codebook
    text_size: int
    video: Codebook | None = None
    num_gaps: int = 0
    """Sentinels of spans that are filled in behind a document (CM3); 0: nothing is infilled."""
    num_numbers: int = 0
    """Ids of the numbers 1, 2, ...: rows and columns of a sized image, codes of a gap in a row."""
    sized_images: bool = False
    """BOI is followed by the numbers of rows and columns; otherwise images are of one size."""

    @property
    def video_shares_image(self) -> bool:
        """True if and only if both codebooks have one fingerprint."""
        return self.video is not None and self.video.fingerprint == self.image.fingerprint

    @property
    def image_range(self) -> range:
        """Token ids of image codes."""
        return range(0, self.image.size)

    @property
    def video_range(self) -> range:
        """Token ids of video codes; empty without a video codebook."""
        if self.video is None:
            return range(self.image.size, self.image.size)
        if self.video_shares_image:
            return self.image_range
        return range(self.image.size, self.image.size + self.video.size)

    @property
    def control_range(self) -> range:
        """Token ids of control tokens."""
        start = max(self.image_range.stop, self.video_range.stop)
        between = (self.num_gaps > 0) + self.num_numbers + self.num_gaps
        return range(start, start + len(_FIRST) + between + len(_LAST))

    @property
    def text_range(self) -> range:
        """Token ids of text pieces."""
        start = self.control_range.stop
        return range(start, start + self.text_size)

    @property
    def size(self) -> int:
        """Number of token ids."""
        return self.text_range.stop

    @property
    def text_state_range(self) -> range:
        """What may follow in text: EOS, BOI, a text piece, and BOV when there is video."""
        first = self.eos if self.video is None else self.bov
        return range(first, self.text_range.stop)

    @property
    def eov(self) -> int:
        """End of video."""
        return self._control("EOV")

    @property
    def eoi(self) -> int:
        """End of image."""
        return self._control("EOI")

    @property
    def pad(self) -> int:
        """Padding; never inside a document."""
        return self._control("PAD")

    @property
    def bos(self) -> int:
        """Begin of document."""
        return self._control("BOS")

    @property
    def eos(self) -> int:
        """End of document."""
        return self._control("EOS")

    @property
    def boi(self) -> int:
        """Begin of image."""
        return self._control("BOI")

    @property
    def bov(self) -> int:
        """Begin of video."""
        return self._control("BOV")

    @property
    def infill(self) -> int:
        """What stands before it is whole but for its gaps; their contents follow."""
        return self._control("INFILL")

    @property
    def number_range(self) -> range:
        """Token ids of the numbers 1, 2, ..."""
        start = self.control_range.start + len(_FIRST) + (self.num_gaps > 0)
        return range(start, start + self.num_numbers)

    @property
    def gap_range(self) -> range:
        """Token ids of the sentinels of spans, in the order of a document."""
        start = self.number_range.stop
        return range(start, start + self.num_gaps)

    def number(self, n: int) -> int:
        """Token id of a number. Raises TokenError: this vocabulary does not count so far."""
        if not 1 <= n <= self.num_numbers:
            raise TokenError(f"no id for the number {n}: this model counts to {self.num_numbers}")
        return self.number_range[n - 1]

    def image_tokens(self, codes: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Token ids of image codes. Raises TokenError outside the codebook."""
        return _shift(codes, self.image_range, "image")

    def video_tokens(self, codes: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Token ids of video codes. Raises TokenError outside the codebook."""
        return _shift(codes, self.video_range, "video")

    def text_tokens(
        self, pieces: Sequence[int] | Int[np.ndarray, " tokens"]
    ) -> Int[np.ndarray, " tokens"]:
        """Token ids of text pieces. Raises TokenError outside the text tokenizer."""
        return _shift(np.asarray(pieces, np.int64), self.text_range, "text")

    def image_codes(self, token_ids: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Codes of image tokens. Raises TokenError for any other token."""
        return _unshift(token_ids, self.image_range, "image")

    def video_codes(self, token_ids: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Codes of video tokens. Raises TokenError for any other token."""
        return _unshift(token_ids, self.video_range, "video")

    def text_pieces(self, token_ids: Int[np.ndarray, " tokens"]) -> list[int]:
        """Text pieces of text tokens. Raises TokenError for any other token."""
        return _unshift(token_ids, self.text_range, "text").tolist()

    def fingerprint_payload(self) -> Mapping[str, object]:
        """What goes into a model's fingerprint."""
        return {
            "image": [self.image.size, self.image.fingerprint],
            "video": [self.video.size, self.video.fingerprint] if self.video else None,
            "control": self._control_names,
            **({"sized_images": True} if self.sized_images else {}),
            "text_size": self.text_size,
        }

    @property
    def _control_names(self) -> list[str]:
        numbers = [f"NUMBER{n}" for n in range(1, self.num_numbers + 1)]
        gaps = [f"GAP{n}" for n in range(self.num_gaps)]
        return [*_FIRST, *(["INFILL"] if gaps else []), *numbers, *gaps, *_LAST]

    def _control(self, name: str) -> int:
        if name in _LAST:
            return self.control_range.stop - len(_LAST) + _LAST.index(name)
        return self.control_range.start + (*_FIRST, "INFILL").index(name)


def _shift(codes: np.ndarray, target: range, kind: str) -> np.ndarray:
    codes = np.asarray(codes, np.int64)
    if codes.size and (codes.min() < 0 or codes.max() >= len(target)):
        raise TokenError(
            f"expected {kind} codes 0..{len(target) - 1}, got {codes.min()}..{codes.max()}: "
            f"they come from another tokenizer"
        )
    return codes + target.start


def _unshift(token_ids: np.ndarray, source: range, kind: str) -> np.ndarray:
    token_ids = np.asarray(token_ids, np.int64)
    if token_ids.size and (token_ids.min() < source.start or token_ids.max() >= source.stop):
        raise TokenError(
            f"expected only {kind} tokens (ids {source.start}..{source.stop - 1}), "
            f"got ids {token_ids.min()}..{token_ids.max()}"
        )
    return token_ids - source.start
