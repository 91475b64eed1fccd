"""Scores of pairs that a model reads one image and some texts at a time."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64

from genvlm.data.images import RGBImage, image_digest
from genvlm.errors import EvaluationError, TokenError
from genvlm.scoring.protocols import Grid, Scores


def score_pairs(
    check: Callable[[str], object],
    grids: Sequence[Grid],
    score: Callable[[RGBImage, Sequence[str]], list[tuple[float, int]]],
    *,
    texts_at_once: int | None = 32,
) -> list[Scores]:
    """Score every distinct pair of grids once.

    Args:
        check: raises TokenError where a text cannot be read.
        score: of one image and some texts, the value and the number of tokens of each.
        texts_at_once: that `score` takes; None: all of an image.

    Raises:
        TokenError: a text cannot be read, named with its item.
        EvaluationError: a score is not finite.
    """
    for grid in grids:
        for text in grid.texts:
            try:
                check(text)
            except TokenError as error:
                raise TokenError(f"item {grid.item_id!r}: {error}") from None
    images = {image_digest(image): image for grid in grids for image in grid.images}
    asked: dict[str, dict[str, None]] = {}
    for grid in grids:
        for image in grid.images:
            asked.setdefault(image_digest(image), {}).update(dict.fromkeys(grid.texts))
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for key, texts in asked.items():
        ordered = sorted(texts)
        step = texts_at_once or max(1, len(ordered))
        for start in range(0, len(ordered), step):
            part = ordered[start : start + step]
            found |= {
                (key, text): pair for text, pair in zip(part, score(images[key], part), strict=True)
            }
    return [_scores(grid, found) for grid in grids]


def _scores(grid: Grid, found: dict[tuple[str, str], tuple[float, int]]) -> Scores:
    shape = (len(grid.images), len(grid.texts))
    keys = [image_digest(image) for image in grid.images]
    pairs = [found[key, text] for key in keys for text in grid.texts]
    values: Float64[np.ndarray, "images texts"] = np.array(
        [value for value, _ in pairs], np.float64
    ).reshape(shape)
    if not np.isfinite(values).all():
        raise EvaluationError(
            f"item {grid.item_id!r}: the model gives a text no finite score: it is damaged"
        )
    return Scores(values, np.array([num for _, num in pairs], np.int64).reshape(shape))
