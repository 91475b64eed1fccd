"""Scorers that understand nothing: what they get, a benchmark gives away.

Constant, length and format never look at the picture. The two pixel scorers look at nothing but
pixels: they copy the caption of the nearest reference picture.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float64, UInt8

from genvlm.data.images import RGBImage
from genvlm.errors import EvaluationError
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.tokenization.image import fit_square

SIDE = 64
BLOCK = 512


class ConstantScorer:
    """Every text fits every picture equally well."""

    info = ScorerInfo(name="constant", unit="arbitrary")

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """All zero."""
        return _score_texts(grids, lambda text: 0.0)


class LengthScorer:
    """The shorter caption is the better one; length in characters."""

    info = ScorerInfo(name="length", unit="arbitrary")

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Minus the number of characters."""
        return _score_texts(grids, lambda text: -float(len(text)))


class FormatScorer:
    """The more careless caption is the better one: outer blanks, no full stop.

    Wrong captions that a language model wrote are tidier than those that people typed.
    """

    info = ScorerInfo(name="format", unit="arbitrary", settings={"version": 2})

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Number of the two marks of carelessness, 0 to 2."""
        return _score_texts(grids, _careless_marks)


class PixelNeighbourScorer:
    """Minus the mean squared pixel distance to the nearest reference bearing exactly that caption.

    As a classifier: one nearest neighbour in pixel space. Every text must be a known caption.
    """

    def __init__(self, images: Sequence[RGBImage], captions: Sequence[str]) -> None:
        self._references = _References(images, captions)
        self._rows: dict[str, list[int]] = {}
        for row, caption in enumerate(captions):
            self._rows.setdefault(caption, []).append(row)
        self.info = ScorerInfo(
            name="pixel-neighbour",
            unit="arbitrary",
            settings={"references": self._references.fingerprint, "side": SIDE},
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Minus the distance of pixels in [0, 1], at 64x64.

        Raises:
            EvaluationError: no reference picture bears one of the texts.
        """
        for grid in grids:
            unknown = [text for text in grid.texts if text not in self._rows]
            if unknown:
                raise EvaluationError(
                    f"item {grid.item_id!r}: no reference picture bears the caption "
                    f"{unknown[0]!r}; give references for every candidate, or use "
                    "CaptionTransferScorer"
                )
        results = []
        for grid, distances in zip(grids, self._references.distances(grids), strict=True):
            columns = [distances[:, self._rows[text]].min(1) for text in grid.texts]
            results.append(Scores(-np.stack(columns, 1)))
        return results


class CaptionTransferScorer:
    """Word-bigram F1 of a text with the caption of the nearest reference picture in pixel space.

    For captions that no reference bears, such as held-out scenes.
    """

    def __init__(self, images: Sequence[RGBImage], captions: Sequence[str]) -> None:
        self._references = _References(images, captions)
        self._captions = list(captions)
        self.info = ScorerInfo(
            name="caption-transfer",
            unit="arbitrary",
            settings={"references": self._references.fingerprint, "side": SIDE},
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """F1 in [0, 1]."""
        results = []
        for grid, distances in zip(grids, self._references.distances(grids), strict=True):
            nearest = [self._captions[row] for row in distances.argmin(1)]
            values = [[bigram_f1(text, caption) for text in grid.texts] for caption in nearest]
            results.append(Scores(np.array(values, np.float64)))
        return results


def bigram_f1(first: str, second: str) -> float:
    """F1 of the multisets of word bigrams, with marks for start and end; case is ignored."""
    a, b = _bigrams(first), _bigrams(second)
    return 2 * (a & b).total() / (a.total() + b.total())


class _References:
    """Captioned pictures at 64x64."""

    def __init__(self, images: Sequence[RGBImage], captions: Sequence[str]) -> None:
        if not len(images) == len(captions) > 0:
            raise EvaluationError(
                f"{len(images)} reference pictures and {len(captions)} captions: give as many of "
                "each, and at least one"
            )
        self._pixels = _pixel_rows(images)
        digest = hashlib.sha256(self._pixels.tobytes())
        for caption in captions:
            digest.update(caption.encode() + b"\0")
        self.fingerprint = digest.hexdigest()

    def distances(self, grids: Sequence[Grid]) -> list[Float64[np.ndarray, "images references"]]:
        """Mean squared distances, pixels in [0, 1], of every picture of every grid."""
        if not grids:
            return []
        # Whole numbers below 2**53: float64 is exact, so that equal pictures tie exactly.
        queries = _pixel_rows([i for g in grids for i in g.images]).astype(np.float64)
        query_squares = (queries**2).sum(1)[:, None]
        blocks = []
        for start in range(0, len(self._pixels), BLOCK):
            block = self._pixels[start : start + BLOCK].astype(np.float64)
            blocks.append(query_squares + (block**2).sum(1) - 2 * queries @ block.T)
        distances = np.hstack(blocks) / (queries.shape[1] * 255**2)
        return np.split(distances, np.cumsum([len(g.images) for g in grids])[:-1])


def _pixel_rows(images: Sequence[RGBImage]) -> UInt8[np.ndarray, "images pixels"]:
    return np.stack([fit_square(image, SIDE).reshape(-1) for image in images])


def _score_texts(grids: Sequence[Grid], score: Callable[[str], float]) -> list[Scores]:
    return [
        Scores(np.tile([score(text) for text in grid.texts], (len(grid.images), 1)))
        for grid in grids
    ]


def _careless_marks(text: str) -> float:
    return float(text != text.strip()) + float(not text.rstrip().endswith("."))


def _bigrams(text: str) -> Counter[tuple[str, str]]:
    words = ["<s>", *text.lower().replace(",", " ,").split(), "</s>"]
    return Counter(pairwise(words))
