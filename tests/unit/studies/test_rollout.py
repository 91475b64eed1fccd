"""Continuations of a clip with their drift, and of balls with their number."""

from pathlib import Path

import numpy as np
import pytest

from genvlm.data.physics.counting import ball_centres, count_balls
from genvlm.data.physics.drawing import BALL_COLOURS
from genvlm.data.physics.scenes import sample_counting_clips
from genvlm.errors import ConfigError, VideoError
from genvlm.evaluation.drift import frame_psnr, js_divergence
from genvlm.generation.sampling import SamplingSettings
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.video import score_video
from genvlm.studies.physics_rollout import COPY, LINE, MODEL, judge, moved_on, roll_physics
from genvlm.studies.physics_rollout_page import write_physics_rollout
from genvlm.studies.rollout import Continuation, check_lengths, continue_clip, read_clip
from genvlm.testing.tiny import tiny_pretrained, tiny_video_tokenizer
from genvlm.testing.videos import video_bytes

LENGTHS = {"num_context": 5, "num_frames": 8}


@pytest.fixture(scope="module")
def pretrained() -> PretrainedModel:
    return tiny_pretrained(resolution=8, context_length=40, video=True)


def clip_of(num_frames: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (num_frames, 8, 8, 3), dtype=np.uint8)


def continued(pretrained: PretrainedModel, num_frames: int) -> Continuation:
    return continue_clip(
        pretrained, clip_of(num_frames), SamplingSettings(), **LENGTHS, num=2, seed=0, text="red"
    )


def test_drift_is_measured_against_the_truth_as_far_as_it_goes(
    pretrained: PretrainedModel,
) -> None:
    """11 frames are two latent frames of context, one of truth, and two frames behind it."""
    clip, found = clip_of(11), continued(pretrained, 11)
    assert [s.shape for s in found.samples] == [(13, 8, 8, 3)] * 2
    codes = pretrained.encode_video(clip[:9])
    for sample, rollout, frames in zip(
        found.drift["samples"], found.rollouts, found.samples, strict=True
    ):
        assert np.array_equal(rollout.codes[:2], codes[:2])
        assert sample["nll_per_code"] == pytest.approx(-rollout.log_probs.mean((1, 2)))
        assert sample["js_to_context"] == [js_divergence(c, codes[:2]) for c in rollout.codes[2:]]
        assert sample["js_to_truth"] == [js_divergence(rollout.codes[2], codes[2])]
        assert sample["psnr"] == frame_psnr(frames[5:11], clip[5:])
    truth = found.drift["truth"]
    score = score_video(pretrained, [codes], context=2, texts=["red"])[0]
    assert truth["nll_per_code"] == pytest.approx([-score.log_probs[2].mean()])
    assert truth["js_to_context"] == [js_divergence(codes[2], codes[:2])]
    assert truth["copy_psnr"] == frame_psnr(np.stack([clip[4]] * 6), clip[5:])
    assert len(truth["reconstruction_psnr"]) == 4


def test_what_a_clip_shows_behind_the_context_changes_no_continuation(
    pretrained: PretrainedModel,
) -> None:
    long, short = continued(pretrained, 13), continued(pretrained, 5)
    assert all(map(np.array_equal, long.samples, short.samples))
    assert short.drift["truth"] is None
    assert short.drift["samples"][0]["psnr"] == []


def test_lengths_that_do_not_fit_are_refused_with_the_nearest_that_do() -> None:
    config = tiny_video_tokenizer().config
    check_lengths(config, 9, 48)
    for lengths, said in [
        ((10, 48), "context: 10 frames .* 9 or 13"),
        ((9, 50), "50 frames cannot .* 48 or 52"),
        ((9, 3), "3 frames cannot .* ask for 4$"),
    ]:
        with pytest.raises(ConfigError, match=said):
            check_lengths(config, *lengths)


def test_a_file_gives_its_context_and_as_much_truth_as_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(video_bytes(num_frames=6))
    clip = read_clip(path, 8, num_context=3, num_frames=2)
    assert (clip.frames.shape, clip.frames_per_second) == ((5, 8, 8, 3), 10)
    slow = read_clip(path, 8, num_context=2, num_frames=8, frames_per_second=5)
    assert (slow.frames.shape, slow.frames_per_second) == ((3, 8, 8, 3), 5)
    with pytest.raises(VideoError, match=r"has 6 frames, fewer than the 9 of the context"):
        read_clip(path, 8, num_context=9, num_frames=4)


