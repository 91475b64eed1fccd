"""Surprise of single videos: what is cut and why, which frames a latent frame holds, a page."""

import json
from pathlib import Path

import numpy as np
import pytest

from genvlm.config.data import VideosSource
from genvlm.data.clips import read_clips
from genvlm.data.images import save_image
from genvlm.data.raw import Media
from genvlm.data.skipping import SkipBudget
from genvlm.errors import ConfigError, ModelError, VideoError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.video import score_video
from genvlm.studies.surprise import SurprisedBy, measure_files, measure_surprise, surprise_page
from genvlm.testing.tiny import tiny_pretrained


@pytest.fixture(scope="module")
def tiny() -> PretrainedModel:
    return tiny_pretrained(resolution=8, video=True)


def frames(num: int, side: int = 8) -> np.ndarray:
    return np.random.default_rng(num).integers(0, 256, (num, side, side, 3), np.uint8)


def test_a_video_is_cut_to_the_longest_beginning_that_fits_and_says_so(
    tiny: PretrainedModel,
) -> None:
    clip = frames(16)
    found = measure_surprise(tiny, "clip.mp4", clip, context=5)
    assert len(found.frames) == 13
    assert found.cut == "3 frames at its end do not fit the tokenizer"
    (score,) = score_video(tiny, [tiny.encode_video(clip[:13])], context=2)
    np.testing.assert_array_equal(found.score.log_probs, score.log_probs)
    whole = measure_surprise(tiny, "clip.mp4", frames(13), context=5)
    assert whole.cut == ""
    long = measure_surprise(tiny, "clip.mp4", frames(14), context=5, more=True)
    assert long.cut == (
        "1 frame at its end does not fit the tokenizer and only its first 14 frames were read"
    )


def test_latent_frames_say_which_frames_they_hold(tiny: PretrainedModel) -> None:
    found = measure_surprise(tiny, "clip.mp4", frames(13), context=5)
    assert found.spans == [(0, 0), (1, 4), (5, 8), (9, 12)]
    assert found.curve[:2] == [None, None]
    record = json.loads(json.dumps(found.to_json(tiny), allow_nan=False))
    assert [one["frames"] for one in record["latent_frames"]] == [[0, 0], [1, 4], [5, 8], [9, 12]]
    values = [one["nll"] for one in record["latent_frames"][2:]]
    assert sum(values) == pytest.approx(record["nll"])
    for one in record["latent_frames"][2:]:
        assert np.sum(one["regions"]) == pytest.approx(one["nll"], abs=1e-3)
    assert record["num_codes"] == 8
    assert found.heat.shape == (13, 2, 2)
    assert np.isnan(found.heat[:5]).all()
    np.testing.assert_allclose(found.heat[9].sum(), values[1], rtol=1e-6)
    np.testing.assert_array_equal(found.heat[9], found.heat[12])


def test_a_wide_video_is_cut_to_a_square_as_clips_of_training_are(
    tiny: PretrainedModel, tmp_path: Path
) -> None:
    (tmp_path / "wide").mkdir()
    for number in range(9):
        shades = np.arange(16) * 8 + number
        frame = np.broadcast_to(shades[:, None], (8, 16, 3)).astype(np.uint8)
        save_image(frame, tmp_path / f"wide/{number}.png")
    video = Media(kind="video", name="wide", path=tmp_path / "wide")
    (found,) = measure_files(tiny, [video], context=5)
    assert isinstance(found, SurprisedBy)
    source = VideosSource(path=str(tmp_path), num_frames=9)
    (clip,) = read_clips(source, SkipBudget())
    np.testing.assert_array_equal(found.frames, clip.frames)  # of the tokenizer's size already


def test_a_model_that_gives_nan_is_refused_and_surprises_nobody_by_0_nats() -> None:
    broken = tiny_pretrained(resolution=8, video=True)
    broken.model.embedding.weight.data.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"clip\.mp4: the log-probabilities .* not finite"):
        measure_surprise(broken, "clip.mp4", frames(13), context=5)


def test_without_its_pixels_a_video_is_told_of_as_before(tiny: PretrainedModel) -> None:
    found = measure_surprise(tiny, "clip.mp4", frames(16), context=5)
    unseen = found.unseen
    assert unseen.frames.nbytes == 0
    assert unseen.to_json(tiny) == found.to_json(tiny)
    assert unseen.cut == found.cut


def test_a_text_in_front_changes_what_is_a_surprise(tiny: PretrainedModel) -> None:
    alone, told = (
        measure_surprise(tiny, "clip.mp4", frames(13), context=5, text=text).score.total
        for text in (None, "a red square")
    )
    assert alone != told


def test_videos_too_short_and_contexts_that_do_not_fit_are_refused(tiny: PretrainedModel) -> None:
    with pytest.raises(VideoError, match=r"a\.gif has 8 frames, and a context of 5 needs 9"):
        measure_surprise(tiny, "a.gif", frames(8), context=5)
    with pytest.raises(ConfigError, match="7 frames do not fit"):
        measure_surprise(tiny, "a.gif", frames(13), context=7)


def test_the_page_plays_what_the_tokenizer_saw_and_names_what_was_left_out(
    tiny: PretrainedModel,
) -> None:
    wide = np.zeros((14, 8, 16, 3), np.uint8)
    found = measure_surprise(tiny, "<wide>.mp4", wide, context=5)
    assert found.frames.shape == (13, 8, 8, 3)
    assert (found.frames[:, 0] == 255).all()  # white bars of the square
    page = surprise_page([found], [("bad.mp4", "bad.mp4 is empty")], "tiny")
    assert "&lt;wide&gt;.mp4: 1 frame at its end does not fit" in page
    assert "bad.mp4 is empty" in page
    assert 'data-frames="13"' in page
    assert "heat map" in page
