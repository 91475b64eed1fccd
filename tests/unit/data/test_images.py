"""Decoding of pictures: what colours come out, and what is refused before a pixel is decoded."""

import io
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genvlm.data import images
from genvlm.data.images import FORMATS, load_image, save_image
from genvlm.errors import ImageError

GREY, GREY_ALPHA, RGB = 0, 4, 2


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(size: tuple[int, int], depth: int, colour: int, pixels: bytes, *chunks: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    body = [_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def _load(tmp_path: Path, content: bytes) -> np.ndarray:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    return load_image(path)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held turned: show it a quarter turn clockwise
    Image.fromarray(np.rot90(upright, 1)).save(tmp_path / "x.jpg", exif=exif, quality=100)
    loaded = load_image(tmp_path / "x.jpg")
    assert loaded.shape == (8, 16, 3)
    assert np.abs(loaded.astype(int) - upright).max() < 10


def test_a_whole_bomb_is_refused_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 13_000
    pixels = zlib.compress(bytes((side // 8 + 1) * side), 1)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"x\.png has 13000x13000 pixels.*64 megapixels"):
        _load(tmp_path, _png((side, side), 1, GREY, pixels))


@pytest.mark.parametrize("size", [(8_001, 8_000), (1, 64_000_001), (64_000_001, 1)])
def test_one_pixel_over_the_limit_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="64 megapixels"):
        _load(tmp_path, _png(size, 8, GREY, b"no pixels"))


def test_the_limit_itself_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 12)
    save_image(np.zeros((3, 4, 3), np.uint8), tmp_path / "4x3.png")
    save_image(np.zeros((1, 13, 3), np.uint8), tmp_path / "13x1.png")
    assert load_image(tmp_path / "4x3.png").shape == (3, 4, 3)
    with pytest.raises(ImageError):
        load_image(tmp_path / "13x1.png")


def test_a_saved_picture_is_read_back_exactly(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    save_image(picture, tmp_path / "x.png")
    assert np.array_equal(load_image(tmp_path / "x.png"), picture)


def test_grey_keeps_its_levels_in_8_and_16_bits(tmp_path: Path) -> None:
    levels = np.array([[0, 1, 127, 128, 255]], np.uint8)
    Image.fromarray(levels).save(tmp_path / "8.png")
    Image.fromarray(levels.astype(np.uint16) * 257).save(tmp_path / "16.png")
    expected = np.repeat(levels[..., None], 3, axis=-1)
    assert np.array_equal(load_image(tmp_path / "8.png"), expected)
    assert np.array_equal(load_image(tmp_path / "16.png"), expected)


def test_colours_of_16_bits_keep_their_levels(tmp_path: Path) -> None:
    pixels = zlib.compress(b"\0" + struct.pack(">6H", 0xFFFF, 0x8000, 0, 0x1234, 0, 0xFF00))
    loaded = _load(tmp_path, _png((2, 1), 16, RGB, pixels))
    assert loaded.tolist() == [[[255, 128, 0], [18, 0, 255]]]


def test_transparent_levels_of_16_bit_grey_are_white(tmp_path: Path) -> None:
    pixels = zlib.compress(b"\0" + struct.pack(">2H", 0x8000, 0x1234))
    transparent = _chunk(b"tRNS", struct.pack(">H", 0x1234))
    loaded = _load(tmp_path, _png((2, 1), 16, GREY, pixels, transparent))
    assert loaded[0, :, 0].tolist() == [128, 255]


def test_half_transparency_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "rgba.png")
    Image.new("LA", (2, 2), (0, 128)).save(tmp_path / "la.png")
    for name in ("rgba.png", "la.png"):
        assert np.abs(load_image(tmp_path / name).astype(int) - 127).max() <= 1


def test_a_palette_keeps_its_colours_and_its_transparent_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 9, 9, 9])
    image.putdata([0, 1, 2])
    image.save(tmp_path / "p.png")
    image.save(tmp_path / "clear.png", transparency=2)
    assert load_image(tmp_path / "p.png").tolist() == [[[255, 0, 0], [0, 0, 255], [9, 9, 9]]]
    assert load_image(tmp_path / "clear.png")[0, 2].tolist() == [255, 255, 255]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_32_bit_grey_is_refused_rather_than_clipped(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.ones((2, 2), dtype)).save(tmp_path / "x.tiff")
    with pytest.raises(ImageError, match="8 or 16 bits"):
        load_image(tmp_path / "x.tiff")


def test_a_folder_and_a_name_longer_than_allowed_are_missing_pictures(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / ("a caption in place of a path " * 20)):
        with pytest.raises(ImageError, match="no picture at"):
            load_image(path)


def test_a_format_that_would_start_another_program_is_not_read(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.eps")
    with pytest.raises(ImageError, match="not a picture that can be read"):
        load_image(tmp_path / "x.eps")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow remarks on damaged TIFF tags
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_gives_a_picture_or_an_image_error(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format=kind)
    whole, draw = buffer.getvalue(), random.Random(0)
    for _ in range(150):
        damaged = bytearray(whole[: draw.randrange(1, len(whole) + 1)])
        for _ in range(draw.randrange(4)):
            damaged[draw.randrange(min(len(damaged), 120))] = draw.randrange(256)
        (tmp_path / "x").write_bytes(damaged)
        loaded = _load_or_none(tmp_path / "x")
        assert loaded is None or (loaded.dtype == np.uint8 and loaded.shape[2:] == (3,))


def _load_or_none(path: Path) -> np.ndarray | None:
    """Any other error than ImageError fails the test."""
    try:
        return load_image(path)
    except ImageError:
        return None
