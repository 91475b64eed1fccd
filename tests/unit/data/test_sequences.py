from itertools import pairwise

import numpy as np
import pytest

from genvlm.data.edits import sample_edits
from genvlm.data.scenes import render_scene
from genvlm.data.sequences import CYCLES, all_sequences, draw, sample_sequences


def test_sequences_take_equal_steps_round_their_cycle() -> None:
    for sequence in sample_sequences(200, 0):
        labels = sequence.cycle.labels
        places = [labels.index(label) for label in sequence.labels]
        steps = {(b - a) % len(labels) for a, b in pairwise(places)}
        assert steps == {sequence.step % len(labels)}
        assert 3 <= len(places) <= 5


def test_training_holds_no_three_pictures_in_a_row_that_are_held_out() -> None:
    trained = list(sample_sequences(3000, 1))
    triples = {tuple(s.labels[k : k + 3]) for s in trained for k in range(len(s.labels) - 2)}
    tested = {tuple(s.labels) for s in all_sequences(3, held_out=True)}
    assert not triples & tested
    assert {s.cycle.name for s in all_sequences(3, held_out=True)} == {c.name for c in CYCLES}
    assert len(tested) >= 30
    # Each picture and each step is learned all the same.
    for cycle in CYCLES:
        own = [s for s in trained if s.cycle == cycle]
        assert {label for s in own for label in s.labels} == set(cycle.labels)
        assert {s.step for s in own} == set(cycle.steps)


def test_the_cycles_are_real_ones() -> None:
    clock = next(c for c in CYCLES if c.name == "clock")
    assert clock.labels[:3] == ("one o’clock", "one-thirty", "two o’clock")
    for cycle in CYCLES:
        pictures = {draw(label, "noto").tobytes() for label in cycle.labels}
        assert len(pictures) == len(cycle.labels)


def test_sequences_of_one_seed_do_not_depend_on_how_many_are_drawn() -> None:
    few, many = list(sample_sequences(5, 3)), list(sample_sequences(50, 3))
    assert [s.labels for s in few] == [s.labels for s in many[:5]]


def test_edits_do_what_they_say() -> None:
    kinds = set()
    for edit in sample_edits(300, 0):
        before, after, words = edit.before, edit.after, edit.instruction.split()
        kinds.add(words[0])
        assert not before.held_out
        assert not after.held_out
        match words[0]:
            case "replace":
                gone = {before.first.name, before.second.name} - {
                    after.first.name,
                    after.second.name,
                }
                new = {after.first.name, after.second.name} - {
                    before.first.name,
                    before.second.name,
                }
                assert edit.instruction == f"replace {gone.pop()} with {new.pop()}"
                assert after.relation == before.relation
            case "swap":
                assert after == before.swapped
            case "put":
                assert edit.instruction == f"put {after.caption}"
                assert after.relation != before.relation
                assert (after.first, after.second) == (before.first, before.second)
    assert kinds == {"replace", "swap", "put"}


@pytest.mark.parametrize("seed", [0, 1])
def test_edits_for_testing_result_in_a_held_out_pair(seed: int) -> None:
    for edit in sample_edits(40, seed, held_out=True):
        assert edit.after.held_out
        assert not edit.before.held_out
        before, after = (render_scene(s, "noto") for s in (edit.before, edit.after))
        # The icon that stays has not moved: half of the picture is equal.
        halves = [(slice(None), slice(0, 32)), (slice(None), slice(32, 64)),
                  (slice(0, 32), slice(None)), (slice(32, 64), slice(None))]  # fmt: skip
        assert any(np.array_equal(before[h], after[h]) for h in halves)
