"""Files of a user: what is read, and how each wrong one is named."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from genvlm.data.images import load_image, save_image
from genvlm.data.readers import read_captions, read_classes, read_documents, read_pairs
from genvlm.errors import DataError, ImageError


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size; its pixels would never fit into memory."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(13_000, 13_000), (8_001, 8_000), (2**30, 2)])
def test_a_bomb_is_refused_before_decoding(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(*size))
    with pytest.raises(ImageError, match="64 megapixels"):
        load_image(path)


def test_missing_empty_truncated_and_foreign_files_are_named(tmp_path):
    good = tmp_path / "good.png"
    save_image(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8), good)
    cases = {
        "missing.png": (None, "no picture at"),
        "empty.png": (b"", "is empty"),
        "cut.png": (good.read_bytes()[:900], "damaged or cut short"),
        "text.png": (b"not a picture", "not a picture"),
    }
    for name, (content, said) in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ImageError, match=said) as raised:
            load_image(path)
        assert name in str(raised.value)


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16", "CMYK", "RGB"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / "x.tiff"
    Image.new(mode, (5, 4)).save(path)
    assert load_image(path).shape == (4, 5, 3)


def test_transparency_is_laid_over_white(tmp_path):
    path = tmp_path / "x.png"
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(path)
    assert (load_image(path) == 255).all()


def test_pairs_take_paths_relative_to_their_file(tmp_path):
    (tmp_path / "captions.jsonl").write_text('{"image": "a.png", "text": "a cow"}\n\n')
    (pair,) = read_captions(tmp_path)
    assert (pair.image, pair.text) == (tmp_path / "a.png", "a cow")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"{", "line 1 is not JSON"),
        (b"[1]", "line 1 must be a JSON object"),
        (b'{"image": "a.png"}', "line 1: key 'text' is missing"),
        (b'{"image": "a.png", "text": " "}', "'text' is empty"),
        (b'{"image": 3, "text": "x"}', "'image'"),
        (
            b'{"id": "1", "image": "a", "text": "x"}\n{"id": "1", "image": "b", "text": "y"}',
            "line 2",
        ),
        (b'{"image": "a.png", "text": "\xff"}', "not valid UTF-8"),
    ],
)
def test_a_wrong_line_of_pairs_is_named(tmp_path, content, said):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as raised:
        read_pairs(path)
    assert "pairs.jsonl" in str(raised.value)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"id": "1", "segments": []}', "at least one segment"),
        ('{"id": "1", "segments": [{"video": "a.mp4"}]}', "a segment is"),
        ('{"id": "1", "segments": [{"text": "a", "image": "b"}]}', "a segment is"),
        ('{"id": "1", "segments": [{"text": "a"}], "loss": [1]}', "'loss'"),
        ('{"id": "1", "segments": [{"text": "a"}], "loss": [true, true]}', "'loss'"),
        ('{"segments": [{"text": "a"}]}', "'id'"),
    ],
)
def test_a_wrong_document_is_named(tmp_path, row, said):
    path = tmp_path / "documents.jsonl"
    path.write_text(row)
    with pytest.raises(DataError, match=said):
        read_documents(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [("cow\n", "at least two"), ("a\nb\na\n", "line 3"), ("a\n\nb\n", "line 2")],
)
def test_a_wrong_class_list_is_named(tmp_path, content, said):
    path = tmp_path / "classes.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        read_classes(path)
