"""Motion: what the laws of mechanics say of each kind of body, and that it is reproducible."""

import sys

import numpy as np
import pytest

from genvlm.data.physics.simulation import (
    CONTAINER_ELASTICITY,
    FLOOR,
    FLOOR_ELASTICITY,
    GRAVITY,
    SIZE,
    WALL_WIDTH,
    Ball,
    Box,
    Container,
    Scene,
    Shelf,
    Wall,
    simulate,
)
from genvlm.errors import DataError

FRAMES = 33


def _on_floor(x: float, vx: float, radius: int = 4) -> Ball:
    return Ball(colour="red", radius=radius, x=x, y=FLOOR - radius - 0.5, vx=vx)


def test_a_ball_in_the_air_gains_the_same_speed_at_every_frame_and_none_sideways() -> None:
    ball = Ball(colour="red", radius=4, x=20, y=30, vx=1.3, vy=-2.0)
    track = simulate(Scene(balls=(ball,)), 16)[:, 0]
    np.testing.assert_allclose(np.diff(track[:, 1], n=2), GRAVITY, atol=1e-9)
    np.testing.assert_allclose(track[:, 0], 20 + 1.3 * np.arange(16), atol=1e-9)


def test_a_rolling_ball_keeps_its_speed_and_its_height() -> None:
    track = simulate(Scene(balls=(_on_floor(-8, 2.3),)), FRAMES)[:, 0]
    np.testing.assert_allclose(track[:, 0], -8 + 2.3 * np.arange(FRAMES), atol=1e-6)
    assert len(set(np.floor(track[:, 1]))) == 1


def test_a_ball_rises_after_the_floor_to_the_share_that_elasticity_leaves() -> None:
    ball = Ball(colour="red", radius=4, x=30, y=12)
    heights = FLOOR - ball.reach - simulate(Scene(balls=(ball,)), 45)[:, 0, 1]
    hit = int(np.argmin(heights[:25]))
    assert heights[hit] < 2
    assert heights[hit:].max() / heights[0] == pytest.approx(FLOOR_ELASTICITY**2, abs=0.05)


def test_balls_that_collide_keep_their_momentum_and_separate_as_fast_as_they_met() -> None:
    balls = (_on_floor(5, 2.5, radius=5), _on_floor(50, -2.0, radius=5))
    speeds = np.diff(simulate(Scene(balls=balls), FRAMES)[..., 0], axis=0)
    np.testing.assert_allclose(speeds.sum(1), 0.5, atol=1e-3)
    np.testing.assert_allclose(speeds[-1], [-2.0, 2.5], atol=1e-3)


def test_the_heavier_of_two_balls_is_pushed_less() -> None:
    balls = (
        Ball(colour="red", radius=4, x=12, y=32, vx=2.0),
        Ball(colour="blue", radius=5, x=44, y=32),
    )
    speeds = np.diff(simulate(Scene(balls=balls, tray=True), 20)[..., 0], axis=0)
    masses = np.array([4.5**2, 5.5**2])
    np.testing.assert_allclose(speeds @ masses, 2.0 * masses[0], rtol=1e-6)
    expected = 2.0 * np.array([masses[0] - masses[1], 2 * masses[0]]) / masses.sum()
    np.testing.assert_allclose(speeds[-1], expected, atol=1e-3)


@pytest.mark.parametrize(("elasticity", "after"), [(1.0, -2.0), (0.0, 0.0)])
def test_a_wall_returns_a_ball_or_stops_it_and_never_lets_it_through(
    elasticity: float, after: float
) -> None:
    scene = Scene(
        balls=(_on_floor(6, 2.0),), walls=(Wall(left=40, height=30, elasticity=elasticity),)
    )
    track = simulate(scene, FRAMES)[:, 0, 0]
    assert track.max() + 4.5 < 40 + WALL_WIDTH / 2
    assert np.diff(track)[-1] == pytest.approx(after, abs=0.02)


def test_friction_slows_a_box_evenly_until_it_stops() -> None:
    scene = Scene(boxes=(Box(colour="pink", size=9, x=10, vx=3.0, friction=0.5),))
    speeds = np.diff(simulate(scene, 40)[:, 0, 0])
    slowing = np.diff(speeds)
    np.testing.assert_allclose(slowing[1:20], -0.5 * GRAVITY, rtol=0.02)
    assert abs(speeds[-5:]).max() < 1e-3


def test_a_ball_dropped_into_a_container_comes_to_rest_in_it() -> None:
    box = Container(left=20, width=20, height=16)
    ball = Ball(colour="red", radius=4, x=29, y=10)
    track = simulate(Scene(balls=(ball,), containers=(box,)), 60)[:, 0]
    assert CONTAINER_ELASTICITY < FLOOR_ELASTICITY
    assert np.ptp(track[-10:, 1]) < 0.5
    assert box.left + 4.5 < track[-1, 0] < box.left + box.width - 4.5
    assert track[-1, 1] == pytest.approx(FLOOR - 2 - 4.5, abs=0.3)


def test_nothing_in_a_tray_gains_or_loses_energy() -> None:
    balls = (
        Ball(colour="red", radius=4, x=20, y=20, vx=2.0, vy=-1.0),
        Ball(colour="blue", radius=5, x=44, y=40, vx=-1.5, vy=0.7),
    )
    velocities = np.diff(simulate(Scene(balls=balls, tray=True), 80), axis=0)
    energies = (np.square(velocities).sum(-1) * [4.5**2, 5.5**2]).sum(-1)
    assert energies[-20:].max() == pytest.approx(energies[0], rel=0.02)
    assert np.median(energies) == pytest.approx(energies[0], rel=0.02)


def test_a_ball_on_a_shelf_stays_there() -> None:
    scene = Scene(
        balls=(Ball(colour="red", radius=5, x=7.5, y=15 - 5.5),),
        shelves=(Shelf(left=0, width=14, top=15),),
    )
    assert np.ptp(simulate(scene, FRAMES), axis=0).max() < 0.2


def test_a_mirrored_scene_moves_in_the_mirror() -> None:
    scene = Scene(
        balls=(_on_floor(-3, 2.9),),
        walls=(Wall(left=30, height=35),),
        boxes=(Box(colour="pink", size=9, x=50, vx=1.0),),
    )
    tracks, mirrored = simulate(scene, FRAMES), simulate(scene.mirrored, FRAMES)
    np.testing.assert_allclose(mirrored[..., 0], SIZE - tracks[..., 0], atol=1e-6)
    np.testing.assert_allclose(mirrored[..., 1], tracks[..., 1], atol=1e-6)
    assert scene.mirrored.mirrored == scene


def test_without_pymunk_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymunk", None)
    with pytest.raises(DataError, match=r"need pymunk: pip install 'genvlm\[physics\]'"):
        simulate(Scene(), 2)
