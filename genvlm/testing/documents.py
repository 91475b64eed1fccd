"""A second opinion on token sequences: a regular expression, sharing no code with the grammar.

Ids are told apart by arithmetic alone: codes 0..K-1, then EOV EOI PAD BOS BOV EOS BOI, then text.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch

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


def image_positions(token_ids: Sequence[int], boi: int, grid: tuple[int, int]) -> torch.Tensor:
    """(1, tokens + 1, 3): positions of tokens without videos and of the one behind the last.

    Counts codes since the last BOI, and shares no code with grammar and documents.
    """
    places, since = [], grid[0] * grid[1]
    for token_id in [*token_ids, -1]:
        inside = since < grid[0] * grid[1]
        places.append([0, *divmod(since, grid[1])] if inside else [-1, -1, -1])
        since = 0 if token_id == boi else since + 1
    return torch.tensor([places])
