"""The rule of quadruplets: pairs, sums, and any lawful clip against any broken one."""

import itertools

import numpy as np
import pytest

from genvlm.errors import EvaluationError
from genvlm.evaluation.measures import Judged
from genvlm.evaluation.plausibility import PLAUSIBILITY
from genvlm.evaluation.rules import Credit


def credit(*rows: tuple[float, float]) -> dict[str, Credit]:
    return PLAUSIBILITY.credit(np.array(rows), None, "q")


def test_a_pair_is_won_by_the_lawful_clip_of_the_same_beginning() -> None:
    assert credit((2, 1), (4, 3))["pair"] == Credit(1, 1, 1, False)
    assert credit((2, 1), (3, 4))["pair"] == Credit(0.5, 0.5, 0.5, False)
    # The other pair's broken clip is no rival: it may be as plausible as it likes.
    assert credit((2, 1), (40, 30))["pair"] == Credit(1, 1, 1, False)


def test_a_tied_pair_is_wrong_and_counts_half_beside() -> None:
    assert credit((2, 2), (4, 3))["pair"] == Credit(0.5, 0.75, 1, True)


def test_a_quadruplet_is_won_by_the_sum_and_its_tie_counts_half() -> None:
    assert credit((5, 1), (3, 4))["quadruplet"] == Credit(1, 1, 1, False)
    assert credit((2, 1), (3, 9))["quadruplet"] == Credit(0, 0, 0, False)
    assert credit((2, 1), (3, 4))["quadruplet"] == Credit(0.5, 0.5, 1, True)


def test_auc_compares_every_lawful_clip_with_every_broken_one() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 6, (7, 2, 2)).astype(float)
    names = [str(k) for k in range(7)]
    parts = PLAUSIBILITY.parts(Judged(list(values), [None] * 7, names))
    lawful, broken = values[:, :, 0].ravel(), values[:, :, 1].ravel()
    wins = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(lawful, broken)]
    found = PLAUSIBILITY.metrics["auc"].of_items
    assert found is not None
    assert found(parts.strict) == pytest.approx(np.mean(wins))


def test_other_shapes_and_scores_that_are_none_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"item 'q'.*two rows.*\(1, 4\)"):
        credit((1, 2, 3, 4))
    with pytest.raises(EvaluationError, match=r"item 'q'.*finite"):
        credit((1, float("nan")), (1, 2))
