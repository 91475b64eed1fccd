"""Rules whose metrics belong to a corpus: correlations with people, captions, CHAIR."""

import json
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from genvlm.config.assets import asset_path
from genvlm.errors import EvaluationError
from genvlm.evaluation import captions as caption_text
from genvlm.evaluation import chair
from genvlm.evaluation.correlation import dsg_score, kendall, pearson, spearman
from genvlm.evaluation.data_folder import DataFolder
from genvlm.evaluation.measures import (
    Evidence,
    Judged,
    Metric,
    Parts,
    Rule,
    Sums,
    Target,
    mean,
    no_credit,
    one_answer,
    ratio,
    scores,
)
from genvlm.evaluation.statistics import Undefined


def item_score(evidence: Evidence, target: Target, item_id: str) -> float:
    """How well one picture fits its text.

    A score is taken as it is. Answers to yes-no questions give DSG's score where the target has
    "parents" ({question: questions it depends on}); answers to questions with known "answers" give
    the share that is right, TIFA's score.
    """
    if not isinstance(evidence, Mapping):
        values = scores(evidence, item_id)
        if values.shape != (1, 1):
            raise EvaluationError(
                f"item {item_id!r}: a correlation needs one score an item, got {values.shape}"
            )
        return float(values[0, 0])
    if "parents" in target:
        yes = {int(question): answer == "yes" for question, answer in evidence.items()}
        parents = {int(q): [int(p) for p in found] for q, found in target["parents"].items()}
        return dsg_score(yes, parents, item_id)
    right = target["answers"]
    return sum(evidence[question] == right[question] for question in right) / len(right)


def _correlation_parts(judged: Judged) -> Parts:
    rows = [
        [item_score(evidence, target, item_id), _human(target), 1.0]
        for evidence, target, item_id in zip(*judged, strict=True)
    ]
    return _untied(np.array(rows, np.float64).reshape(len(rows), 3), len(_CORRELATION))


def _human(target: Target) -> float:
    """NaN where nobody has rated the item."""
    return np.nan if target["human"] is None else float(target["human"])


def _correlate(of: Callable[[ArrayLike, ArrayLike], float | Undefined]) -> Metric:
    def of_items(parts: np.ndarray) -> float:
        if np.isnan(parts[:, 1]).any():
            return np.nan
        found = of(parts[:, 0], parts[:, 1])
        return np.nan if isinstance(found, Undefined) else found

    return Metric(of_items=of_items, unit="number", rising=True)


_CORRELATION = {
    "mean score": Metric(of_sums=mean(0).of_sums, unit="number", rising=True, of_scale=True),
    "pearson": _correlate(pearson),
    "spearman": _correlate(spearman),
    "kendall": _correlate(kendall),
}
CORRELATION = Rule(metrics=_CORRELATION, parts=_correlation_parts, credit=no_credit)


def _caption_parts(judged: Judged) -> Parts:
    told = [one_answer(e, i) or "" for e, i in zip(judged.evidence, judged.ids, strict=True)]
    if not told:
        return _untied(np.zeros((0, len(caption_text.COLUMNS))), len(_CAPTIONS))
    return _untied(caption_text.caption_statistics(told, judged.targets), len(_CAPTIONS))


def _caption_metric(name: str) -> Metric:
    return Metric(
        of_sums=lambda sums: caption_text.caption_metrics(sums)[name],
        unit="number",
        rising=name != "length",
    )


_CAPTIONS = {
    **{f"BLEU-{n}": _caption_metric(f"bleu_{n}") for n in range(1, 5)},
    "length": _caption_metric("length"),
    "ROUGE-L": _caption_metric("rouge_l"),
    "CIDEr-D": _caption_metric("cider_d"),
}
CAPTIONS = Rule(metrics=_CAPTIONS, parts=_caption_parts, credit=no_credit)


@cache
def object_table() -> chair.ObjectTable:
    """The synonyms that ship with the package."""
    folder = DataFolder(asset_path("eval/data"))
    pairs = json.loads(folder.read("chair/double_words.json"))
    return chair.parse_object_table(folder.read("chair/synonyms.txt").decode(), pairs)


def _chair_parts(judged: Judged) -> Parts:
    told = [one_answer(e, i) or "" for e, i in zip(judged.evidence, judged.ids, strict=True)]
    objects = [set(target) for target in judged.targets]
    return _untied(chair.chair_statistics(told, objects, object_table()), len(_CHAIR))


def _chair_metric(part: str, of: str, *, percent: bool) -> Metric:
    columns = chair.COLUMNS.index(part), chair.COLUMNS.index(of)

    def of_sums(sums: Sums) -> np.ndarray:
        return ratio(sums[..., columns[0]], sums[..., columns[1]])

    return Metric(of_sums=of_sums, unit="percent" if percent else "number")


_CHAIR = {
    "recall": _chair_metric("recalled", "objects", percent=True),
    "mentions": _chair_metric("mentions", "items", percent=False),
    "length": _chair_metric("words", "items", percent=False),
    "CHAIRs": _chair_metric("hallucinating", "items", percent=True),
    "CHAIRi": _chair_metric("hallucinated", "mentions", percent=True),
}
CHAIR = Rule(metrics=_CHAIR, parts=_chair_parts, credit=no_credit)


def _untied(parts: np.ndarray, num_metrics: int) -> Parts:
    return Parts(parts, parts, np.zeros((len(parts), num_metrics), np.bool_))
