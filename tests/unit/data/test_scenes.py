"""Scenes: what the pixels show is what the caption says, and held-out pairs never leak."""

import re
from itertools import combinations

import numpy as np
import pytest

from genvlm.data.emoji import find_concept
from genvlm.data.scenes import (
    HELD_OUT_PERCENT,
    ICONS,
    INVERSE,
    RELATIONS,
    SIZE,
    Relation,
    Scene,
    is_held_out,
    render_scene,
    sample_scene,
    sample_scenes,
)

BY_NAME = {icon.name: icon for icon in ICONS}
RED, GREEN, BLUE = (BY_NAME[f"{colour} square"] for colour in ("red", "green", "blue"))
CHANNEL = {RED.name: 0, GREEN.name: 1, BLUE.name: 2}
BEFORE = ("left of", "above")


def _mask(picture: np.ndarray, name: str) -> np.ndarray:
    """Pixels in which the icon's own channel is far above both others."""
    channels = picture.astype(int)
    own = channels[..., CHANNEL[name]]
    others = np.delete(channels, CHANNEL[name], axis=-1).max(-1)
    # Noto's green is a pale one; a lower bar would join neighbours by their soft edges.
    return own - others > (40 if name == GREEN.name else 60)


def _centre(picture: np.ndarray, name: str) -> np.ndarray:
    """Mean (row, column)."""
    found = np.argwhere(_mask(picture, name))
    assert len(found) > 50, f"no {name} in the picture"
    return found.mean(0)


def _holds(relation: str, first: np.ndarray, second: np.ndarray) -> bool:
    axis = 1 if relation in ("left of", "right of") else 0
    ahead = first[axis] < second[axis] if relation in BEFORE else first[axis] > second[axis]
    return bool(ahead and abs(first[axis] - second[axis]) > 20)


def _runs(mask: np.ndarray, axis: int) -> int:
    """Number of separate stretches of the mask along one axis."""
    line = mask.any(axis=1 - axis).astype(int)
    return int((np.diff(line, prepend=0) == 1).sum())


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_caption_is_true_of_the_pixels(relation: Relation) -> None:
    scene = Scene(RED, relation, BLUE)
    for told in (scene, scene.swapped):
        picture = render_scene(told, "noto")
        said = re.fullmatch(
            r"(\w+ square) (left of|right of|above|below) (\w+ square)", told.caption
        )
        assert said is not None
        first, second = _centre(picture, said[1]), _centre(picture, said[3])
        assert _holds(said[2], first, second)
        assert not any(_holds(r, first, second) for r in RELATIONS if r != said[2])


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_third_icon_is_on_the_side_that_the_caption_names(relation: Relation) -> None:
    across: tuple[Relation, ...] = (
        ("above", "below") if relation in ("left of", "right of") else ("left of", "right of")
    )
    for third_relation in across:
        scene = Scene(RED, relation, BLUE, third=GREEN, third_relation=third_relation)
        assert scene.caption == (
            f"red square {relation} blue square, green square {third_relation.removesuffix(' of')}"
        )
        picture = render_scene(scene, "noto")
        first, second, third = (_centre(picture, i.name) for i in (RED, BLUE, GREEN))
        assert _holds(relation, first, second)
        assert _holds(third_relation, third, first)
        assert _holds(third_relation, third, second)


@pytest.mark.parametrize("relation", RELATIONS)
@pytest.mark.parametrize(("first_count", "second_count"), [(1, 2), (2, 1), (3, 2), (3, 3)])
def test_as_many_icons_are_drawn_as_the_caption_counts(
    relation: Relation, first_count: int, second_count: int
) -> None:
    scene = Scene(RED, relation, BLUE, first_count, second_count)
    words = {1: "{} square", 2: "two {} squares", 3: "three {} squares"}
    assert scene.caption == (
        f"{words[first_count].format('red')} {relation} {words[second_count].format('blue')}"
    )
    picture = render_scene(scene, "noto")
    axis = 0 if relation in ("left of", "right of") else 1
    assert _runs(_mask(picture, "red square"), axis) == first_count
    assert _runs(_mask(picture, "blue square"), axis) == second_count
    assert _holds(relation, _centre(picture, "red square"), _centre(picture, "blue square"))


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_inverse_of_the_swapped_scene_says_the_same(relation: Relation) -> None:
    first = render_scene(Scene(RED, relation, BLUE), "noto")
    second = render_scene(Scene(BLUE, INVERSE[relation], RED), "noto")
    assert np.array_equal(first, second)


