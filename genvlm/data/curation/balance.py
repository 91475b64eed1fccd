"""Concept balancing after MetaCLIP (Xu et al., arXiv 2309.16671): entries in captions, capped."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from genvlm.config.curation import BalanceRule
from genvlm.data.curation.captions import words_of
from genvlm.data.hashed import hash_share
from genvlm.data.rows import read_text_file
from genvlm.errors import DataError

# English words that name nothing: "a teapot" is a caption about a teapot alone.
_FUNCTION_WORDS = frozenset(
    "a an and are as at be by for from has he her his in is it its of on or she that the their "  # noqa: SIM905
    "this to two was were which with you your".split()
)
Entry = tuple[str, ...]
"""Words of an entry."""


class Balance(NamedTuple):
    """Which captions stay."""

    dropped: dict[str, str]
    """Ids, and why: no entry matched, or none drew the caption."""
    counts: dict[str, int]
    """Captions of each entry that matched any, before balancing."""
    kept_counts: dict[str, int]
    """The same after it."""


def read_entries(path: Path) -> list[Entry]:
    """Entries of a file, one a line; `_` is a blank. Raises DataError: there is none."""
    lines = read_text_file(path).replace("_", " ").split("\n")
    entries = list(dict.fromkeys(tuple(words_of(line)) for line in lines if words_of(line)))
    if not entries:
        raise DataError(f"{path} lists no entry: give one a line")
    return entries


def common_words(captions: Iterable[Sequence[str]], min_count: int) -> list[Entry]:
    """Words that stand in at least `min_count` captions, the most frequent first.

    Numbers and English function words are none.

    Raises:
        DataError: there is none.
    """
    counts = Counter(word for words in captions for word in set(words))
    entries: list[Entry] = [
        (word,)
        for word, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        if count >= min_count and not word.isdigit() and word not in _FUNCTION_WORDS
    ]
    if not entries:
        raise DataError(
            f"no word stands in {min_count} captions: lower min_count of the balance rule, or give "
            "it a file of entries"
        )
    return entries


def balance(captions: Mapping[str, str], rule: BalanceRule) -> Balance:
    """Captions (by id) that stay: each entry of n captions draws each with probability cap / n.

    The draw is a function of (seed, id, entry), so that neither order nor number of processes
    matters. Entries match whole words.
    """
    words = {key: words_of(caption) for key, caption in captions.items()}
    entries = (
        common_words(words.values(), rule.min_count)
        if rule.entries is None
        else read_entries(Path(rule.entries))
    )
    matches = _match(words, entries)
    counts = Counter(entry for found in matches.values() for entry in found)
    dropped = {}
    kept: Counter[Entry] = Counter()
    for key, found in matches.items():
        if not found:
            # Of the captions' own words: none of its words is frequent, so that it is of the tail.
            if rule.entries is not None:
                dropped[key] = "no entry"
        elif any(
            hash_share(f"{rule.seed}\0{key}\0{' '.join(e)}") < rule.cap / counts[e] for e in found
        ):
            kept.update(found)
        else:
            rarest = min(found, key=lambda e: (counts[e], e))
            dropped[key] = f"{' '.join(rarest)!r} in {counts[rarest]} captions"
    return Balance(
        dropped,
        {" ".join(entry): count for entry, count in counts.items()},
        {" ".join(entry): kept[entry] for entry in counts},
    )


def _match(
    words: Mapping[str, Sequence[str]], entries: Sequence[Entry]
) -> dict[str, tuple[Entry, ...]]:
    """Entries that each caption holds, in the order in which they stand in it."""
    known = set(entries)
    lengths = sorted({len(entry) for entry in entries})
    return {
        key: tuple(
            dict.fromkeys(
                phrase
                for start in range(len(own))
                for length in lengths
                if start + length <= len(own)
                and (phrase := tuple(own[start : start + length])) in known
            )
        )
        for key, own in words.items()
    }
