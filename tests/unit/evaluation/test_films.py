"""Clips that play in a page: every pixel is in it, curves and cursor are by frame."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from genvlm.errors import EvaluationError
from genvlm.evaluation.blocks import Section
from genvlm.evaluation.films import Film, Films, heat_sheet, sheet
from genvlm.evaluation.report import render_report

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
SPANS = [(0, 0), (1, 4)]


def cell(found: np.ndarray, number: int, columns: int = 3) -> np.ndarray:
    """The frame of this number, as the page shows it."""
    top, left = 4 * (number // columns), 6 * (number % columns)
    return found[top : top + 4, left : left + 6]


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_sheet_holds_every_frame_pixel_for_pixel_row_by_row() -> None:
    block = Films([Film(FRAMES, "clip")])
    assert (block.columns, block.rows) == (3, 2)
    found = pixels(sheet(block.films[0], block.columns))
    assert found.shape == (8, 18, 3)
    for number, frame in enumerate(FRAMES):
        np.testing.assert_array_equal(cell(found, number), frame)


@pytest.mark.parametrize("num", [1, 2, 4, 5, 9, 33, 257])
def test_a_sheet_is_about_as_wide_as_high_and_has_a_place_for_every_frame(num: int) -> None:
    block = Films([Film(np.zeros((num, 1, 1, 3), np.uint8), "clip")])
    assert num <= block.columns * block.rows < num + block.columns
    assert block.rows <= block.columns <= block.rows + 1


def test_heat_is_clear_where_nothing_is_known_and_grows_with_surprise() -> None:
    heat = np.array([[[np.nan, 0.0], [1.0, 2.0]]] * 5)
    block = Films([Film(FRAMES, "clip", (), heat)])
    assert block.hottest == 2.0
    alpha = pixels(heat_sheet(block.films[0], block.columns, block.hottest))[:2, :2, 3]
    assert alpha[0].tolist() == [0, 0]
    assert 0 < alpha[1, 0] < alpha[1, 1] < 255
    np.testing.assert_allclose(2 * alpha[1, 0], alpha[1, 1], atol=1)


def test_a_curve_has_a_level_for_each_span_and_a_gap_where_nothing_is_known() -> None:
    spans = [(0, 0), (1, 2), (3, 4)]
    (line,) = Films([Film(FRAMES, "clip", (None, 7.0, 9.0))], "", spans).lines
    places = [tuple(map(float, p.split())) for p in re.split("[ML]", line.path)[1:]]
    block = Films([Film(FRAMES, "clip", (None, 7.0, 9.0))], "", spans)
    left = block.box[2]
    np.testing.assert_allclose(
        [x for x, _ in places], [left + f * block.step for f in (1, 3, 3, 5)], atol=0.06
    )
    assert places[0][1] == places[1][1] > places[2][1] == places[3][1]  # more is higher up
    gap = Films([Film(FRAMES, "clip", (7.0, None, 9.0))], "", spans).lines[0].path
    assert gap.count("M") == 2


def test_a_page_holds_clips_curves_and_a_player_and_loads_nothing() -> None:
    heat = np.ones((5, 2, 2))
    block = Films(
        [Film(FRAMES, "<lawful>", (None, 3.0), heat), Film(FRAMES, "broken", (None, 4.0))],
        "two & two",
        SPANS,
        "nats",
        good=False,
    )
    page = render_report("films", sections=[Section("Playing", [block])])
    assert "&lt;lawful&gt;" in page
    assert "<lawful>" not in page
    assert "two &amp; two" in page
    assert page.count("data:image/png;base64") == 3
    (first, *_) = re.findall(r"background-image:url\(data:image/png;base64,([^)]*)\)", page)
    np.testing.assert_array_equal(cell(pixels(base64.b64decode(first)), 4), FRAMES[4])
    assert 'data-frames="5"' in page
    assert page.count('class="line-') == 2
    assert 'max="4"' in page
    assert not re.search(r"https?://", page)


def test_films_that_do_not_play_together_are_refused() -> None:
    with pytest.raises(EvaluationError, match="all of as many frames"):
        Films([Film(FRAMES, "a"), Film(FRAMES[:3], "b")])
    with pytest.raises(EvaluationError, match="2 values of 'a' for 0 spans"):
        Films([Film(FRAMES, "a", (1.0, 2.0))])
    with pytest.raises(EvaluationError, match="'a' is not finite"):
        Films([Film(FRAMES, "a", (1.0, float("nan")))], "", SPANS)
    with pytest.raises(EvaluationError, match="heat map of shape"):
        Film(FRAMES, "a", (), np.ones((4, 2, 2)))
    with pytest.raises(EvaluationError, match="expected uint8"):
        Film(FRAMES.astype(float), "a")