def test_pictures_are_uint8_on_white() -> None:
    for scene in sample_scenes(50, 0, three=0.3, counts=0.5):
        picture = render_scene(scene, "twemoji")
        assert picture.shape == (SIZE, SIZE, 3)
        assert picture.dtype == np.uint8
        assert 0.05 < (picture < 250).any(-1).mean() < 0.8


@pytest.mark.parametrize("options", [{}, {"three": 1.0}, {"counts": 1.0}, {"held_out": True}])
def test_scenes_are_a_function_of_the_seed(options: dict[str, float]) -> None:
    scenes = list(sample_scenes(40, 3, **options))
    assert scenes == list(sample_scenes(40, 3, **options))
    assert scenes[:10] == list(sample_scenes(10, 3, **options))
    assert scenes != list(sample_scenes(40, 4, **options))
    assert len({s.caption for s in scenes}) > 35


def _pairs(scene: Scene) -> set[frozenset[str]]:
    icons = [i.label for i in (scene.first, scene.second, scene.third) if i is not None]
    return {frozenset(pair) for pair in combinations(icons, 2)}


def test_no_two_icons_of_a_test_pair_share_a_training_scene() -> None:
    tested = {
        frozenset((s.first.label, s.second.label)) for s in sample_scenes(2000, 9, held_out=True)
    }
    trained: set[frozenset[str]] = set()
    for options in ({}, {"three": 1.0}, {"counts": 1.0}):
        trained |= set().union(*(_pairs(s) for s in sample_scenes(2000, 1, **options)))
    assert len(tested) > 100
    assert len(trained) > 1000
    assert not tested & trained


def test_the_third_icon_counts_when_a_scene_is_judged_held_out() -> None:
    first, third = next(p for p in combinations(ICONS, 2) if is_held_out(*p))
    second = next(i for i in ICONS if not (is_held_out(first, i) or is_held_out(third, i)))
    if second in (first, third):
        pytest.fail("an icon is paired with itself")
    assert not Scene(first, "left of", second).held_out
    assert Scene(first, "left of", second, third=third).held_out


def test_about_a_tenth_of_all_pairs_is_held_out_and_every_icon_keeps_partners() -> None:
    share = np.mean([is_held_out(a, b) for a, b in combinations(ICONS, 2)])
    assert share == pytest.approx(HELD_OUT_PERCENT / 100, abs=0.03)
    for icon in ICONS:
        partners = [i for i in ICONS if i != icon and not is_held_out(icon, i)]
        assert len(partners) > len(ICONS) / 2


def test_every_word_of_a_test_caption_occurs_in_training_in_both_places() -> None:
    trained = list(sample_scenes(4000, 0))
    assert {s.first for s in trained} == {s.second for s in trained} == set(ICONS)
    words = {word for s in trained for word in s.caption.split()}
    for scene in sample_scenes(500, 7, held_out=True):
        assert set(scene.caption.split()) <= words


def test_the_words_of_counts_and_thirds_occur_in_training_when_asked_for() -> None:
    options = {"three": 0.3, "counts": 0.5}

    def words(scenes: list[Scene]) -> set[str]:
        return {word for s in scenes for word in s.caption.split()}

    trained = words(list(sample_scenes(4000, 0, **options)))
    assert {"two", "three"} <= trained
    assert words(list(sample_scenes(500, 7, held_out=True, **options))) <= trained


def test_options_are_probabilities() -> None:
    scenes = list(sample_scenes(1000, 0, three=0.25, counts=0.5))
    thirds = [s.third is not None for s in scenes]
    assert np.mean(thirds) == pytest.approx(0.25, abs=0.06)
    counted = [max(s.first_count, s.second_count) > 1 for s in scenes if s.third is None]
    assert np.mean(counted) == pytest.approx(0.5 * 8 / 9, abs=0.06)
    assert all(s.first_count == s.second_count == 1 for s in scenes if s.third is not None)


def test_swapping_a_scene_of_three_keeps_its_words_and_its_third() -> None:
    for scene in sample_scenes(100, 5, three=1.0):
        swapped = scene.swapped
        assert sorted(re.findall(r"\w+", scene.caption)) == sorted(
            re.findall(r"\w+", swapped.caption)
        )
        assert scene.caption != swapped.caption
        assert scene.third == swapped.third
        assert scene.held_out == swapped.held_out


def test_icons_of_a_scene_are_distinct_and_of_training_families() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        scene = sample_scene(rng, three=1.0)
        assert len({scene.first, scene.second, scene.third}) == 3
    assert [i.label for i in ICONS if find_concept(i.label).held_out] == []


def test_no_name_of_an_icon_is_ambiguous() -> None:
    names = [name for icon in ICONS for name in {icon.name, icon.plural}]
    assert len(names) == len(set(names))
    assert all(icon.colour in icon.label for icon in ICONS)
