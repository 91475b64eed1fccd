"""Packing: several documents share a row of fixed length, and none is cut."""

from bisect import bisect_left, insort

import numpy as np
from jaxtyping import Int


def pack(lengths: Int[np.ndarray, " documents"], capacity: int) -> list[list[int]]:
    """Best-fit decreasing (Johnson 1974): the longest first, each into the fullest row it fits.

    Returns:
        For each row the places of its documents in `lengths`. The order of documents of one length
        is kept, so that a random order stays random.

    Raises:
        ValueError: a document is longer than a row.
    """
    if len(lengths) and lengths.max() > capacity:
        raise ValueError(f"a document of {lengths.max()} tokens does not fit a row of {capacity}")
    rows: list[list[int]] = []
    open_rows: list[tuple[int, int]] = []  # room that is left, number of the row; by room
    for place in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[place])
        found = bisect_left(open_rows, (length, 0))
        if found == len(open_rows):
            room, number = capacity, len(rows)
            rows.append([])
        else:
            room, number = open_rows.pop(found)
        rows[number].append(place)
        if room > length:
            insort(open_rows, (room - length, number))
    return rows
