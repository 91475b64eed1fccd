"""The blind control: the same model, with nothing to see."""

from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from genvlm.data.images import RGBImage, image_digest
from genvlm.errors import EvaluationError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import Likelihood, LikelihoodScorer, Reduction
from genvlm.scoring.protocols import Grid, Scorer, ScorerInfo, Scores

NUM_UNRELATED = 8
"""Pictures over which a model averages that never learned to do without."""


def blind_control(
    scorer: Scorer, pool: Sequence[RGBImage], images_per_grid: int = 1
) -> Scorer | None:
    """log p(text) of our models that have learned it (condition dropout), else unrelated images.

    None where neither can be had, because the pool may hold nothing but the pictures of one grid.

    Args:
        pool: pictures of other items, a few more than 8, because a grid's own are left out.
        images_per_grid: the most pictures that a grid has.
    """
    if isinstance(scorer, LikelihoodScorer) and scorer.pretrained.condition_dropout > 0:
        return BlindScorer(scorer.pretrained, scorer.reduction)
    if len({image_digest(image) for image in pool}) <= images_per_grid:
        return None
    return UnrelatedImagesScorer(scorer, pool)


class BlindScorer:
    """log p(text) in nats; every image of a grid gets the same row."""

    def __init__(self, pretrained: PretrainedModel, reduction: Reduction = "sum") -> None:
        self._likelihood, self._reduction = Likelihood(pretrained), reduction
        settings = {"kind": "mixed_modal", "model": pretrained.fingerprint}
        if reduction != "sum":
            settings["reduction"] = reduction
        self.info = ScorerInfo(name="blind log p(text)", unit="nats", settings=settings)

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Rows are equal within a grid."""
        texts = sorted({text for grid in grids for text in grid.texts})
        scored = self._likelihood.score_text_given_image([(None, text) for text in texts])
        mean = self._reduction == "mean"
        by_text = {
            t: s.total / len(s.log_probs) if mean else s.total
            for t, s in zip(texts, scored, strict=True)
        }
        return [Scores(np.array([[by_text[t] for t in g.texts]] * len(g.images))) for g in grids]


class UnrelatedImagesScorer:
    """Any scorer on up to 8 pictures of a pool in place of a grid's own.

    Log-probabilities are averaged as probabilities, everything else as it is; every image of a grid
    gets the same row. A text is scored once with each picture, however many grids hold it.
    """

    def __init__(self, scorer: Scorer, pool: Sequence[RGBImage]) -> None:
        self._scorer, self._pool = scorer, list(pool)
        self._digests = [image_digest(image) for image in self._pool]
        self._known: dict[tuple[int, str], float] = {}
        self.info = ScorerInfo(
            name=f"blind {scorer.info.name} over {NUM_UNRELATED} other images",
            unit=scorer.info.unit,
            settings={
                "kind": "unrelated images",
                "scorer": scorer.info.fingerprint,
                "images": self._digests,
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Raises EvaluationError: the pool holds no picture but those of a grid."""
        shown = [(grid, self._others(grid)) for grid in grids]
        self._learn(shown)
        rows = [
            self._mean(
                np.array([[self._known[image, text] for text in g.texts] for image in others])
            )
            for g, others in shown
        ]
        return [
            Scores(np.tile(row, (len(g.images), 1))) for row, g in zip(rows, grids, strict=True)
        ]

    def _learn(self, shown: Sequence[tuple[Grid, Sequence[int]]]) -> None:
        """Score each text that is new with each picture that it is shown with."""
        new: dict[int, dict[str, str]] = {}
        for grid, others in shown:
            for image in others:
                for text in grid.texts:
                    if (image, text) not in self._known:
                        new.setdefault(image, {}).setdefault(text, grid.item_id)
        asked = [
            Grid(item_id=next(iter(of.values())), images=[self._pool[image]], texts=list(of))
            for image, of in new.items()
        ]
        for image, grid, scores in zip(new, asked, self._scorer.score(asked), strict=True):
            for text, value in zip(grid.texts, scores.values[0], strict=True):
                self._known[image, text] = float(value)

    def _others(self, grid: Grid) -> list[int]:
        """Numbers of pictures of the pool that are not the grid's own."""
        own = {image_digest(image) for image in grid.images}
        others = [i for i, digest in enumerate(self._digests) if digest not in own]
        if not others:
            raise EvaluationError(
                f"item {grid.item_id!r}: a blind control that averages over pictures of other "
                "items was given none"
            )
        return others[:NUM_UNRELATED]

    def _mean(self, values: np.ndarray) -> np.ndarray:
        if self.info.unit == "nats":
            mean: np.ndarray = logsumexp(values, axis=0) - np.log(len(values))
            return mean
        return values.mean(axis=0)
