"""Pictures on disk that are decoded, and cut to a box, when they are asked for."""

from pathlib import Path

import numpy as np
import pytest

from genvlm.data.images import Box, ImageFiles, picture_path, save_image
from genvlm.errors import DataError, ImageError


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


@pytest.mark.parametrize(
    "name", ["../x.png", "a/../../x.png", "/etc/x.png", "link.png", "up/x.png"]
)
def test_a_name_of_a_picture_leads_into_its_folder_alone(
    tmp_path: Path, picture: np.ndarray, name: str
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "x.png")
    (folder / "up").symlink_to(tmp_path)
    with pytest.raises(
        DataError, match=r"^row 3: the picture '.*' (must be a path inside|is a link)"
    ):
        picture_path(folder, name, "row 3")


def test_links_within_the_folder_are_followed(tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "same.png").symlink_to(tmp_path / "x.png")
    path = picture_path(tmp_path, "same.png", "row 3")
    np.testing.assert_array_equal(ImageFiles([path])[0], picture)
    with pytest.raises(DataError, match=r"row 3: .* is no name of a picture"):
        picture_path(tmp_path, "a\0.png", "row 3")
