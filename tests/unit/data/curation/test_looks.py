"""Pictures that look the same are found, others are told apart."""

import io

import numpy as np
import pytest
from PIL import Image

from genvlm.data.curation.looks import Alike, LookIndex, look_at
from genvlm.data.emoji import find_concept, load_drawings
from genvlm.data.images import RGBImage

ALIKE = Alike(max_distance=6, max_colour=16, mirrored=False)
LABELS = ("dog face", "cow", "red apple", "umbrella", "rocket", "house")


def drawing(label: str, side: int = 64) -> RGBImage:
    image = Image.fromarray(load_drawings("noto")[find_concept(label).index])
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def rescaled(image: RGBImage) -> RGBImage:
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width * 3 // 5, height * 3 // 5)))


def recompressed(image: RGBImage) -> RGBImage:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=60)
    return np.asarray(Image.open(buffer).convert("RGB"))


def shifted(image: RGBImage) -> RGBImage:
    return np.roll(np.pad(image, ((6, 6), (6, 6), (0, 0)), constant_values=255), (3, -4), (0, 1))


@pytest.mark.parametrize("change", [rescaled, recompressed, shifted])
@pytest.mark.parametrize("label", LABELS)
def test_a_changed_copy_looks_the_same(label: str, change) -> None:  # type: ignore[no-untyped-def]
    image = drawing(label, 128)
    assert ALIKE(look_at(image), look_at(change(image)))


def test_different_drawings_do_not_look_the_same() -> None:
    looks = [look_at(drawing(label)) for label in LABELS]
    assert not any(ALIKE(a, b) for i, a in enumerate(looks) for b in looks[:i])


def test_the_same_shape_in_another_colour_is_another_picture() -> None:
    red, green = (look_at(drawing(f"{colour} heart")) for colour in ("red", "green"))
    assert (red.whole.hash ^ green.whole.hash).bit_count() <= ALIKE.max_distance
    assert not ALIKE(red, green)


def test_pale_drawings_of_different_lines_do_not_look_the_same() -> None:
    # Every mean colour of thin lines is nearly white: within 16 levels of any other.
    grid, slope = np.full((2, 64, 64, 3), 255, np.uint8)
    grid[::16] = grid[:, ::16] = 200
    slope[np.arange(64), np.arange(64)] = 200
    loose = Alike(max_distance=15, max_colour=16, mirrored=False)
    assert not loose(look_at(grid), look_at(slope))


def test_mirrored_copies_are_found_only_when_asked_for() -> None:
    image = drawing("dog face")
    image = np.concatenate([image[:, :32], np.full_like(image[:, 32:], 255)], axis=1)
    look, mirrored = look_at(image), look_at(image[:, ::-1])
    assert not ALIKE(look, mirrored)
    assert Alike(max_distance=6, max_colour=16, mirrored=True)(look, mirrored)


def test_shape_of_the_picture_matters() -> None:
    image = drawing("house", 64)
    wide = np.asarray(Image.fromarray(image).resize((128, 64)))
    assert not ALIKE(look_at(image), look_at(wide))


def test_a_picture_of_one_colour_and_of_one_pixel_have_a_look() -> None:
    for shape in ((1, 1, 3), (1, 500, 3), (300, 300, 3)):
        image = np.full(shape, 77, np.uint8)
        assert ALIKE(look_at(image), look_at(image))


def test_the_index_finds_what_comparing_each_with_each_finds() -> None:
    rng = np.random.default_rng(0)
    base = look_at(drawing("rocket"))
    alike = Alike(max_distance=6, max_colour=255, mirrored=False)
    looks = []
    for _ in range(120):
        bits = rng.choice(64, rng.integers(0, 14), replace=False)
        flips = sum(1 << int(bit) for bit in bits)
        view = base.whole._replace(hash=base.whole.hash ^ flips)
        looks.append(base._replace(whole=view, content=view))
    index = LookIndex(alike)
    for number, look in enumerate(looks):
        expected = [n for n in range(number) if alike(look, looks[n])]
        assert list(index.find(look)) == expected
        index.add(number, look)
