"""Control: how natural a caption reads, whatever the picture shows. A trigram over words.

Smoothing is interpolated absolute discounting (Ney, Essen and Kneser 1994) with one discount D for
all orders: p_n(w | h) = (max(c(h w) - D, 0) + D N(h) p_{n-1}(w | h')) / c(h), where N(h) counts the
different words seen after h and h' is h without its first word; p_n = p_{n-1} where h is unseen,
and p_0 is uniform over the words of training, the end mark and one unknown word.
"""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from genvlm.errors import ConfigError, EvaluationError
from genvlm.scoring.autoregressive import Reduction
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores

ORDER = 3
DISCOUNT = 0.75
"""The value that is usual where none is fitted."""
_BEGIN, _END = "<s>", "</s>"
_WORD = re.compile(r"\w+")
Words = tuple[str, ...]


class TextScore(NamedTuple):
    """Log-probability of one text."""

    log_prob: float
    """In nats, the end mark included."""
    num_words: int
    """Words and the end mark."""

    def reduce(self, reduction: Reduction) -> float:
        """Nats of the text, or nats per word."""
        return self.log_prob if reduction == "sum" else self.log_prob / self.num_words


@dataclass(frozen=True)
class WordTrigram:
    """Counts of what was seen; `fit_trigram` makes it."""

    counts: Mapping[Words, int]
    """Of runs of 1 to 3 words."""
    followers: Mapping[Words, int]
    """Words seen after a history of 0 to 2 words, with repetition."""
    kinds: Mapping[Words, int]
    """Different words seen after it."""
    discount: float
    fingerprint: str
    """Of training texts and discount."""

    def score(self, text: str, *, order: int = ORDER) -> TextScore:
        """Log-probability of the words of a text and its end; case and punctuation do not count.

        Args:
            order: 1 or 2 asks the unigram or bigram that the trigram falls back on.
        """
        words = _words(text)
        # fsum: texts of the same trigrams in another order must tie exactly.
        log_prob = math.fsum(
            math.log(self._prob(tuple(words[i - order + 1 : i]), words[i]))
            for i in range(ORDER - 1, len(words))
        )
        return TextScore(log_prob, len(words) - ORDER + 1)

    def _prob(self, history: Words, word: str) -> float:
        prob = 1 / (self.kinds[()] + 1)
        for length in range(len(history) + 1):
            seen = history[len(history) - length :]
            total = self.followers.get(seen, 0)
            if total == 0:
                break  # a longer history was not seen either
            kept = max(self.counts.get((*seen, word), 0) - self.discount, 0.0)
            prob = (kept + self.discount * self.kinds[seen] * prob) / total
        return prob


def fit_trigram(texts: Iterable[str], *, discount: float = DISCOUNT) -> WordTrigram:
    """Counts of texts; one that is given twice counts once.

    Raises:
        ConfigError: a discount outside (0, 1].
        EvaluationError: no text to learn from.
    """
    if not 0 < discount <= 1:
        raise ConfigError(f"the discount of a trigram must be in (0, 1], got {discount:g}")
    unique = sorted(set(texts))
    if not unique:
        raise EvaluationError("no text to fit a trigram on: nothing is left of the training side")
    counts: Counter[Words] = Counter()
    for text in unique:
        words = _words(text)
        for i in range(ORDER - 1, len(words)):
            counts.update(tuple(words[i - n : i + 1]) for n in range(ORDER))
    followers: Counter[Words] = Counter()
    kinds: Counter[Words] = Counter()
    for run, count in counts.items():
        followers[run[:-1]] += count
        kinds[run[:-1]] += 1
    digest = hashlib.sha256(f"{ORDER}|{discount!r}".encode())
    for text in unique:
        digest.update(text.encode() + b"\0")
    return WordTrigram(counts, followers, kinds, discount, digest.hexdigest())


class NGramScorer:
    """Scores texts by a trigram and never looks at the picture.

    `sum` favours short texts, `mean` (nats per word) does so less.
    """

    def __init__(self, model: WordTrigram, *, reduction: Reduction = "sum") -> None:
        self._model, self._reduction = model, reduction
        self.info = ScorerInfo(
            name=f"n-gram ({reduction})",
            unit="nats" if reduction == "sum" else "arbitrary",
            settings={"order": ORDER, "reduction": reduction, "model": model.fingerprint},
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every image of a grid gets the same row."""
        results = []
        for grid in grids:
            scored = [self._model.score(text) for text in grid.texts]
            shape = (len(grid.images), 1)
            values = np.array([s.reduce(self._reduction) for s in scored], np.float64)
            counts = np.array([s.num_words for s in scored], np.int64)
            results.append(Scores(np.tile(values, shape), np.tile(counts, shape)))
        return results


@dataclass(frozen=True, kw_only=True)
class FoldItem:
    """Texts of one item of a benchmark, and what they must not share with their training side."""

    fold: str
    """Such as the category: an item is scored by a model of the other folds."""
    image: str
    """Key of the picture."""
    texts: Sequence[str]
    natural: Sequence[str] = ()
    """Texts that may be trained on where this item is not judged, such as true captions."""


def score_left_out(
    items: Sequence[FoldItem], *, reduction: Reduction = "sum", discount: float = DISCOUNT
) -> list[list[float]]:
    """Scores of the texts of every item, by a trigram of the other folds' natural texts.

    From the training side of a fold goes every item that shares an image with it, and every text
    that is one of its own: captions recur between categories, and a trigram remembers them. Where
    nothing is left to train on, every text gets 0.
    """
    scores: list[list[float]] = [[] for _ in items]
    for fold in dict.fromkeys(item.fold for item in items):
        judged = [i for i, item in enumerate(items) if item.fold == fold]
        images = {items[i].image for i in judged}
        own = {text for i in judged for text in (*items[i].texts, *items[i].natural)}
        training = {
            text
            for item in items
            if item.fold != fold and item.image not in images
            for text in item.natural
        }
        left = training - own
        model = fit_trigram(left, discount=discount) if left else None
        for i in judged:
            texts = items[i].texts
            scores[i] = [model.score(t).reduce(reduction) if model else 0.0 for t in texts]
    return scores


class LeftOutNGramScorer:
    """Each item's texts by a trigram of the natural texts of the other folds; in nats."""

    def __init__(self, items: Mapping[str, FoldItem]) -> None:
        self._items = dict(items)
        self._scores: dict[str, dict[str, float]] | None = None
        digest = hashlib.sha256()
        for key, item in self._items.items():
            row = [key, item.fold, item.image, *item.texts, *item.natural]
            digest.update("\0".join(row).encode() + b"\n")
        self.info = ScorerInfo(
            name="n-gram", unit="nats", settings={"items": digest.hexdigest(), "order": ORDER}
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """By item id and text. Raises EvaluationError: an item or a text that was not given."""
        if self._scores is None:
            fitted = score_left_out(list(self._items.values()))
            self._scores = {
                key: dict(zip(item.texts, row, strict=True))
                for (key, item), row in zip(self._items.items(), fitted, strict=True)
            }
        results = []
        for grid in grids:
            known = self._scores.get(grid.item_id, {})
            unknown = [text for text in grid.texts if text not in known]
            if unknown:
                raise EvaluationError(
                    f"item {grid.item_id!r}: the n-gram control was not given the text "
                    f"{unknown[0]!r}"
                )
            row = [known[text] for text in grid.texts]
            results.append(Scores(np.tile(np.array(row, np.float64), (len(grid.images), 1))))
        return results


def _words(text: str) -> list[str]:
    return [*[_BEGIN] * (ORDER - 1), *_WORD.findall(text.lower()), _END]
