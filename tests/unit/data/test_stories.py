"""Stories: sentences in order, a true scene after each, no held-out pair."""

import numpy as np
import pytest

from genvlm.data.scenes import RELATIONS
from genvlm.data.stories import sample_stories

STORIES = list(sample_stories(300, 0))


def test_stories_are_a_function_of_the_seed() -> None:
    assert list(sample_stories(20, 0)) == STORIES[:20]
    assert list(sample_stories(20, 1)) != STORIES[:20]


def test_a_story_opens_with_first_and_closes_with_at_last() -> None:
    for story in STORIES:
        openings = [sentence.split(",")[0] for sentence in story.sentences]
        assert openings == [*["first", "then", "next"][: len(openings) - 1], "at last"]
        assert all(sentence.endswith(".") for sentence in story.sentences)


def test_neighbours_of_the_hero_differ_from_it_and_from_each_other() -> None:
    for story in STORIES:
        neighbours = {scene.second for scene in story.scenes}
        assert len(neighbours) == len(story.scenes)
        assert story.scenes[0].first not in neighbours


def test_stories_never_hold_a_held_out_pair_but_every_relation() -> None:
    scenes = [scene for story in STORIES for scene in story.scenes]
    assert not any(scene.held_out for scene in scenes)
    assert {scene.relation for scene in scenes} == set(RELATIONS)


@pytest.mark.parametrize("vendor", ["noto", "fluent"])
def test_a_story_is_drawn_as_one_picture_a_sentence(vendor: str) -> None:
    story = STORIES[0]
    drawn, again = (story.render(vendor) for _ in range(2))
    assert len(drawn) == len(story.sentences)
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
