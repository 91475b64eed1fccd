"""log p(text | image) of a contrastive captioner."""

from collections.abc import Sequence

import numpy as np

from genvlm.data.images import image_digest
from genvlm.errors import EvaluationError, TokenError
from genvlm.models.auxiliary.coca import CoCaModel
from genvlm.scoring.autoregressive import Reduction
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores

_BATCH = 32


class CaptionerScorer:
    """log p of a text's pieces and its end, in nats: float32 each, float64 in all.

    Args:
        reduction: `mean` divides by the number of pieces, the end included.
    """

    def __init__(self, model: CoCaModel, *, reduction: Reduction = "sum") -> None:
        self._model, self._reduction = model, reduction
        self.info = ScorerInfo(
            name="log p(text | image)" + (" per token" if reduction == "mean" else ""),
            unit="nats",
            settings={
                "kind": "coca",
                "direction": "text_given_image",
                "reduction": reduction,
                "model": model.fingerprint,
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every distinct pair is scored once.

        Raises:
            TokenError: a text is longer than the model takes.
            EvaluationError: a log-probability is not finite.
        """
        for grid in grids:
            for text in grid.texts:
                self._check(grid.item_id, text)
        images = {image_digest(image): image for grid in grids for image in grid.images}
        asked: dict[str, dict[str, None]] = {}
        for grid in grids:
            for image in grid.images:
                asked.setdefault(image_digest(image), {}).update(dict.fromkeys(grid.texts))
        found: dict[tuple[str, str], tuple[float, int]] = {}
        for key, texts in asked.items():
            ordered = sorted(texts)
            for start in range(0, len(ordered), _BATCH):
                part = ordered[start : start + _BATCH]
                log_probs, mask = self._model.score_texts(images[key], part)
                sums, counts = log_probs.double().sum(1).tolist(), mask.sum(1).tolist()
                found |= {(key, t): pair for t, *pair in zip(part, sums, counts, strict=True)}
        return [self._scores(grid, found) for grid in grids]

    def _check(self, item_id: str, text: str) -> None:
        try:
            self._model.texts.encode([text])
        except TokenError as error:
            raise TokenError(f"item {item_id!r}: {error}") from None

    def _scores(self, grid: Grid, found: dict[tuple[str, str], tuple[float, int]]) -> Scores:
        shape = (len(grid.images), len(grid.texts))
        pairs = [found[image_digest(i), text] for i in grid.images for text in grid.texts]
        values = np.array([value for value, _ in pairs], np.float64).reshape(shape)
        counts = np.array([count for _, count in pairs], np.int64).reshape(shape)
        if not np.isfinite(values).all():
            raise EvaluationError(
                f"item {grid.item_id!r}: the model gives a text no finite log-probability"
            )
        return Scores(values / counts if self._reduction == "mean" else values, counts)
