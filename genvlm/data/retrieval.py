"""Retrieval for RA-CM3 (Yasunaga et al. 2023): like captions, whose pairs stand in front of a pair.

Any callable of a query that ranks numbers will do as a retriever; TF-IDF over captions is the one
that needs no other model.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from scipy.sparse import csc_matrix

from genvlm.errors import DataError

_WORD = re.compile(r"\w+")


class Hit(NamedTuple):
    """One of the texts that a retriever knows."""

    number: int
    similarity: float
    """Cosine in [0, 1]: 1 says the same words in the same numbers."""


class Retriever(Protocol):
    """Ranks what it knows by its likeness to a query."""

    def __call__(self, query: str, num: int) -> list[Hit]:
        """At most `num` hits of positive similarity, best first; ties by number."""
        ...


class TfIdfRetriever:
    """Cosine of TF-IDF vectors of words (Salton and Buckley 1988): smooth idf, raw counts.

    Raises:
        DataError: no text, or none with a word in it.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        words = [words_of(text) for text in texts]
        self._columns = {w: i for i, w in enumerate(sorted({w for ws in words for w in ws}))}
        if not self._columns:
            raise DataError("nothing to retrieve from: the texts hold no word")
        rows = np.repeat(np.arange(len(words)), [len(ws) for ws in words])
        columns = np.array([self._columns[w] for ws in words for w in ws])
        shape = (len(words), len(self._columns))
        counts = csc_matrix((np.ones(len(rows)), (rows, columns)), shape)  # adds up what is equal
        num_texts = np.diff(counts.indptr)
        self._idf = np.log((1 + len(words)) / (1 + num_texts)) + 1
        weights = counts.data * np.repeat(self._idf, num_texts)
        norms = np.sqrt(np.bincount(counts.indices, weights**2, len(words)))
        # Of each word, the texts that hold it and its share of them.
        self._begins, self._texts = counts.indptr, counts.indices
        self._shares = weights / norms[counts.indices]
        self._num_texts = len(words)

    def __call__(self, query: str, num: int) -> list[Hit]:
        """At most `num` hits of positive similarity, best first; ties by number."""
        known = [self._columns[w] for w in words_of(query) if w in self._columns]
        if not known:
            return []
        columns, counts = np.unique(known, return_counts=True)
        weights = counts * self._idf[columns]
        weights /= np.linalg.norm(weights)
        parts = [slice(self._begins[c], self._begins[c + 1]) for c in columns]
        texts = np.concatenate([self._texts[part] for part in parts])
        shares = np.concatenate(
            [w * self._shares[part] for w, part in zip(weights, parts, strict=True)]
        )
        similarity = np.bincount(texts, shares, self._num_texts)
        best = np.argsort(-similarity, kind="stable")[:num]
        return [Hit(int(i), float(similarity[i])) for i in best if similarity[i] > 0]


def drop_words(query: str, probability: float, rng: np.random.Generator) -> str:
    """The query without some of its words, so that a model learns not to trust the retrieved."""
    words = query.split()
    kept = [w for w, u in zip(words, rng.random(len(words)), strict=True) if u >= probability]
    return " ".join(kept)


def words_of(text: str) -> list[str]:
    """Words of a text in lower case, without punctuation."""
    return _WORD.findall(text.lower())
