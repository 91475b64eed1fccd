"""log p(text | image) of a contrastive captioner."""

from collections.abc import Sequence

from genvlm.data.images import RGBImage
from genvlm.models.auxiliary.coca import CoCaModel
from genvlm.scoring.autoregressive import Reduction
from genvlm.scoring.by_pair import score_pairs
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores


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
        """Every distinct pair is scored once. Raises as `score_pairs`."""

        def score(image: RGBImage, texts: Sequence[str]) -> list[tuple[float, int]]:
            log_probs, mask = self._model.score_texts(image, texts)
            sums, counts = log_probs.double().sum(1).tolist(), mask.sum(1).tolist()
            return list(zip(sums, counts, strict=True))

        found = score_pairs(self._model.check_text, grids, score)
        if self._reduction == "sum":
            return found
        return [s._replace(values=s.values / s.num_tokens) for s in found]
