"""Quadruplets of four laws: frames and pairs of frames alone know nothing of them."""

import numpy as np

from genvlm.data.physics.quadruplets import LAWS
from genvlm.evaluation.benchmarks.physics import CONTEXT, NUM_FRAMES, build_physics
from genvlm.evaluation.summary import summarize
from genvlm.evaluation.video_benchmark import run_video_benchmark
from genvlm.scoring.video_scorers import ConstantVideoScorer, FrameDifferenceScorer


def test_there_are_200_quadruplets_of_each_law_and_none_is_made_before_it_is_asked_for() -> None:
    benchmark = build_physics()
    assert len(benchmark.items) == 800
    assert benchmark.version == "1"
    assert {item.tags for item in benchmark.items} == {(law,) for law in LAWS}
    assert len({item.group for item in benchmark.items}) == 800
    assert build_physics(3, seed=5).version == "1+quadruplets=3+seed=5"


def test_twins_share_their_beginning_and_part_later() -> None:
    for item in build_physics(1).items:
        clips = item.load()
        assert len(clips) == 2
        for lawful, broken in clips:
            assert lawful.shape == broken.shape == (NUM_FRAMES, 64, 64, 3)
            np.testing.assert_array_equal(lawful[:CONTEXT], broken[:CONTEXT])
            assert (lawful != broken).any()


def test_frame_difference_and_constant_are_at_chance_in_every_law() -> None:
    benchmark = build_physics(5)
    controls = {"frame difference": FrameDifferenceScorer(CONTEXT)}
    records = run_video_benchmark(benchmark, ConstantVideoScorer(), controls)
    result = summarize(records, benchmark.card)
    table = result.controls.scores["frame difference"]
    for law in LAWS:
        assert table.categories[law]["quadruplet"].value == 50
        assert table.categories[law]["pair"].half == 50
    assert not any("confounded" in flag for flag in result.flags)
