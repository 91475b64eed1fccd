"""Damaged picture files and bombs: a picture or an ImageError, and never anything else."""

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from genvlm.data.images import decode_image
from genvlm.errors import ImageError
from genvlm.testing.fuzz import fuzz_images
from genvlm.testing.mutations import mutate_image


def test_every_damaged_picture_gives_a_picture_or_a_sentence_twice_the_same() -> None:
    report = fuzz_images(400, seed=3)
    assert report.passed, report.to_json()
    assert min(report.counts["picture"], report.counts["refused"]) >= 40


@pytest.mark.parametrize("number", [203, 577])
def test_tags_whose_numbers_are_of_a_wrong_kind_are_damage(number: int) -> None:
    # Pillow raises TypeError of these two: offsets of strips that are fractions.
    _, content = mutate_image(np.random.default_rng((1, number)))
    with pytest.raises(ImageError, match=r"x\.tif is damaged or cut short"):
        decode_image(content, "x.tif")


def test_a_picture_is_turned_though_its_other_tags_are_odd() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    exif[0x0100] = 1  # a width, as a number
    content = exif.tobytes()
    odd = content.replace(struct.pack("<HH", 0x0100, 4), struct.pack("<HH", 0x0100, 2))
    buffer = io.BytesIO()
    Image.new("RGB", (4, 2)).save(buffer, "JPEG", exif=odd)
    assert decode_image(buffer.getvalue(), "x.jpg").shape == (4, 2, 3)


def test_warnings_of_a_library_are_not_shown() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4), (3, 3, 3)).save(buffer, "TIFF", tiffinfo={270: "about the picture"})
    described = struct.pack("<HHI", 270, 2, 18)
    assert described in buffer.getvalue()
    damaged = buffer.getvalue().replace(described, struct.pack("<HHI", 270, 2, 1 << 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(damaged, "x.tif").tolist() == [[[3, 3, 3]] * 6] * 4


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_bytes_that_are_no_picture_are_named(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"a\.tar, 3\.png is (empty|not a picture)"):
        decode_image(content, "a.tar, 3.png")
