"""Mean scores over moved copies of a picture."""

from collections.abc import Sequence

import numpy as np
import pytest

from genvlm.errors import ConfigError
from genvlm.scoring.copies import CopiesScorer
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.testing.tiny import tiny_pairs

IMAGES = [image for _, image in tiny_pairs()][:3]
GRIDS = [
    Grid(item_id="a", images=IMAGES[:2], texts=["x", "xyz"]),
    Grid(item_id="b", images=IMAGES[2:], texts=["xy"]),
]


class Brightness:
    """Mean pixel times the length of the text."""

    info = ScorerInfo(name="brightness", unit="nats", settings={"dtype": "float64"})

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        return [
            Scores(
                np.array([[i.mean() * len(t) for t in g.texts] for i in g.images]),
                np.array([[len(t) for t in g.texts]] * len(g.images)),
            )
            for g in grids
        ]


def test_scores_are_means_over_the_versions_of_each_picture() -> None:
    scorer = CopiesScorer(Brightness(), copies=4)
    first, second = scorer.score(GRIDS)
    for row, image in zip(first.values, IMAGES[:2], strict=True):
        mean = np.mean([v.mean() for v in scorer.versions(image)])
        np.testing.assert_allclose(row, [mean, 3 * mean])
    assert second.values.shape == (1, 1)
    assert first.num_tokens is not None
    assert first.num_tokens.tolist() == [[1, 3], [1, 3]]


def test_the_first_version_is_the_picture_and_the_others_differ() -> None:
    versions = CopiesScorer(Brightness(), copies=3).versions(IMAGES[0])
    assert (versions[0] == IMAGES[0]).all()
    assert len({v.tobytes() for v in versions}) == 3
    assert all(v.dtype == np.uint8 and v.shape == IMAGES[0].shape for v in versions)


def test_one_copy_is_the_plain_scorer() -> None:
    for a, b in zip(
        CopiesScorer(Brightness(), copies=1).score(GRIDS), Brightness().score(GRIDS), strict=True
    ):
        np.testing.assert_array_equal(a.values, b.values)


def test_copies_depend_on_seed_and_picture_alone() -> None:
    scorer = CopiesScorer(Brightness(), copies=3, seed=1)
    together = scorer.score(GRIDS)[0].values
    alone = scorer.score([Grid(item_id="z", images=IMAGES[1:2], texts=GRIDS[0].texts)])[0].values
    np.testing.assert_array_equal(together[1:], alone)
    other = CopiesScorer(Brightness(), copies=3, seed=2)
    assert (other.score(GRIDS)[0].values != together).all()
    assert other.info.fingerprint != scorer.info.fingerprint != Brightness.info.fingerprint


def test_no_copy_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least once"):
        CopiesScorer(Brightness(), copies=0)


def test_a_bound_is_not_averaged_over_copies() -> None:
    class Bound(Brightness):
        info = ScorerInfo(name="bound", unit="bound_nats")

    with pytest.raises(ConfigError, match="bounds no picture's log p"):
        CopiesScorer(Bound(), copies=2)
    assert CopiesScorer(Bound(), copies=1).info.unit == "bound_nats"
