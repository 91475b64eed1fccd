"""Cosines of texts and a picture as each of them sees it (Llip)."""

from collections.abc import Sequence
from typing import Literal

from genvlm.data.images import RGBImage
from genvlm.models.auxiliary.llip import LlipModel
from genvlm.scoring.by_pair import score_pairs
from genvlm.scoring.contrastive import NAMES
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores


class LlipScorer:
    """`cosine` or `logit` as of `ContrastiveScorer`, of each pair.

    No index of embeddings gives them: every text is asked of every picture.
    """

    def __init__(self, model: LlipModel, formula: Literal["cosine", "logit"] = "cosine") -> None:
        self._model = model
        self._scale = float(model.network.scale) if formula == "logit" else 1.0
        name, unit = NAMES[formula]
        self.info = ScorerInfo(
            name=name,
            unit=unit,
            settings={"kind": "llip", "formula": formula, "model": model.fingerprint},
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Every distinct pair is scored once. Raises as `score_pairs`."""

        def score(image: RGBImage, texts: Sequence[str]) -> list[tuple[float, int]]:
            cosines = self._model.cosines(image, texts).double().tolist()
            return [(self._scale * cosine, 0) for cosine in cosines]

        return [
            found._replace(num_tokens=None)
            for found in score_pairs(self._model.check_text, grids, score)
        ]
