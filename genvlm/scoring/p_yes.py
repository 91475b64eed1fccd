"""The probability that our mixed-modal model says yes rather than no to a text about an image."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from genvlm.errors import ConfigError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import CodeCache, Likelihood
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores

TEMPLATE = '"{text}"? {answer}'
ANSWERS = ("yes", "no")


class PYesScorer:
    """Scorer by p(yes) / (p(yes) + p(no)), each the probability of a whole document's text.

    The texts are the template with either answer, EOS included. They share all but the answer, so
    that the ratio is that of the answers. A model that never saw such texts says little by it.

    Args:
        template: with one `{text}` and, behind it, one `{answer}`.
    """

    def __init__(
        self,
        pretrained: PretrainedModel,
        *,
        template: str = TEMPLATE,
        answers: tuple[str, str] = ANSWERS,
    ) -> None:
        if template.count("{text}") != 1 or template.split("{text}")[1].count("{answer}") != 1:
            raise ConfigError(
                f"the template {template!r} must hold {{text}} once and {{answer}} once behind it"
            )
        self._likelihood = Likelihood(pretrained)
        self._codes = CodeCache(pretrained)
        self._template, self._answers = template, answers
        self.info = ScorerInfo(
            name=f"P({answers[0]})",
            unit="probability",
            settings={
                "kind": "mixed_modal",
                "template": template,
                "answers": list(answers),
                "normalization": "grammar",
                "preprocessing": "fit to a white square",
                "dtype": str(pretrained.model.embedding.weight.dtype),
                "model": pretrained.fingerprint,
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Twice as many texts as `LikelihoodScorer` reads; all of an image share its prefix."""
        texts = [self._template.replace("{answer}", answer) for answer in self._answers]
        pairs = [
            (codes, asked.replace("{text}", text))
            for grid in grids
            for codes in self._codes.encode(grid.images)
            for text in grid.texts
            for asked in texts
        ]
        scored = self._likelihood.score_text_given_image(pairs)
        yes, no = np.array([s.total for s in scored]).reshape(-1, 2).T
        values = expit(yes - no)
        results, at = [], 0
        for grid in grids:
            shape = (len(grid.images), len(grid.texts))
            results.append(Scores(values[at : at + shape[0] * shape[1]].reshape(shape)))
            at += shape[0] * shape[1]
        return results
