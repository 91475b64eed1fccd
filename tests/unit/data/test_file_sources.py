"""Every layout ends in samples with decoded pictures, and damage in a count."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.config.data import (
    CaptionsSource,
    CocoSource,
    DataConfig,
    DocumentsSource,
    FileSource,
    FolderSource,
    KarpathySource,
    Mmc4Source,
    ObelicsSource,
    ParquetSource,
    WebDatasetSource,
)
from genvlm.config.diffusion import PairDataConfig
from genvlm.data.corpus import build_corpus
from genvlm.data.images import RGBImage
from genvlm.data.pairs import build_pairs
from genvlm.data.sources import read_source
from genvlm.data.tokenising import Tokenizers
from genvlm.errors import DataError
from genvlm.testing.files import picture_bytes, write_files, write_json_lines, write_tar
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_text_tokenizer

PICTURE = picture_bytes(40)


def _captions(folder: Path) -> FileSource:
    write_json_lines(folder / "captions.jsonl", [{"id": "x", "image": "a.png", "text": "grey"}])
    return CaptionsSource(path=str(folder))


def _documents(folder: Path) -> FileSource:
    segments = [{"text": "grey"}, {"image": "a.png"}]
    write_json_lines(folder / "d.jsonl", [{"id": "x", "segments": segments}])
    return DocumentsSource(path=str(folder / "d.jsonl"))


def _folder(folder: Path) -> FileSource:
    write_files(folder, {"a.txt": "grey"})
    return FolderSource(path=str(folder))


def _coco(folder: Path) -> FileSource:
    row = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 2, "image_id": 1, "caption": "grey"}],
    }
    path = write_json_lines(folder / "coco.json", [row])
    return CocoSource(annotations=str(path), images=str(folder))


def _karpathy(folder: Path) -> FileSource:
    image = {"filename": "a.png", "imgid": 1, "split": "train"}
    row = {"images": [image | {"sentences": [{"sentid": 2, "raw": "grey"}]}]}
    path = write_json_lines(folder / "karpathy.json", [row])
    return KarpathySource(annotations=str(path), images=str(folder))


def _webdataset(folder: Path) -> FileSource:
    path = write_tar(folder / "a.tar", [("x.png", PICTURE), ("x.txt", "grey")])
    return WebDatasetSource(paths=(str(path),))


def _parquet(folder: Path) -> FileSource:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.table({"image": [PICTURE], "text": ["grey"]}), folder / "a.parquet")
    return ParquetSource(paths=(str(folder / "a.parquet"),))


def _obelics(folder: Path) -> FileSource:
    write_json_lines(folder / "images.jsonl", [{"url": "http://a", "path": "a.png"}])
    row = {"texts": ["grey", None], "images": [None, "http://a"]}
    return ObelicsSource(path=str(write_json_lines(folder / "o.jsonl", [row])), images=str(folder))


def _mmc4(folder: Path) -> FileSource:
    info = [{"image_name": "a.png", "matched_text_index": 0}]
    path = write_json_lines(folder / "m.jsonl", [{"text_list": ["grey"], "image_info": info}])
    return Mmc4Source(path=str(path), images=str(folder))


LAYOUTS = (
    _captions, _documents, _folder, _coco, _karpathy, _webdataset, _parquet, _obelics, _mmc4,
)  # fmt: skip


@pytest.mark.parametrize("write", LAYOUTS)
def test_a_source_of_any_layout_gives_its_text_and_picture(
    tmp_path: Path, write: Callable[[Path], FileSource]
) -> None:
    write_files(tmp_path, {"a.png": PICTURE})
    (reading,) = read_source(write(tmp_path), "0-it")
    (picture,) = reading.visuals()
    expected = [0, "grey"] if write is _mmc4 else ["grey", 0]
    assert list(reading.sample.segments) == expected
    assert reading.sample.id.startswith("0-it-")
    assert np.array_equal(picture, np.full((4, 6, 3), 40, np.uint8))


def _damaged_tar(folder: Path, damaged: int = 3) -> FileSource:
    members: list[tuple[str, bytes | str]] = []
    for number in range(12):
        content = picture_bytes(20 * number)
        cut = content[:40] if number < damaged else content
        members += [(f"{number}.png", cut), (f"{number}.txt", f"red {number}")]
    return WebDatasetSource(paths=(str(write_tar(folder / "a.tar", members)),))


def _encode(pictures: list[RGBImage]) -> torch.Tensor:
    return torch.tensor([[[[float(np.mean(p))]]] for p in pictures])


def test_damaged_pictures_are_left_out_of_pairs_within_the_budget(tmp_path: Path) -> None:
    source = _damaged_tar(tmp_path)
    config = PairDataConfig(sources=(source,), max_bad_share=0.25)
    pairs = build_pairs(config, _encode, "key", None)
    assert pairs.samples[0].id == "0-webdataset-a.tar/3"
    assert len(pairs.samples) == 9
    assert build_pairs(config, _encode, "key", None).fingerprint == pairs.fingerprint
    with pytest.raises(DataError, match=r"3 of the first 12 samples .* 0\.2 allows.*0\.png is not"):
        build_pairs(PairDataConfig(sources=(source,), max_bad_share=0.2), _encode, "key", None)
    with pytest.raises(DataError, match=r"^.*a\.tar, 0\.png is not a picture"):
        build_pairs(PairDataConfig(sources=(source,)), _encode, "key", None)


def test_damaged_pictures_are_left_out_of_a_corpus_the_same_ones_each_time(tmp_path: Path) -> None:
    tokenizers = Tokenizers(text=tiny_text_tokenizer(), image=tiny_image_tokenizer())
    source = _damaged_tar(tmp_path)
    config = DataConfig(sources=(source,), max_bad_share=0.25)
    corpus = build_corpus(config, tokenizers, tmp_path / "cache")
    assert [corpus.id(i) for i in range(len(corpus))] == [
        f"0-webdataset-a.tar/{number}" for number in range(3, 12)
    ]
    assert build_corpus(config, tokenizers, None).fingerprint == corpus.fingerprint
    with pytest.raises(DataError, match=r"0\.png is not a picture"):
        build_corpus(DataConfig(sources=(source,)), tokenizers, None)


def test_a_clip_of_a_tar_is_refused_by_name(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.mp4", b"x"), ("1.txt", b"a clip")])
    (reading,) = read_source(WebDatasetSource(paths=(str(path),)), "0-webdataset")
    with pytest.raises(DataError, match=r"1\.mp4 is a video: read videos with a source of kind"):
        reading.visuals()
