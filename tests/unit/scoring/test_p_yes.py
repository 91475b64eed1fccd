"""P(yes) and per-token scores of our own models."""

import numpy as np
import pytest

from genvlm.errors import ConfigError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import Direction, Likelihood, LikelihoodScorer
from genvlm.scoring.p_yes import PYesScorer
from genvlm.scoring.protocols import Grid
from genvlm.testing.tiny import tiny_pairs, tiny_pretrained

IMAGES = [image for _, image in tiny_pairs()[:3]]
TEXTS = ["a red square", "blue", "a {text} with an {answer}"]
GRID = Grid(item_id="a", images=IMAGES, texts=TEXTS)


@pytest.fixture(scope="module")
def toy() -> PretrainedModel:
    return tiny_pretrained()


def test_p_yes_is_the_share_of_the_document_that_says_yes(toy: PretrainedModel) -> None:
    scorer = PYesScorer(toy)
    (scores,) = scorer.score([GRID])
    codes = toy.encode_images(IMAGES)
    for i, t in np.ndindex(3, 3):
        asked = [(codes[i], f'"{TEXTS[t]}"? {answer}') for answer in ("yes", "no")]
        yes, no = (np.exp(s.total) for s in Likelihood(toy).score_text_given_image(asked))
        assert scores.values[i, t] == pytest.approx(yes / (yes + no), rel=1e-4)
    assert np.ptp(scores.values) > 1e-3
    assert scorer.info.unit == "probability"


def test_swapped_answers_give_the_rest_of_one(toy: PretrainedModel) -> None:
    (yes,) = PYesScorer(toy).score([GRID])
    (no,) = PYesScorer(toy, answers=("no", "yes")).score([GRID])
    np.testing.assert_allclose(yes.values + no.values, 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("template", ["{text}?", "yes", "{answer} {text}", "{text}{text} {answer}"])
def test_a_template_holds_the_text_and_then_the_answer(template: str, toy: PretrainedModel) -> None:
    with pytest.raises(ConfigError, match="once behind it"):
        PYesScorer(toy, template=template)


@pytest.mark.parametrize("direction", ["text_given_image", "image_given_text"])
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_the_mean_is_the_whole_over_the_number_of_tokens(
    direction: Direction, alpha: float, toy: PretrainedModel
) -> None:
    whole = LikelihoodScorer(toy, direction, alpha=alpha)
    mean = LikelihoodScorer(toy, direction, alpha=alpha, reduction="mean")
    (total,), (scores,) = whole.score([GRID]), mean.score([GRID])
    np.testing.assert_allclose(scores.values, total.values / total.num_tokens, rtol=1e-12)
    assert mean.info.name == whole.info.name + " per token"
    assert mean.info.fingerprint != whole.info.fingerprint
