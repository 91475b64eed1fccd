"""One drawing, two real labels: pairs of emoji whose names differ in one word, or by added words.

Both labels are real names of real drawings, and each pair is asked in both directions, so that
each label is right once and wrong once: a scorer that never sees the picture gets 50 %.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from genvlm.data.emoji import (
    COLOURS,
    UNSEEN_VENDOR,
    Concept,
    Vendor,
    drawn_alike,
    load_concepts,
    load_drawings,
)
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card
from genvlm.scoring.protocols import Grid

Kind = Literal["colour", "direction", "gender", "number", "expression", "other"]
MAX_ITEMS = 1000
MAX_PER_FRAME = 20

_DIRECTION = frozenset(
    [
        "up",
        "down",
        "left",
        "right",
        "upwards",
        "downwards",
        "leftwards",
        "rightwards",
        "clockwise",
        "counterclockwise",
        "up-left",
        "up-right",
        "down-left",
        "down-right",
        "left-right",
        "up-down",
    ]
)
_GENDER = frozenset(
    [
        "man",
        "woman",
        "men",
        "women",
        "man’s",
        "woman’s",
        "men’s",
        "women’s",
        "boy",
        "girl",
        "prince",
        "princess",
    ]
)
_GENERIC = frozenset(("person", "people"))
_NUMBER_WORD = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
_NUMBER = re.compile(rf"(?:\d+(?:st|nd|rd)?|(?:{_NUMBER_WORD})(?:-thirty)?)")


@dataclass(frozen=True)
class LabelPair:
    """Two concepts whose labels differ in `words` (one each when replaced, one side when added)."""

    form: Literal["replace", "add"]
    first: Concept
    second: Concept
    frame: str
    """What the labels share: "_ heart", or the shorter label with "+"."""
    kind: Kind


def build_emoji_pairs(vendor: Vendor = UNSEEN_VENDOR, max_items: int = MAX_ITEMS) -> Benchmark:
    """Each pair twice, once with either drawing.

    Of one frame ("_ face") and kind at most 20 pairs are kept, then `max_items` / 2 in all; both
    choices follow a hash of the pair's ids. The limit keeps faces from being half of all pairs.

    Args:
        vendor: whose drawings are shown; pairs that it draws nearly alike are left out.

    Raises:
        EvaluationError: fewer than two items, of which no pair can be made.
    """
    if max_items < 2:
        raise EvaluationError(f"emoji-pairs has two items a pair: a limit of {max_items} is none")
    card = load_card("emoji-pairs")
    alike = drawn_alike(vendor)
    by_frame: dict[tuple[str, Kind], list[LabelPair]] = defaultdict(list)
    for pair in sorted((*replace_pairs(), *add_pairs()), key=_rank):
        first, second = sorted((pair.first.index, pair.second.index))
        kept = by_frame[pair.frame, pair.kind]
        if (first, second) not in alike and len(kept) < MAX_PER_FRAME:
            kept.append(pair)
    pairs = sorted((p for kept in by_frame.values() for p in kept), key=_rank)[: max_items // 2]
    items = [item for pair in pairs for item in _both_directions(pair, vendor)]
    version = build_version(card, vendor=(vendor, UNSEEN_VENDOR), max_items=(max_items, MAX_ITEMS))
    return Benchmark(card.name, tuple(items), card, version)


def replace_pairs() -> Iterator[LabelPair]:
    """Labels of as many words, of which exactly one differs; at least one is shared.

    "person" against "man" is left out: both are true of the same picture.
    """
    frames: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[str, Concept]]]
    frames = defaultdict(list)
    for concept in load_concepts():
        words = _words(concept)
        if len(words) > 1:
            for k, word in enumerate(words):
                frames[words[:k], words[k + 1 :]].append((_bare(word), concept))
    for (before, after), members in frames.items():
        for (word, first), (other, second) in combinations(members, 2):
            if word == other or ({word, other} & _GENERIC and {word, other} & _GENDER):
                continue
            frame = " ".join((*before, "_", *after))
            yield LabelPair("replace", first, second, frame, _kind(first, second, (word, other)))


def add_pairs() -> Iterator[LabelPair]:
    """Labels of which the second is the first with a run of words added anywhere.

    A gender alone is no addition: "technologist" is true of the picture of a woman technologist.
    """
    concepts = {_words(concept): concept for concept in load_concepts()}
    for words, longer in concepts.items():
        found: dict[str, tuple[str, ...]] = {}
        for start in range(len(words)):
            for end in range(start + 1, len(words) + 1):
                rest = words[:start] + words[end:]
                if rest in concepts:
                    found.setdefault(" ".join(rest), words[start:end])
        for label, added in found.items():
            bare = tuple(_bare(word) for word in added)
            if not set(bare) <= _GENDER | _GENERIC:
                shorter = concepts[tuple(label.split())]
                kind = _kind(shorter, longer, tuple(w for w in bare if w != "facing"))
                yield LabelPair("add", shorter, longer, f"{label} +", kind)


def _both_directions(pair: LabelPair, vendor: Vendor) -> Iterator[Item]:
    drawings = load_drawings(vendor)
    held_out = pair.first.held_out or pair.second.held_out
    tags = (pair.form, pair.kind, "held-out-family" if held_out else "training-family")
    for right, wrong in ((pair.first, pair.second), (pair.second, pair.first)):
        grid = Grid(
            item_id=f"{pair.form}-{right.id}-{wrong.id}",
            images=[drawings[right.index]],
            texts=[right.label, wrong.label],
        )
        yield Item(grid=grid, group=pair.frame, target=0, tags=tags)


def _kind(first: Concept, second: Concept, words: Sequence[str]) -> Kind:
    """What sort of words makes the difference."""
    changed = set(words)
    if changed <= COLOURS:
        return "colour"
    if changed <= _DIRECTION:
        return "direction"
    if changed <= _GENDER:
        return "gender"
    if all(_NUMBER.fullmatch(word) for word in changed):
        return "number"
    if all(c.subgroup.startswith(("face-", "cat-face")) for c in (first, second)):
        return "expression"
    return "other"


def _words(concept: Concept) -> tuple[str, ...]:
    return tuple(concept.label.lower().split())


def _bare(word: str) -> str:
    return word.strip(":,.!?“”()")


def _rank(pair: LabelPair) -> str:
    key = f"{pair.form}|{pair.first.id}|{pair.second.id}"
    return hashlib.sha256(key.encode()).hexdigest()
