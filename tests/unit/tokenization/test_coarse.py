"""Codes merged into coarser ones: the same encoder, fewer codes, nothing random."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.data.emoji import load_drawings
from genvlm.errors import ConfigError
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_video_tokenizer
from genvlm.tokenization.coarse import merge_codes, merge_video_codes
from genvlm.tokenization.image import load_image_tokenizer
from genvlm.tokenization.video import load_video_tokenizer

FINE = tiny_image_tokenizer(codebook_size=64)
FINE_VIDEO = tiny_video_tokenizer(codebook_size=64)
DRAWINGS = list(load_drawings("noto")[:40])


def test_a_coarse_tokenizer_has_fewer_codes_of_the_same_pictures() -> None:
    coarse = merge_codes(FINE, 5)
    codes = coarse.encode(DRAWINGS)
    assert coarse.config.codebook_size == 5
    assert coarse.grid == FINE.grid
    assert codes.shape == FINE.encode(DRAWINGS).shape
    assert set(np.unique(codes)) <= set(range(5))
    assert coarse.decode(codes).shape == (40, 16, 16, 3)


def test_every_old_code_is_nearest_to_the_mean_of_its_group() -> None:
    centres = merge_codes(FINE, 5).codebook
    groups = (FINE.codebook @ centres.T).argmax(1)
    assert groups.unique().tolist() == [0, 1, 2, 3, 4]
    for number, centre in enumerate(centres):
        mean = FINE.codebook[groups == number].mean(0)
        torch.testing.assert_close(mean / mean.norm(), centre)


def test_the_same_codebook_is_merged_into_the_same_one() -> None:
    torch.manual_seed(1)
    first = merge_codes(FINE, 7)
    torch.manual_seed(2)
    second = merge_codes(FINE, 7)
    assert first.fingerprint == second.fingerprint != FINE.fingerprint
    assert FINE.config.codebook_size == 64


def test_a_coarse_tokenizer_survives_its_folder(tmp_path: Path) -> None:
    coarse = merge_codes(FINE, 5)
    coarse.save(tmp_path)
    assert load_image_tokenizer(tmp_path).fingerprint == coarse.fingerprint


@pytest.mark.parametrize("num_codes", [64, 100])
def test_codes_cannot_be_merged_into_as_many(num_codes: int) -> None:
    with pytest.raises(ConfigError, match="64 codes cannot be merged into"):
        merge_codes(FINE, num_codes)
    with pytest.raises(ConfigError, match="64 codes cannot be merged into"):
        merge_video_codes(FINE_VIDEO, num_codes)


def test_codes_that_pictures_and_clips_share_are_merged_into_codes_that_they_share(
    tmp_path: Path,
) -> None:
    image, video = merge_codes(FINE, 5), merge_video_codes(FINE_VIDEO, 5)
    assert video.codebook_fingerprint == image.codebook_fingerprint != FINE.codebook_fingerprint
    first = np.concatenate(video.encode([drawing[None] for drawing in DRAWINGS]))
    np.testing.assert_array_equal(first, image.encode(DRAWINGS))
    assert len(np.unique(first)) > 1
    video.save(tmp_path)
    assert load_video_tokenizer(tmp_path).fingerprint == video.fingerprint
