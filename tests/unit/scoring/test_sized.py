"""Likelihoods of pictures that keep their shapes, on a toy that can be enumerated."""

import itertools

import numpy as np
import pytest
import torch

from genvlm.config.syntax import SyntaxConfig
from genvlm.generation.interleaved import sample_documents
from genvlm.generation.sampling import SamplingSettings
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.autoregressive import Likelihood
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Text


@pytest.fixture(scope="module")
def toy() -> PretrainedModel:
    return tiny_pretrained(
        resolution=8, codebook_size=3, dtype=torch.float64, syntax=SyntaxConfig(max_side=2)
    )


def every(shape: tuple[int, int]) -> list[np.ndarray]:
    size = shape[0] * shape[1]
    return [np.array(c).reshape(shape) for c in itertools.product(range(3), repeat=size)]


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("text", ["a red square", None])
def test_all_images_of_one_shape_have_probability_one(
    toy: PretrainedModel, shape: tuple[int, int], text: str | None
) -> None:
    scored = Likelihood(toy).score_image_given_text([(codes, text) for codes in every(shape)])
    assert {len(s.log_probs) for s in scored} == {shape[0] * shape[1]}
    assert np.exp([s.total for s in scored]).sum() == pytest.approx(1)


def test_texts_behind_images_of_different_shapes_equal_one_by_one(toy: PretrainedModel) -> None:
    images = [np.zeros(shape, int) for shape in ((1, 2), (2, 2), (1, 1), (1, 2))]
    pairs = [(codes, text) for codes in images for text in ("blue", "a red square")]
    together = Likelihood(toy).score_text_given_image(pairs)
    alone = [Likelihood(toy).score_text_given_image([pair])[0] for pair in pairs]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=1e-10)


def test_images_are_drawn_as_often_as_they_are_likely_given_their_shape(
    toy: PretrainedModel,
) -> None:
    documents = sample_documents(
        toy, [[Text("blue")]] * 3000, SamplingSettings(), seed=0, image_next=True,
        stop_after_visual=True, batch_size=1000,
    )  # fmt: skip
    drawn = [d.images[0] for d in documents]
    shapes = {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert {d.shape for d in drawn} == shapes
    for shape in sorted(shapes - {(2, 2)}):
        own = [d for d in drawn if d.shape == shape]
        images = every(shape)
        counts = np.array([sum((d == i).all() for d in own) for i in images])
        scored = Likelihood(toy).score_image_given_text([(i, "blue") for i in images])
        p = np.exp([s.total for s in scored])
        error = np.sqrt(p * (1 - p) / len(own))
        assert (np.abs(counts / len(own) - p) < 4.5 * error + 1e-9).all()
