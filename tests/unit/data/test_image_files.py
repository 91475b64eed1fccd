"""Pictures on disk that are decoded, and cut to a box, when they are asked for."""

from pathlib import Path

import numpy as np
import pytest

from genvlm.data.images import Box, ImageFiles, save_image
from genvlm.errors import ImageError


@pytest.fixture
def picture(tmp_path: Path) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    save_image(pixels, tmp_path / "x.png")
    return pixels


def test_a_box_gives_its_part_of_the_picture(tmp_path: Path, picture: np.ndarray) -> None:
    boxes = [Box(2, 1, 3, 4), Box(0, 0, 8, 6), Box(7, 5, 1, 1)]
    files = ImageFiles([tmp_path / "x.png"] * 3, boxes=boxes)
    np.testing.assert_array_equal(files[0], picture[1:5, 2:5])
    np.testing.assert_array_equal(files[1], picture)
    np.testing.assert_array_equal(files[-1], picture[5:, 7:])
    np.testing.assert_array_equal(files[1:][1], picture[5:, 7:])


@pytest.mark.parametrize(
    "box",
    [Box(-1, 0, 2, 2), Box(0, -1, 2, 2), Box(7, 0, 2, 2), Box(0, 5, 2, 2), Box(0, 0, 0, 2)],
)
def test_a_box_that_is_not_within_the_picture_is_refused(
    tmp_path: Path, picture: np.ndarray, box: Box
) -> None:
    with pytest.raises(ImageError, match=rf"x\.png has 8x6 pixels, .*left {box.left}, top"):
        ImageFiles([tmp_path / "x.png"], boxes=[box])[0]


def test_boxes_are_as_many_as_pictures(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="1 pictures but 2 boxes"):
        ImageFiles([tmp_path / "x.png"], boxes=[Box(0, 0, 1, 1)] * 2)


def test_a_missing_picture_says_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"no picture at .*x\.png: fetch it"):
        ImageFiles([tmp_path / "x.png"], "fetch it", [Box(0, 0, 1, 1)])[0]
