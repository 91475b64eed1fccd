"""CHAIR: which objects a caption mentions, and which of them are not in the image.

`chair_statistics` gives one row a caption; a rate is a quotient of two sums of its columns
(`corpus_decisions.CHAIR`). An empty caption hallucinates nothing: read recall, mentions and length
beside the rates.

The official code takes the singular of every word with pattern.en or NLTK; here a word that the
table lacks is replaced by a word of the table that plain plural endings lead to. On the ten
released caption files this moves CHAIRs by 0.00, CHAIRi by at most 0.03 and recall by at most 0.14
points against `EXPECTED.json`.
Source: Rohrbach et al. 2018, https://arxiv.org/abs/1809.02156.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from genvlm.errors import EvaluationError

COLUMNS = (
    "items",  # 1
    "hallucinating",  # 1 when the caption names an absent object
    "hallucinated",  # mentions of absent objects
    "mentions",  # of objects, each time one is named
    "recalled",  # objects of the image that the caption names
    "objects",  # of the image
    "words",
)

# Plural ending and what stands for it in the singular, tried in this order.
_ENDINGS = (("men", "man"), ("s", ""), ("es", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"))
_IRREGULAR = {"mice": "mouse", "geese": "goose"}


class ObjectTable(NamedTuple):
    """Words that stand for objects."""

    synonyms: dict[str, str]
    """A word, or two, to its object."""
    pairs: dict[str, str]
    """Two words that count as one ("hot dog"), to what they are read as ("baby bear": "bear")."""
    vocabulary: frozenset[str]
    """Every single word of the above."""


def parse_object_table(synonyms: str, pairs: Mapping[str, str]) -> ObjectTable:
    """Read the official `synonyms.txt`: one object a line, then its synonyms, with commas between.

    Blank lines and empty synonyms are skipped: as an empty synonym they would make an object of
    every word that a plural stripper empties ("s" of "dog's"). Captions are read in lower case and
    the table as it is, so its "iPhone" is never met, as in the official code.
    """
    objects: dict[str, str] = {}
    for line in synonyms.split("\n"):
        names = [name.strip() for name in line.split(",") if name.strip()]
        objects.update((name, names[0]) for name in names)
    words = {word for name in (*objects, *pairs) for word in name.split()}
    return ObjectTable(objects, dict(pairs), frozenset(words))


def singular(word: str, vocabulary: AbstractSet[str]) -> str:
    """The word itself when the vocabulary has it, else its singular there, else the word itself.

    Endings: -men, -s, -es, -ies, -ves; also mice and geese. Only words of the vocabulary come out,
    so "glass" never loses its s and "bus" is no "bu".
    """
    if word in vocabulary:
        return word
    candidates = [
        word.removesuffix(plural) + ending for plural, ending in _ENDINGS if word.endswith(plural)
    ]
    if word in _IRREGULAR:
        candidates.append(_IRREGULAR[word])
    return next((candidate for candidate in candidates if candidate in vocabulary), word)


def caption_words(caption: str) -> list[str]:
    """Lower-case words; a hyphen joins ("teddy-bear" is one word and no bear)."""
    return re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", caption.lower())


def mentioned_objects(caption: str, table: ObjectTable) -> list[str]:
    """The objects that a caption names, in order, repetitions included.

    Two words of the pair table are read first and as one. In a caption with a toilet the word
    "seat" is not a chair, as in the official code.
    """
    words = [singular(word, table.vocabulary) for word in caption_words(caption)]
    read = []
    position = 0
    while position < len(words):
        pair = " ".join(words[position : position + 2])
        read.append(table.pairs.get(pair, words[position]))
        position += 2 if pair in table.pairs else 1
    if "toilet" in read:
        read = [word for word in read if word != "seat"]
    return [table.synonyms[word] for word in read if word in table.synonyms]


def chair_statistics(
    captions: Sequence[str], objects: Sequence[AbstractSet[str]], table: ObjectTable
) -> Float64[np.ndarray, "items columns"]:
    """One row a caption, columns as `COLUMNS` names them; `objects` are those of its image.

    Raises:
        EvaluationError: numbers of captions and of object sets differ, or an object is not in the
            table, so that no caption could ever name it.
    """
    if len(captions) != len(objects):
        raise EvaluationError(f"{len(captions)} captions but {len(objects)} sets of objects")
    unknown = set().union(*objects) - set(table.synonyms.values())
    if unknown:
        raise EvaluationError(
            f"object {min(unknown)!r} is not in the synonym table: write objects as the first word "
            "of their line there"
        )
    rows = np.empty((len(captions), len(COLUMNS)))
    for row, caption, truth in zip(rows, captions, objects, strict=True):
        named = mentioned_objects(caption, table)
        absent = sum(name not in truth for name in named)
        recalled = len(truth & set(named))
        num_words = len(caption_words(caption))
        row[:] = [1, absent > 0, absent, len(named), recalled, len(truth), num_words]
    return rows
