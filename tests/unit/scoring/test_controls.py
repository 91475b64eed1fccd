import numpy as np
import pytest

from genvlm.errors import EvaluationError
from genvlm.scoring.controls import (
    CaptionTransferScorer,
    ConstantScorer,
    FormatScorer,
    LengthScorer,
    PixelNeighbourScorer,
    bigram_f1,
)
from genvlm.scoring.protocols import Grid


def plain(red: int, green: int, blue: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.broadcast_to(np.array([red, green, blue], np.uint8), (height, width, 3)).copy()


RED, GREEN, BLUE = plain(255, 0, 0), plain(0, 255, 0), plain(0, 0, 255)


def grid(images: list[np.ndarray], *texts: str) -> Grid:
    return Grid(item_id="item-3", images=images, texts=texts)


def test_text_controls_ignore_the_picture() -> None:
    grids = [grid([RED, GREEN], "A cat.", "a dog ", "birds")]
    for scorer in (ConstantScorer(), LengthScorer(), FormatScorer()):
        (scores,) = scorer.score(grids)
        assert scores.values.shape == (2, 3)
        assert scores.values.dtype == np.float64
        np.testing.assert_array_equal(scores.values[0], scores.values[1])


def test_constant_length_and_format_give_these_numbers() -> None:
    grids = [grid([RED], "A cat.", "a dog ", "birds", "Two  fish")]
    assert ConstantScorer().score(grids)[0].values.tolist() == [[0, 0, 0, 0]]
    assert LengthScorer().score(grids)[0].values.tolist() == [[-6, -6, -5, -9]]
    assert FormatScorer().score(grids)[0].values.tolist() == [[0, 2, 1, 1]]


def test_scorers_take_grids_of_different_sizes() -> None:
    grids = [grid([RED], "red", "green"), grid([GREEN, BLUE, RED], "blue"), grid([BLUE], "red")]
    references = ([RED, GREEN, BLUE], ["red", "green", "blue"])
    for scorer in (
        ConstantScorer(),
        PixelNeighbourScorer(*references),
        CaptionTransferScorer(*references),
    ):
        assert [s.values.shape for s in scorer.score(grids)] == [(1, 2), (3, 1), (1, 1)]
        assert scorer.score([]) == []


def test_pixel_distance_is_the_mean_square_to_the_nearest_of_that_caption() -> None:
    scorer = PixelNeighbourScorer([RED, BLUE, GREEN], ["warm", "cold", "cold"])
    (scores,) = scorer.score([grid([RED, plain(0, 255, 51)], "warm", "cold")])
    # Red to blue differs by 1 in two of three channels; (0, 1, 0.2) to green by 0.2 in one.
    expected = [[0.0, -2 / 3], [-(1 + 1 + 0.04) / 3, -0.04 / 3]]
    np.testing.assert_allclose(scores.values, expected, atol=1e-12)


def test_equal_pictures_tie_exactly() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    scorer = PixelNeighbourScorer([noise, noise], ["a", "b"])
    (scores,) = scorer.score([grid([noise, RED], "a", "b")])
    assert scores.values[0].tolist() == [0, 0]
    assert scores.values[1, 0] == scores.values[1, 1]


def test_pixel_distances_agree_with_the_plain_formula_over_many_references() -> None:
    rng = np.random.default_rng(1)
    pictures = list(rng.integers(0, 256, (600, 64, 64, 3), np.uint8))
    query = rng.integers(0, 256, (64, 64, 3), np.uint8)
    scorer = PixelNeighbourScorer(pictures, [str(k) for k in range(600)])
    (scores,) = scorer.score([grid([query], "0", "511", "512", "599")])
    plainly = [-np.mean((pictures[k] / 255 - query / 255) ** 2) for k in (0, 511, 512, 599)]
    np.testing.assert_allclose(scores.values[0], plainly, rtol=1e-10)


def test_pictures_of_any_size_are_fitted() -> None:
    scorer = PixelNeighbourScorer([RED, GREEN], ["red", "green"])
    (scores,) = scorer.score([grid([plain(250, 0, 0, 20, 30)], "red", "green")])
    assert scores.values[0, 0] > scores.values[0, 1]


def test_an_unknown_caption_names_its_item_and_the_mend() -> None:
    scorer = PixelNeighbourScorer([RED], ["red"])
    with pytest.raises(EvaluationError, match=r"item-3.*'mauve'.*CaptionTransferScorer"):
        scorer.score([grid([RED], "red", "mauve")])


def test_references_need_as_many_captions_as_pictures() -> None:
    with pytest.raises(EvaluationError, match="2 reference pictures and 1 captions"):
        PixelNeighbourScorer([RED, BLUE], ["red"])
    with pytest.raises(EvaluationError, match="0 reference pictures"):
        CaptionTransferScorer([], [])


def test_caption_transfer_scores_texts_against_the_nearest_caption() -> None:
    scorer = CaptionTransferScorer([RED, BLUE], ["tiger left of lemon", "lemon above star"])
    texts = ("tiger left of lemon", "lemon left of tiger", "lemon above cake")
    (scores,) = scorer.score([grid([plain(200, 0, 0), plain(0, 0, 200)], *texts)])
    assert scores.values[0, 0] == 1.0
    assert scores.values[0].argmax() == 0
    assert scores.values[1].argmax() == 2


def test_bigram_f1_gives_these_numbers() -> None:
    assert bigram_f1("tiger left of lemon", "Tiger left of lemon") == 1.0
    # Only "left of" is shared, of five bigrams each.
    assert bigram_f1("tiger left of lemon", "lemon left of tiger") == pytest.approx(0.2)
    assert bigram_f1("tiger", "lemon") == 0.0
    assert bigram_f1("", "") == 1.0


def test_fingerprints_follow_the_references() -> None:
    first, same, other = (
        PixelNeighbourScorer([RED, BLUE], captions).info.fingerprint
        for captions in (["a", "b"], ["a", "b"], ["b", "a"])
    )
    assert first == same != other
    fixed = {ConstantScorer.info.fingerprint, LengthScorer.info.fingerprint, first, other}
    assert len(fixed) == 4
