"""Moving emoji: the pixels move as the caption says, and held-out pairs never leak."""

import numpy as np
import pytest

from genvlm.data.emoji import find_concept
from genvlm.data.moving_emoji import (
    DIRECTIONS,
    ICON_SIZE,
    MAX_FRAMES,
    is_held_out,
    sample_moving_emoji,
)
from genvlm.data.scenes import ICONS, SIZE, draw_icon
from genvlm.errors import DataError


def _centres(frames: np.ndarray) -> np.ndarray:
    """Mean (row, column) of what is not white, for each frame."""
    return np.array([np.argwhere((frame < 250).any(-1)).mean(0) for frame in frames])


def test_the_drawing_moves_at_one_speed_in_the_captions_direction_and_stays_whole() -> None:
    for clip in sample_moving_emoji(40, seed=0):
        frames = clip.render("noto")
        assert frames.shape == (17, SIZE, SIZE, 3)
        steps = np.diff(_centres(frames), axis=0)
        expected = np.array(DIRECTIONS[clip.direction]) * clip.speed
        np.testing.assert_allclose(steps, np.broadcast_to(expected, steps.shape), atol=1e-9)
        assert clip.caption.endswith(f" moves {clip.direction}")


def test_what_moves_is_the_drawing_that_the_caption_names() -> None:
    for clip in sample_moving_emoji(10, seed=1):
        top, left = clip.corner
        shown = clip.render("twemoji")[0, top : top + ICON_SIZE, left : left + ICON_SIZE]
        np.testing.assert_array_equal(shown, draw_icon(clip.icon.label, "twemoji", ICON_SIZE))
        assert clip.caption.startswith(f"the {clip.icon.name} ")


def test_training_and_testing_share_drawings_and_directions_but_no_pair() -> None:
    training = {(c.icon, c.direction) for c in sample_moving_emoji(600, seed=0)}
    testing = {(c.icon, c.direction) for c in sample_moving_emoji(200, seed=0, held_out=True)}
    assert not training & testing
    assert {icon for icon, _ in testing} <= {icon for icon, _ in training}
    for kept in (training, testing):
        assert {direction for _, direction in kept} == set(DIRECTIONS)
    assert len(testing) == sum(is_held_out(i, d) for i in ICONS for d in DIRECTIONS) > 10


def test_all_drawings_are_of_training_families() -> None:
    assert not any(find_concept(icon.label).held_out for icon in ICONS)


def test_a_clip_depends_on_seed_and_number_alone() -> None:
    clips = list(sample_moving_emoji(8, seed=2))
    assert clips[:3] == list(sample_moving_emoji(3, seed=2))
    assert clips != list(sample_moving_emoji(8, seed=3))


def test_the_longest_clip_still_shows_the_whole_drawing_and_a_longer_one_is_refused() -> None:
    (clip,) = sample_moving_emoji(1, seed=0, num_frames=MAX_FRAMES)
    assert len(clip.render("noto")) == MAX_FRAMES
    with pytest.raises(DataError, match=f"choose num_frames of at most {MAX_FRAMES}"):
        next(sample_moving_emoji(1, seed=0, num_frames=MAX_FRAMES + 1))
