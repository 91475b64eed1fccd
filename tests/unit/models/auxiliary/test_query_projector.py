"""Queries that read patches: how many vectors a picture has, and what these depend on."""

import pytest
import torch

from genvlm.models.auxiliary.projector import ProjectorModel, QueryProjector
from genvlm.testing.tiny import tiny_pairs
from genvlm.testing.tiny_projector import TINY_QUERIES, tiny_projector
from genvlm.tokenization.image_slots import parse_prompt

STATES = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
IMAGES = [image for _, image in tiny_pairs()[:2]]


@pytest.fixture
def projector() -> QueryProjector:
    projector = QueryProjector(8, 16, 12, TINY_QUERIES)
    projector.init_weights(0)
    return projector


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ProjectorModel:
    return tiny_projector(tmp_path_factory.mktemp("model"), projector="queries")


def test_a_picture_takes_as_many_places_as_there_are_queries(model: ProjectorModel) -> None:
    assert model.patches.num_patches == 16
    prompt = parse_prompt("a {image} red {image}")
    row = model.lay_out(prompt, 2, "a bar")
    assert sum(row.is_image) == 2 * TINY_QUERIES.num_queries
    vectors = model.project(IMAGES)
    assert vectors.shape == (2, TINY_QUERIES.num_queries, model.language.model.width)
    read = model.read(prompt, vectors)[0]
    shown = torch.tensor(model.lay_out(prompt, 2).is_image)
    assert torch.equal(read[shown], vectors.flatten(0, 1))
    assert model.project([]).shape == (0, *vectors.shape[1:])


def test_every_query_says_something_else(projector: QueryProjector) -> None:
    """Read by attention that only averages, all would be equal."""
    vectors = projector(STATES)
    assert vectors.std(1).min() > 0.01
    assert (vectors[0] - vectors[1]).abs().max() > 0.1


def test_a_vector_depends_on_its_own_picture_alone(projector: QueryProjector) -> None:
    alone = torch.cat([projector(STATES[:1]), projector(STATES[1:])])
    torch.testing.assert_close(projector(STATES), alone, atol=1e-6, rtol=0)


def test_patches_are_read_at_their_places(projector: QueryProjector) -> None:
    """Cross-attention alone would not see that two patches changed places."""
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    before = projector(STATES)
    assert (projector(STATES[:, order]) - before).abs().max() > 0.01
    with torch.no_grad():
        projector.places.copy_(projector.places[order])
    torch.testing.assert_close(projector(STATES[:, order]), before, atol=1e-5, rtol=0)


def test_the_order_of_queries_is_theirs_alone(projector: QueryProjector) -> None:
    before = projector(STATES)
    with torch.no_grad():
        projector.queries.copy_(projector.queries.flip(0))
    torch.testing.assert_close(projector(STATES), before.flip(1), atol=1e-5, rtol=0)


def test_queries_see_each_other(projector: QueryProjector) -> None:
    before = projector(STATES)
    with torch.no_grad():
        projector.queries[0] += 1
    assert (projector(STATES)[:, 1:] - before[:, 1:]).abs().max() > 1e-3
