"""What a record keeps of a benchmark: enough to compare a model with itself, blind and shuffled."""

from collections.abc import Sequence

import numpy as np
import pytest

from genvlm.data.hashed import hash_rank
from genvlm.data.images import image_digest
from genvlm.evaluation.benchmarks.scenes import build_scenes
from genvlm.evaluation.control_names import BLIND, SHUFFLED
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.studies.compare.asked import OWN, judge


class GuessingScorer:
    """Scores of 0 or 1 by a hash of the picture and the text: right by luck, and often tied."""

    info = ScorerInfo(name="guess", unit="arbitrary")

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        return [Scores(np.array([[self._guess(i, t) for t in g.texts] for i in g.images]))
                for g in grids]  # fmt: skip

    def _guess(self, image: np.ndarray, text: str) -> float:
        return float(hash_rank(image_digest(image) + text) < hash_rank(text))


def test_what_items_earn_with_and_without_their_picture_has_the_mean_of_the_summary() -> None:
    judged = judge("guesses", build_scenes("noto", 6, 6), GuessingScorer(),
                   controls=True, progress=lambda done, total: None)  # fmt: skip
    tables = {OWN: judged, **judged["controls"]["scores"]}
    assert judged["halves"].keys() == {OWN, BLIND, SHUFFLED}
    for who, by_metric in judged["halves"].items():
        for metric, earned in by_metric.items():
            assert earned.keys() == judged["tags"].keys()
            mean = 100 * np.mean(list(earned.values()))
            assert mean == pytest.approx(tables[who]["metrics"][metric]["half"])
    assert len({tuple(h["text"].values()) for h in judged["halves"].values()}) == 3


def test_models_that_were_not_judged_blind_have_no_halves() -> None:
    judged = judge("guesses", build_scenes("noto", 2, 2), GuessingScorer(),
                   controls=False, progress=lambda done, total: None)  # fmt: skip
    assert judged["halves"] == {}
