"""How often training captions name a concept, against how often it is named right.

(Udandarao et al. 2024; arXiv 2405.17247, section 4.2.4.)
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from genvlm.config.data import Source
from genvlm.data.emoji import (
    TRAINING_VENDORS,
    UNSEEN_VENDOR,
    Concept,
    class_concepts,
    drawn_alike,
    id_rank,
    load_drawings,
    split_concepts,
)
from genvlm.evaluation.benchmark import Item
from genvlm.scoring.protocols import Grid
from genvlm.studies.language import training_texts

BINS = (1, 32, 128, 1 << 30)
"""Captions that name a concept: from one number to below the next."""
PER_BIN = 50


def caption_counts(sources: Sequence[Source]) -> Counter[str]:
    """Words of every caption, between blanks, and how many documents have them."""
    return Counter(map(_words, training_texts(sources)))


def frequencies(concepts: Sequence[Concept], counts: Mapping[str, int]) -> dict[str, int]:
    """By id, documents whose caption holds the label as whole words in a row."""
    found = {}
    for concept in concepts:
        label = _words(concept.label)
        found[concept.id] = sum(num for text, num in counts.items() if label in text)
    return found


def frequency_items(counts: Mapping[str, int]) -> tuple[list[Item], dict[str, int]]:
    """Drawings of the unseen vendor of up to 50 concepts of each bin, against all their labels.

    Of the groups of the 100 classes, and as these drawn like no other: else what is rare would also
    be what is alike. What is most frequent is still of another kind, the icons of scenes.

    Returns:
        Items and the frequency of each by its id.
    """
    groups = {c.group for c in class_concepts()}
    vendors = (*TRAINING_VENDORS, UNSEEN_VENDOR)
    alike = {index for v in vendors for pair in drawn_alike(v) for index in pair}
    concepts = [
        c for c in split_concepts(held_out=False) if c.group in groups and c.index not in alike
    ]
    by_id = frequencies(concepts, counts)
    chosen = [
        concept
        for low, high in pairwise(BINS)
        for concept in sorted((c for c in concepts if low <= by_id[c.id] < high), key=id_rank)[
            :PER_BIN
        ]
    ]
    drawings, labels = load_drawings(UNSEEN_VENDOR), [c.label for c in chosen]
    items = [
        Item(
            grid=Grid(item_id=c.id, images=[drawings[c.index]], texts=labels),
            group=c.family,
            target=number,
            tags=(UNSEEN_VENDOR, c.group),
        )
        for number, c in enumerate(chosen)
    ]
    return items, {c.id: by_id[c.id] for c in chosen}


def _words(text: str) -> str:
    found = re.findall(r"[\w’-]+", text.lower())
    return f" {' '.join(found)} "
