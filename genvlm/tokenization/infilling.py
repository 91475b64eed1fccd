"""CM3 infilling (Aghajanyan et al. 2022): parts of a document move behind it.

"a cow left of [..] BOI 1 2 [3 4] EOI" becomes
`BOS a cow left of GAP0 BOI 1 2 NUMBER2 EOI INFILL GAP0 .. EOS NUMBER2 3 4 EOS`: where a span of
text or whole images was there stands its sentinel, where a run of codes of one row was, their
number. A causal model so learns to fill a hole from what stands on both sides. `rotate` and
`unrotate` are inverse; the grammar reads the result.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from genvlm.errors import TokenError
from genvlm.tokenization.document import EncodedDocument
from genvlm.tokenization.grammar import MAX_GAPS
from genvlm.tokenization.vocabulary import Modality, Vocabulary


class Gap(NamedTuple):
    """Tokens `start` to `stop - 1`: whole text pieces and images, or codes of one row."""

    start: int
    stop: int


def rotate(
    document: EncodedDocument, gaps: Sequence[Gap], vocabulary: Vocabulary
) -> EncodedDocument:
    """The document with its gaps filled in behind it.

    Every moved token keeps modality, position and loss weight; sentinels and INFILL weigh nothing,
    since nobody predicts them.

    Raises:
        TokenError: gaps that overlap, cut through an image or a row, hold BOS or EOS, or are more
            than the vocabulary has sentinels for.
    """
    ordered = sorted(gaps)
    if not ordered or len(ordered) > MAX_GAPS:
        raise TokenError(f"a document takes 1 to {MAX_GAPS} gaps, got {len(ordered)}")
    body: list[EncodedDocument] = []
    fillings: list[EncodedDocument] = []
    at, num_spans = 0, 0
    for gap in ordered:
        run = _check_gap(document, gap, at, vocabulary)
        sentinel = _sentinel(gap, run, num_spans, vocabulary)
        num_spans += not run
        position = document.positions[gap.start] if run else None
        body += [_slice(document, at, gap.start), _given(sentinel, position)]
        fillings += [_given(sentinel), _slice(document, gap.start, gap.stop)]
        if not run:
            fillings.append(_slice(document, len(document.token_ids) - 1))
        at = gap.stop
    body += [_slice(document, at, len(document.token_ids) - 1), _given(vocabulary.infill)]
    if run:
        fillings.append(_slice(document, len(document.token_ids) - 1))
    parts = [*body, *fillings]
    return EncodedDocument(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def unrotate(
    token_ids: Int[np.ndarray, " tokens"], vocabulary: Vocabulary
) -> Int[np.ndarray, " tokens"]:
    """The document whose gaps are filled; any other sequence comes back unchanged.

    Raises:
        TokenError: a filling is missing, cut off, or not that of its gap.
    """
    ids = [int(i) for i in token_ids]
    if not vocabulary.num_gaps or vocabulary.infill not in ids:
        return np.asarray(token_ids)
    behind = ids.index(vocabulary.infill)
    places, filling = _gap_places(ids[:behind], vocabulary), behind + 1
    whole: list[int] = []
    at = 0
    for number, place in enumerate(places):
        if filling >= len(ids) or ids[filling] != ids[place]:
            raise TokenError(f"gap {number} of {len(places)} is not filled: allow more tokens")
        stop = _filling_stop(ids, filling, vocabulary)
        whole += [*ids[at:place], *ids[filling + 1 : stop]]
        is_span = ids[filling] in vocabulary.gap_range
        at, filling = place + 1, stop + is_span
    return np.array([*whole, *ids[at:behind], vocabulary.eos])


def mask_gaps(
    document: EncodedDocument, mask: Bool[np.ndarray, "rows columns"], image: int = 0
) -> list[Gap]:
    """Runs of masked codes, one or more a row, of the document's `image`-th picture.

    Raises:
        TokenError: no such picture, or a mask of another shape.
    """
    is_code = document.modality == Modality.IMAGE
    starts = np.flatnonzero(is_code & ~np.roll(is_code, 1))
    if image >= len(starts):
        raise TokenError(f"the document has {len(starts)} images and no image {image}")
    start = int(starts[image])
    stop = start + int(np.argmin(np.append(is_code[start:], False)))
    rows, columns = (document.positions[stop - 1][1:] + 1).tolist()
    if mask.shape != (rows, columns):
        raise TokenError(f"a mask of {mask.shape} codes for an image of {(rows, columns)}")
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    begins, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    return [
        Gap(start + int(row * columns + first), start + int(row * columns + last))
        for (row, first), (_, last) in zip(begins, ends, strict=True)
    ]


def _check_gap(document: EncodedDocument, gap: Gap, at: int, vocabulary: Vocabulary) -> bool:
    """Whether a gap is a run of codes. Raises TokenError: it is neither that nor a span."""
    start, stop = gap
    if not max(1, at) <= start < stop < len(document.token_ids):
        raise TokenError(f"the gap {start}..{stop} overlaps another, is empty, or holds BOS or EOS")
    inside = [_inside(document, place, vocabulary) for place in (start, stop)]
    if not any(inside):
        return False
    codes = document.positions[start:stop]
    one_row = (document.modality[start:stop] == Modality.IMAGE).all() and (
        codes[:, :2] == codes[0, :2]
    ).all()
    if not one_row:
        raise TokenError(f"the gap {start}..{stop} cuts through an image or a row of it")
    return True


def _inside(document: EncodedDocument, place: int, vocabulary: Vocabulary) -> bool:
    """Whether the edge in front of a token is inside an image or video."""
    v, before = vocabulary, int(document.token_ids[place - 1])
    drawn = document.modality[place - 1 : place + 1] >= Modality.IMAGE
    return bool(drawn.any()) or before in (v.boi, v.bov) or before in v.number_range


def _sentinel(gap: Gap, run: bool, num_spans: int, vocabulary: Vocabulary) -> int:
    if run:
        return vocabulary.number(gap.stop - gap.start)
    if num_spans >= vocabulary.num_gaps:
        raise TokenError(f"the model has sentinels for {vocabulary.num_gaps} spans, no more")
    return vocabulary.gap_range[num_spans]


def _gap_places(body: list[int], vocabulary: Vocabulary) -> list[int]:
    """Where the sentinels stand; the numbers behind BOI of a sized image are none."""
    numbers, spans = vocabulary.number_range, vocabulary.gap_range
    places = []
    for at, token_id in enumerate(body):
        sizes = vocabulary.sized_images and vocabulary.boi in body[max(0, at - 2) : at]
        if token_id in spans or (token_id in numbers and not sizes):
            places.append(at)
    return places


def _filling_stop(ids: list[int], at: int, vocabulary: Vocabulary) -> int:
    """Place behind the contents of the filling whose sentinel stands at `at`."""
    if ids[at] in vocabulary.gap_range:
        if vocabulary.eos not in ids[at:]:
            raise TokenError("the last filling is cut off: allow more tokens")
        return ids.index(vocabulary.eos, at)
    stop = at + 1 + ids[at] - vocabulary.number_range.start + 1
    if stop > len(ids) or any(i not in vocabulary.image_range for i in ids[at + 1 : stop]):
        raise TokenError("the last filling is cut off or holds what is no code")
    return stop


def _slice(document: EncodedDocument, start: int, stop: int | None = None) -> EncodedDocument:
    return EncodedDocument(*(column[start:stop] for column in document))


def _given(token_id: int, position: np.ndarray | None = None) -> EncodedDocument:
    if position is None:
        position = np.full(3, -1, np.int16)
    return EncodedDocument(
        np.array([token_id], np.int64),
        np.array([Modality.CONTROL], np.int8),
        position[None],
        np.zeros(1, np.float32),
    )
