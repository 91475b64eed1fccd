"""Scorers of a masked model: pseudo-likelihood of a text, and whether picture and text match."""

from collections.abc import Sequence

from scipy.special import expit

from genvlm.data.images import RGBImage
from genvlm.models.auxiliary.masked import MaskedModel
from genvlm.scoring.by_pair import score_pairs
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores


class PseudoLikelihoodScorer:
    """Sum of log p(piece | image, all other pieces) over the pieces of a text.

    (Wang and Cho 2019; Salazar et al. 2020, eq. 1.) It is no probability of the text: what two
    pieces tell of each other is counted twice. One pass over as many rows as the text has pieces.
    """

    def __init__(self, model: MaskedModel) -> None:
        self._model = model
        self.info = ScorerInfo(
            name="pseudo log p(text | image)",
            unit="arbitrary",
            settings={"kind": "masked", "masked": "one piece", "model": model.fingerprint},
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every distinct pair is scored once.

        Raises:
            TokenError: a text is longer than the model takes.
            EvaluationError: a score is not finite.
        """

        def score(image: RGBImage, texts: Sequence[str]) -> list[tuple[float, int]]:
            found = [self._model.pseudo_log_probs(image, text) for text in texts]
            return [(float(row.sum()), len(row)) for row in found]

        return score_pairs(self._model.check_text, grids, score)


class MatchingScorer:
    """Probability that a text is the picture's (image-text matching)."""

    def __init__(self, model: MaskedModel) -> None:
        self._model = model
        self.info = ScorerInfo(
            name="P(match)",
            unit="probability",
            settings={"kind": "masked matching", "model": model.fingerprint},
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every distinct pair is scored once. Raises as `PseudoLikelihoodScorer`."""

        def score(image: RGBImage, texts: Sequence[str]) -> list[tuple[float, int]]:
            logits = self._model.match(image, texts).double().tolist()
            return [(float(expit(logit)), 0) for logit in logits]

        return [
            found._replace(num_tokens=None)
            for found in score_pairs(self._model.check_text, grids, score)
        ]