def test_balls_moved_on_go_straight_and_uncover_the_background() -> None:
    for clip in sample_counting_clips(4, seed=3, num_frames=9):
        context = clip.render()
        frames = moved_on(context, 3)
        before, last = ball_centres(context[-4]), ball_centres(context[-1])
        assert np.array_equal(frames[:9], context)
        assert count_balls(frames[9]) == len(clip.scene.balls)
        for colour, found in ball_centres(frames[11]).items():
            straight = np.add(last[colour], np.subtract(last[colour], before[colour]))
            assert np.abs(np.subtract(found, straight)).max() < 2  # or it leaves the picture


def test_the_truth_keeps_its_balls_where_they_are_and_a_copy_only_their_number() -> None:
    clips = list(sample_counting_clips(6, seed=1, num_frames=17))
    truth = [clip.render() for clip in clips]
    fate = judge(clips, truth, truth, 9)
    assert fate.right.all()
    assert not fate.distances.any()
    assert not fate.missing.any()
    copies = [np.concatenate([t[:9], np.repeat(t[8:9], 8, 0)]) for t in truth]
    copied = judge(clips, truth, copies, 9).to_json()
    assert copied["kept_percent"] == 100
    assert copied["distance"][0] < copied["distance"][3] < copied["distance"][-1]


def test_balls_that_vanish_and_split_are_counted_from_then_on() -> None:
    (clip,) = sample_counting_clips(1, seed=1, num_frames=6)
    truth = clip.render()
    frames = truth.copy()
    frames[3] = 255
    fate = judge([clip], [truth], [frames], 1)
    assert fate.right.tolist() == [[True, True, False, True, True]]
    found = fate.to_json()
    assert (found["kept"], found["kept_until"]) == (0, [100, 100, 0, 0, 0])
    assert found["distance"] == [0, 0, None, 0, 0]
    assert found["missing_percent"] == [0, 0, 100, 0, 0]
    number = str(len(clip.scene.balls))
    assert found["by_number"] == {number: {"clips": 1, "kept_percent": 0}}


def test_a_stray_patch_of_16_pixels_is_no_ball_and_one_of_36_is() -> None:
    (clip,) = sample_counting_clips(1, seed=1, num_frames=3)
    truth = clip.render()
    stray, more = truth.copy(), truth.copy()
    colour = next(c for name, c in BALL_COLOURS.items() if name not in ball_centres(truth[2]))
    stray[2, :4, :4] = more[2, :6, :6] = colour
    right = [judge([clip], [truth], [frames], 2).right.tolist() for frames in (stray, more)]
    assert right == [[[True]], [[False]]]


def test_balls_are_continued_in_every_way_and_shown(tmp_path: Path) -> None:
    pretrained = tiny_pretrained(resolution=64, patch_size=16, video=True)
    found = roll_physics(
        pretrained, SamplingSettings(), num=1, num_context=5, num_frames=4, seed=0, captions=True
    )
    (truth,) = found.truth
    (clip,) = sample_counting_clips(1, seed=1, num_frames=9)  # its area was chosen on seed 0
    assert np.array_equal(truth, clip.render())
    assert (found.about["clips_seed"], found.about["seed"]) == (1, 0)
    ways = {way: clips[0] for way, clips in found.continued.items()}
    assert {way: clip.shape for way, clip in ways.items()} == dict.fromkeys(ways, (9, 64, 64, 3))
    assert np.array_equal(ways[COPY][8], truth[4])
    assert not np.array_equal(ways[LINE], ways[COPY])
    assert len(found.to_json()["ways"][MODEL]["kept_until"]) == 4
    page = write_physics_rollout(found, tmp_path).read_text()
    assert page.count('class="film"') == 4
    with pytest.raises(ConfigError, match="frames of 64x64 pixels, and this model draws 8"):
        roll_physics(
            tiny_pretrained(resolution=8, video=True), SamplingSettings(), num=1, seed=0, **LENGTHS
        )
