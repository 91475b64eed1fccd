"""Concepts, their split by family, and drawings that are nearly the same."""

import pytest

from genvlm.data.emoji import (
    TRAINING_VENDORS,
    UNSEEN_VENDOR,
    find_concept,
    load_concepts,
    load_drawings,
    near_duplicates,
    split_concepts,
)
from genvlm.errors import DataError

HELD_OUT = ["keycap: 9", "joker", "B button (blood type)"]
NUM_HELD_OUT = 183


def test_the_unseen_vendor_is_none_of_the_training_vendors() -> None:
    assert UNSEEN_VENDOR not in TRAINING_VENDORS


def test_the_two_sides_of_the_split_are_all_concepts_and_share_none() -> None:
    training, held_out = split_concepts(held_out=False), split_concepts(held_out=True)
    assert not {c.id for c in training} & {c.id for c in held_out}
    assert {c.id for c in training} | {c.id for c in held_out} == {c.id for c in load_concepts()}


def test_the_split_is_the_one_that_the_shipped_tokenizers_were_trained_with() -> None:
    assert [c.label for c in split_concepts(held_out=True)[:3]] == HELD_OUT
    assert len(split_concepts(held_out=True)) == NUM_HELD_OUT


def test_every_group_has_concepts_on_the_training_side() -> None:
    groups = {c.group for c in load_concepts()}
    assert {c.group for c in split_concepts(held_out=False)} == groups


def test_a_concept_is_found_by_its_label_or_refused() -> None:
    assert all(find_concept(c.label).label == c.label for c in load_concepts()[:50])
    with pytest.raises(DataError, match="no emoji concept is labelled 'gryphon'"):
        find_concept("gryphon")


def test_near_duplicates_are_ordered_pairs_that_look_alike() -> None:
    concepts = load_concepts()[:300]
    pairs = near_duplicates("noto", concepts)
    drawings = load_drawings("noto") / 255.0
    assert pairs
    for first, second in pairs:
        assert first < second
        assert ((drawings[first] - drawings[second]) ** 2).mean() < 0.0041
    assert near_duplicates("noto", concepts, threshold=-1.0) == set()
