"""The rule of quadruplets: two lawful clips should be more plausible than two broken ones.

Riochet et al. 2018, https://arxiv.org/abs/1803.07616. `quadruplet` is 100 minus the relative error
and `auc` 100 minus the absolute error there; a tie counts half in both, as in the authors'
evaluation. `pair` compares a lawful clip with the broken one of the same beginning.
"""

import numpy as np
from jaxtyping import Float64

from genvlm.errors import EvaluationError
from genvlm.evaluation.measures import Evidence, Judged, Metric, Parts, Rule, Target, mean, scores
from genvlm.evaluation.rules import Credit, check_finite

_METRICS = ("pair", "quadruplet")


def _credit(evidence: Evidence, target: Target, item_id: str) -> dict[str, Credit]:
    values = _two_pairs(evidence, item_id)
    pairs = [_compare(lawful, broken) for lawful, broken in values]
    strict, half, win = (
        float(np.mean([getattr(p, kind) for p in pairs])) for kind in ("strict", "half", "win")
    )
    sums = _compare(*values.sum(0))
    return {
        "pair": Credit(strict, half, win, any(p.tied for p in pairs)),
        "quadruplet": sums._replace(strict=sums.half),
    }


def _compare(lawful: float, broken: float) -> Credit:
    if lawful == broken:
        return Credit(0.0, 0.5, 1.0, True)
    right = float(lawful > broken)
    return Credit(right, right, right, False)


def _two_pairs(evidence: Evidence, item_id: str) -> Float64[np.ndarray, "2 2"]:
    values = scores(evidence, item_id)
    if values.shape != (2, 2):
        raise EvaluationError(
            f"item {item_id!r}: this rule needs two rows of a lawful and a broken clip, got scores "
            f"of shape {values.shape}"
        )
    return check_finite(values, item_id)


def _parts(judged: Judged) -> Parts:
    """Credit of the metrics that are means; behind it, the four scores, of which AUC is made."""
    found = [_credit(*item) for item in zip(*judged, strict=True)]
    values = [
        _two_pairs(evidence, item_id).ravel()
        for evidence, item_id in zip(judged.evidence, judged.ids, strict=True)
    ]
    num = len(found)
    strict, half = (
        np.array(
            [
                [*(getattr(credit[name], kind) for name in _METRICS), *four, 1.0]
                for credit, four in zip(found, values, strict=True)
            ],
            np.float64,
        ).reshape(num, len(_METRICS) + 5)
        for kind in ("strict", "half")
    )
    tied = [[*(credit[name].tied for name in _METRICS), False] for credit in found]
    return Parts(strict, half, np.array(tied, np.bool_).reshape(num, len(_METRICS) + 1))


def _auc(parts: Float64[np.ndarray, "items parts"]) -> float:
    """How often any lawful clip is more plausible than any broken one, of whatever item."""
    four = parts[:, len(_METRICS) : -1]
    lawful, broken = four[:, 0::2].ravel(), four[:, 1::2].ravel()
    if len(lawful) == 0:
        return float("nan")
    ordered = np.sort(broken)
    won, tied_or_won = (np.searchsorted(ordered, lawful, side).sum() for side in ("left", "right"))
    return float((won + tied_or_won) / (2 * len(lawful) * len(broken)))


PLAUSIBILITY = Rule(
    metrics={
        **{name: mean(column) for column, name in enumerate(_METRICS)},
        "auc": Metric(of_items=_auc),
    },
    parts=_parts,
    credit=_credit,
)
