"""A second opinion on token sequences: a regular expression, sharing no code with the grammar.

Ids are told apart by arithmetic alone: codes 0..K-1, then EOV EOI PAD BOS BOV EOS BOI, then text.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

_LETTERS = "veP" + "BVEi"


class ParsedDocument(NamedTuple):
    """What a valid sequence holds."""

    num_images: int
    ended: bool
    """It ends in EOS rather than at the limit."""


def parse_image_text(
    token_ids: Sequence[int],
    *,
    codebook_size: int,
    codes_per_image: int,
    text_size: int,
    limit: int,
) -> ParsedDocument | None:
    """Read `BOS (text | BOI codes EOI)* EOS`; the EOS may lack at exactly `limit` tokens.

    Returns:
        None for a sequence that is no document.
    """
    letters = "".join(_letter(i, codebook_size, text_size) for i in token_ids)
    if re.fullmatch(rf"B(t|ic{{{codes_per_image}}}e)*E?", letters) is None:
        return None
    ended = letters.endswith("E")
    if len(letters) > limit or (not ended and len(letters) != limit):
        return None
    return ParsedDocument(letters.count("i"), ended)


def _letter(token_id: int, codebook_size: int, text_size: int) -> str:
    if 0 <= token_id < codebook_size:
        return "c"
    behind = token_id - codebook_size
    if 0 <= behind < len(_LETTERS):
        return _LETTERS[behind]
    return "t" if 0 <= behind - len(_LETTERS) < text_size else "?"
