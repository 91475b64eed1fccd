"""Balls counted and located by their colours."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.data.physics.counting import MIN_AREA, ball_centres, count_balls
from genvlm.data.physics.drawing import BALL_COLOURS, draw
from genvlm.data.physics.scenes import sample_clips, sample_scene
from genvlm.data.physics.simulation import Ball, Scene, simulate


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_the_count_is_that_of_the_balls_of_which_enough_is_seen(number: int) -> None:
    scene = sample_scene(np.random.default_rng([1, 7, number]))
    for frame in draw(scene, simulate(scene, 25))[::6]:
        areas = [(frame == BALL_COLOURS[b.colour]).all(-1).sum() for b in scene.balls]
        assert count_balls(frame) == sum(area >= MIN_AREA for area in areas)


def test_the_count_survives_noise_in_the_colours() -> None:
    rng = np.random.default_rng(0)
    for clip in sample_clips(25, seed=1):
        frame = clip.render()[16]
        noisy = np.clip(frame + rng.normal(0, 15, frame.shape), 0, 255).astype(np.uint8)
        assert count_balls(noisy) == count_balls(frame)


def test_a_ball_in_two_pieces_counts_twice_and_a_crumb_not_at_all() -> None:
    frame = np.full((64, 64, 3), 240, np.uint8)
    frame[10:18, 10:18] = frame[10:18, 40:48] = BALL_COLOURS["red"]
    frame[50:52, 50:53] = BALL_COLOURS["blue"]
    assert count_balls(frame) == 2
    assert set(ball_centres(frame)) == {"red"}


def test_two_balls_that_touch_are_two() -> None:
    balls = (
        Ball(colour="red", radius=5, x=20.5, y=30.5),
        Ball(colour="yellow", radius=5, x=31.5, y=30.5),
    )
    frame = draw(Scene(balls=balls, tray=True), np.array([[[20.5, 30.5], [31.5, 30.5]]]))[0]
    assert count_balls(frame) == 2


def test_the_centre_is_the_pixel_that_the_ball_is_drawn_at() -> None:
    ball = Ball(colour="green", radius=4, x=20.7, y=30.2)
    frame = draw(Scene(balls=(ball,)), np.array([[[20.7, 30.2]]]))[0]
    assert ball_centres(frame) == {"green": (30.0, 20.0)}


def test_the_centre_is_that_of_the_largest_piece() -> None:
    frame = np.full((64, 64, 3), 240, np.uint8)
    frame[10:20, 10:20] = BALL_COLOURS["blue"]
    frame[40:44, 40:44] = BALL_COLOURS["blue"]
    assert ball_centres(frame) == {"blue": (14.5, 14.5)}
