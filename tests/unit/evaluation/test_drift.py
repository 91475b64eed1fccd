"""Drift of a continued video: divergences of codes and of pixels."""

import math
import re

import numpy as np
import pytest

from genvlm.errors import EvaluationError
from genvlm.evaluation.drift import frame_psnr, js_divergence, latent_shifts
from genvlm.evaluation.frame_plots import FrameCurve, FramePanel, frame_curves


def test_the_divergence_is_zero_of_equal_histograms_and_ln_two_of_disjoint_ones() -> None:
    codes = np.array([[3, 3], [900, 5]])
    assert js_divergence(codes, codes.T) == 0
    assert js_divergence(codes, np.concatenate([codes, codes])) == pytest.approx(0)
    assert js_divergence(codes, codes + 1000) == pytest.approx(math.log(2))


def test_the_divergence_follows_its_formula_and_has_no_order() -> None:
    """(1/4, 3/4) and (1, 0): half of KL to the middle (5/8, 3/8) each."""
    first, second = np.array([0, 1, 1, 1]), np.array([0, 0])
    middle = np.array([5 / 8, 3 / 8])
    expected = (
        1 / 4 * math.log((1 / 4) / middle[0]) + 3 / 4 * math.log((3 / 4) / middle[1])
    ) / 2 + math.log(1 / middle[0]) / 2
    assert js_divergence(first, second) == pytest.approx(expected)
    assert js_divergence(second, first) == pytest.approx(expected)


def test_each_latent_frame_is_held_against_all_of_the_reference() -> None:
    reference = np.array([[[0, 0], [1, 1]], [[0, 0], [1, 1]]])
    shifts = latent_shifts(np.array([[[1, 0], [1, 0]], [[7, 8], [9, 7]]]), reference)
    assert shifts == pytest.approx([0, math.log(2)])


def test_psnr_is_of_each_frame_and_equal_frames_have_that_of_rounding() -> None:
    truth = np.full((3, 4, 4, 3), 100, np.uint8)
    frames = truth.copy()
    frames[1] += 10
    frames[2, 0, 0] = 255
    squared = 155**2 / 16
    expected = [10 * math.log10(255**2 * 12), 20 * math.log10(25.5),
                10 * math.log10(255**2 / squared)]  # fmt: skip
    assert frame_psnr(frames, truth) == pytest.approx(expected)


def test_a_plot_over_frames_names_its_curves_and_is_the_same_again() -> None:
    curves = [
        FrameCurve("drawn", [1.0, float("nan"), 2.0], "#3355cc"),
        FrameCurve("not named", [1.0, 2.0], "#3355cc", faint=True),
    ]
    panels = [FramePanel("nats per code", curves, 3, "latent frame")] * 2
    svg = frame_curves(panels)
    assert svg == frame_curves(panels)
    assert svg.count(b">nats per code<") == svg.count(b">drawn<") == 2
    assert b"not named" not in svg
    with pytest.raises(EvaluationError, match="at least one panel"):
        frame_curves([])


def test_one_latent_frame_stands_above_its_whole_number() -> None:
    svg = frame_curves([FramePanel("nats", [FrameCurve("drawn", [80.0], "#3355cc")], 3)])
    below = svg.split(b">frame<")[0]
    assert re.findall(rb">([234][^<]*)<", below) == [b"2", b"3", b"4"]
