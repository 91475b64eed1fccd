"""Windows over the latent frames of a video."""

import pytest

from genvlm.errors import TokenError
from genvlm.tokenization.windows import frames_that_fit, window_frames


def test_everything_before_is_read_while_it_fits() -> None:
    assert window_frames(0, most=4) == ()
    assert window_frames(3, most=4) == (0, 1, 2)


def test_the_first_frame_stays_and_the_latest_slide() -> None:
    assert window_frames(4, most=4) == (0, 2, 3)
    assert window_frames(9, most=4) == (0, 7, 8)
    assert window_frames(9, most=3) == (0, 8)


@pytest.mark.parametrize("most", [3, 4, 7])
def test_what_is_read_and_what_is_predicted_fill_the_context_and_no_more(most: int) -> None:
    for frame in range(most, 3 * most):
        assert len(window_frames(frame, most)) + 1 == most


def test_a_window_without_room_for_the_frame_before_is_refused() -> None:
    assert window_frames(1, most=2) == (0,)
    with pytest.raises(TokenError, match="room for 3"):
        window_frames(2, most=2)


def test_a_document_of_as_many_frames_as_fit_is_no_longer_than_the_context() -> None:
    for length in range(10, 60):
        num = frames_that_fit(length, num_text_tokens=3, codes_per_frame=4)
        assert 4 + 3 + 4 * num <= length < 4 + 3 + 4 * (num + 1)
    assert frames_that_fit(5, num_text_tokens=3, codes_per_frame=4) == 0
