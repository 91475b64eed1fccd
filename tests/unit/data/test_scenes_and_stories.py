"""Composed scenes: true captions, held-out pairs, one stream per scene."""

import numpy as np

from genvlm.data.emoji import find_concept, load_drawings
from genvlm.data.scenes import (
    ICONS,
    INVERSE,
    RELATIONS,
    Scene,
    is_held_out,
    render_scene,
    sample_scenes,
)
from genvlm.data.stories import sample_stories

BY_NAME = {icon.name: icon for icon in ICONS}


def test_icons_are_sixty_distinct_concepts_of_training_families():
    assert len({icon.label for icon in ICONS}) == len({icon.name for icon in ICONS}) == 60
    assert not any(find_concept(icon.label).held_out for icon in ICONS)


def test_training_scenes_hold_no_held_out_pair_but_every_icon_and_relation():
    scenes = list(sample_scenes(3000, 0, three=0.3, counts=0.3))
    assert not any(scene.held_out for scene in scenes)
    assert {i for s in scenes for i in (s.first, s.second)} == set(ICONS)
    assert {s.relation for s in scenes} == set(RELATIONS)


def test_test_scenes_are_held_out_in_any_order():
    for scene in sample_scenes(200, 1, held_out=True):
        assert is_held_out(scene.first, scene.second)
        assert is_held_out(scene.second, scene.first)


def test_swapping_keeps_the_words_and_changes_the_sentence():
    for scene in sample_scenes(100, 2, counts=0.5):
        assert sorted(scene.caption.split()) == sorted(scene.swapped.caption.split())
        assert scene.caption != scene.swapped.caption
        assert scene.swapped.swapped == scene


def test_the_same_seed_draws_the_same_picture():
    scene = Scene(BY_NAME["cow"], "left of", BY_NAME["red heart"])
    first, again = (render_scene(scene, "noto", np.random.default_rng(5)) for _ in range(2))
    other = render_scene(scene, "noto", np.random.default_rng(6))
    assert (first == again).all()
    assert (first != other).any()


def test_the_first_icon_lies_where_the_caption_says():
    icon, other = BY_NAME["red square"], BY_NAME["lemon"]
    for relation in RELATIONS:
        picture = render_scene(Scene(icon, relation, other), "noto", np.random.default_rng(1))
        red = (picture[..., 0] > 200) & (picture[..., 1] < 90) & (picture[..., 2] < 90)
        rows, columns = np.nonzero(red)
        centre = {"left of": columns, "right of": columns, "above": rows, "below": rows}[relation]
        assert (centre.mean() < 32) == (relation in ("left of", "above"))


def test_inverse_is_an_involution():
    assert all(INVERSE[INVERSE[r]] == r for r in RELATIONS)


def test_stories_tell_two_to_four_scenes_of_one_hero():
    lengths = set()
    for story in sample_stories(200, 0):
        lengths.add(len(story.scenes))
        assert len({s.first for s in story.scenes}) == 1
        assert not any(s.held_out for s in story.scenes)
        assert all(s.caption in t for s, t in zip(story.scenes, story.sentences, strict=True))
    assert lengths == {2, 3, 4}


def test_three_vendors_draw_each_icon_differently():
    index = [find_concept(i.label).index for i in ICONS]
    noto, twemoji = load_drawings("noto")[index], load_drawings("twemoji")[index]
    assert (noto != twemoji).reshape(len(index), -1).any(1).all()
