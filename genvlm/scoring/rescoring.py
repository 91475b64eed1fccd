"""Fast scores first, exact ones where they decide: bfloat16 with float32 for near-ties.

On a processor without bfloat16 units (`bfloat16_supported`) the fast pass is slower than float32.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64

from genvlm.errors import ConfigError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.protocols import Grid, Scorer, ScorerInfo, Scores
from genvlm.scoring.zero_shot import mean_over_templates

# Classes of the first rescoring; the errors seen there decide which others could still win.
_FIRST, _SAFETY = 3, 3.0

ScoreExactly = Callable[[Sequence[Sequence[int]]], Sequence[Float64[np.ndarray, " chosen"]]]
"""Exact scores of the numbered candidates of each row."""


class Rescored(NamedTuple):
    """Scores of which those that could be the best are exact."""

    scores: Float64[np.ndarray, "rows candidates"]
    exact: Bool[np.ndarray, "rows candidates"]
    margin: Float64[np.ndarray, " rows"]
    """The error that a fast score was allowed, in the unit of the scores."""


def rescore_near_ties(
    rough: Float64[np.ndarray, "rows candidates"],
    score_exactly: ScoreExactly,
    *,
    margin: float | None = None,
) -> Rescored:
    """Replace rough scores by exact ones until no other candidate can be the best of its row.

    The best rough candidates of a row are scored exactly; then every one whose rough score plus
    the margin reaches the best exact one; and so on until none is left.

    Guaranteed: the best candidate is the exact scores' best, if no candidate that was left out is
    underrated by more than the margin. A margin that is given is taken at its word. A measured one
    is 3 times the largest error seen among the row's rescored candidates, 3 of them at least: an
    estimate, and no bound. Not guaranteed in either case: the order behind the best, and scores
    that are marked as not exact.

    Args:
        margin: largest error of a rough score; None measures it on each row by itself, so that no
            row depends on those beside it.

    Raises:
        ConfigError: a negative margin.
    """
    if margin is not None and not margin >= 0:
        raise ConfigError(f"the margin of rescoring must be 0 or more, got {margin:g}")
    scores = np.array(rough, np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")
    num_rows, num = scores.shape
    done = np.zeros(num_rows, int)
    wanted = np.full(num_rows, min(_FIRST if margin is None else 1, num))
    margins = np.full(num_rows, margin or 0.0)
    while (done < wanted).any():
        again = [order[row, done[row] : wanted[row]].tolist() for row in range(num_rows)]
        for row, (chosen, exactly) in enumerate(zip(again, score_exactly(again), strict=True)):
            if not chosen:
                continue
            if margin is None:
                error = float(np.abs(exactly - scores[row, chosen]).max())
                margins[row] = max(margins[row], _SAFETY * error)
            scores[row, chosen] = exactly
            done[row] = wanted[row]
            best = scores[row, order[row, : done[row]]].max()
            # Rough scores fall along the order: behind the first that cannot win, none can.
            left = scores[row, order[row, done[row] :]]
            wanted[row] = done[row] + int((left + margins[row] >= best).sum())
    exact = np.zeros_like(scores, dtype=bool)
    np.put_along_axis(exact, order, np.arange(num) < done[:, None], axis=1)
    return Rescored(scores, exact, margins)


class NearTieScorer:
    """Scorer: a fast one for all texts, an exact one for those of classes that could win.

    Texts stand class by class, `texts_per_class` templates each; a class counts by the mean
    probability of its texts and its prior, as `classify` does. Within a row exact and rough scores
    stand side by side, so that the head of the ranking can be trusted as `rescore_near_ties` says
    and the rest to the margin.

    Raises:
        ConfigError: a negative margin, or units other than nats.
    """

    def __init__(
        self,
        rough: Scorer,
        exact: Scorer,
        *,
        margin: float | None = None,
        texts_per_class: int = 1,
        log_prior: Float64[np.ndarray, " classes"] | None = None,
    ) -> None:
        if margin is not None and not margin >= 0:
            raise ConfigError(f"the margin of rescoring must be 0 or more, got {margin:g}")
        if not rough.info.unit == exact.info.unit == "nats":
            raise ConfigError(
                f"near-ties are rescored in nats; these scorers speak {rough.info.unit} and "
                f"{exact.info.unit}"
            )
        self._rough, self._exact, self._margin = rough, exact, margin
        self._texts_per_class, self._log_prior = texts_per_class, log_prior
        self.num_rescored = self.num_scored = 0
        """Texts scored exactly, and texts scored at all, since this scorer was made."""
        self.info = ScorerInfo(
            name=f"{exact.info.name}, rescored near-ties",
            unit="nats",
            settings={
                "rough": rough.info.fingerprint,
                "rough_dtype": rough.info.settings.get("dtype"),
                "exact": exact.info.fingerprint,
                "dtype": exact.info.settings.get("dtype"),
                "margin": "measured" if margin is None else margin,
                "texts_per_class": texts_per_class,
                "log_prior": None if log_prior is None else [float(x) for x in log_prior],
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Scores of every image with every text; exact ones in place of rough ones."""
        return [self._rescore(g, s) for g, s in zip(grids, self._rough.score(grids), strict=True)]

    def _rescore(self, grid: Grid, rough: Scores) -> Scores:
        values = np.array(rough.values, np.float64)
        num = self._texts_per_class
        prior = 0.0 if self._log_prior is None else self._log_prior

        def exactly(chosen: Sequence[Sequence[int]]) -> list[np.ndarray]:
            rows = [row for row, classes in enumerate(chosen) if classes]
            columns = [[c * num + t for c in chosen[r] for t in range(num)] for r in rows]
            smaller = [
                Grid(
                    item_id=grid.item_id,
                    images=[grid.images[row]],
                    texts=[grid.texts[c] for c in texts],
                )
                for row, texts in zip(rows, columns, strict=True)
            ]
            found: list[np.ndarray] = [np.zeros(0)] * len(chosen)
            for row, texts, scores in zip(rows, columns, self._exact.score(smaller), strict=True):
                values[row, texts] = scores.values[0]
                self.num_rescored += len(texts)
                offset = prior if isinstance(prior, float) else prior[list(chosen[row])]
                found[row] = mean_over_templates(scores.values, num)[0] + offset
            return found

        by_class = mean_over_templates(values, num) + prior
        rescore_near_ties(by_class, exactly, margin=self._margin)
        self.num_scored += values.size
        return Scores(values, rough.num_tokens)


def in_bfloat16(pretrained: PretrainedModel) -> PretrainedModel:
    """The same model with weights and activations in bfloat16; tokenizers stay as they are."""
    return replace(pretrained, model=copy.deepcopy(pretrained.model).to(torch.bfloat16))
