"""How much a text adds: any scorer's score of a text, less that of the empty text."""

from collections.abc import Sequence
from dataclasses import replace

from genvlm.scoring.protocols import Grid, Scorer, ScorerInfo, Scores


class RelativeScorer:
    """What a model makes of log p(image | text) / p(image), where "" is its absent condition.

    The order of the texts of an image stays as it is. Images can be compared by it: log p(image |
    text) alone is mostly about how plain the image is. Monte Carlo samples are subtracted too.
    """

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.info: ScorerInfo = replace(
            scorer.info,
            name=f"{scorer.info.name}, less that of no text",
            settings={**scorer.info.settings, "less": "score of the empty text"},
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Raises as the scorer itself."""
        asked = [replace(grid, texts=[*grid.texts, ""]) for grid in grids]
        return [_relative(scores) for scores in self._scorer.score(asked)]


def _relative(scores: Scores) -> Scores:
    """The last text is the empty one."""
    values, samples = scores.values, scores.samples
    return Scores(
        values[:, :-1] - values[:, -1:],
        samples=None if samples is None else samples[:, :-1] - samples[:, -1:],
    )
