"""Scorers of clips: a model's surprise, and the controls that know less."""

import numpy as np
import pytest
import torch

from genvlm.errors import ConfigError, VideoError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.protocols import ClipSet
from genvlm.scoring.video import score_video
from genvlm.scoring.video_scorers import (
    ConstantVideoScorer,
    FrameDifferenceScorer,
    ShuffledFramesScorer,
    SingleFrameScorer,
    UntrainedScorer,
    VideoLikelihoodScorer,
    shuffled_order,
    untrained,
)
from genvlm.testing.tiny import tiny_pretrained


@pytest.fixture(scope="module")
def tiny() -> PretrainedModel:
    return tiny_pretrained(resolution=8, video=True)


def noise(seed: int, num_frames: int = 13) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 8, 8, 3), np.uint8)


def quadruplet() -> ClipSet:
    """Of one beginning and two ends each way; groups of frames of r = 4 stay whole."""
    a, b = noise(0), noise(1)
    spliced = [np.concatenate([x[:9], y[9:]]) for x, y in ((a, b), (b, a))]
    return ClipSet(item_id="q", clips=[a, b, *spliced])


def test_the_score_is_the_log_probability_behind_the_context(tiny: PretrainedModel) -> None:
    clips = quadruplet()
    (found,) = VideoLikelihoodScorer(tiny, 5).score([clips])
    assert found.latents is not None
    assert found.latents.shape == (4, 2)  # 13 frames are 4 latent ones, and 5 frames are 2
    for clip, value, latents in zip(clips.clips, found.values, found.latents, strict=True):
        (scored,) = score_video(tiny, [tiny.encode_video(clip)], context=2)
        assert value == pytest.approx(scored.total, rel=1e-6)
        np.testing.assert_allclose(latents, scored.frames[2:], rtol=1e-5)


def test_frames_alone_and_pairs_of_frames_alone_cannot_tell_spliced_clips(
    tiny: PretrainedModel,
) -> None:
    a = noise(0)
    b = noise(1)
    b[8:10] = a[8:10]  # where they are spliced both show the same
    spliced = [np.concatenate([x[:9], y[9:]]) for x, y in ((a, b), (b, a))]
    clips = ClipSet(item_id="q", clips=[a, b, *spliced])
    for scorer in (SingleFrameScorer(tiny, 5), FrameDifferenceScorer(5)):
        (found,) = scorer.score([clips])
        assert found.values[0] + found.values[1] == found.values[2] + found.values[3]
        assert found.values[0] != found.values[1]
    (found,) = VideoLikelihoodScorer(tiny, 5).score([clips])
    assert found.values[0] + found.values[1] != found.values[2] + found.values[3]


def test_sums_of_the_same_frames_tie_exactly_in_whatever_order_they_are_added() -> None:
    # In float64 such sums do round, as those of a confident model do in float32.
    tiny = tiny_pretrained(resolution=8, video=True, dtype=torch.float64)
    sets = []
    for seed in range(8):
        a, b = noise(2 * seed, 33), noise(2 * seed + 1, 33)
        spliced = [np.concatenate([x[:17], y[17:]]) for x, y in ((a, b), (b, a))]
        sets.append(ClipSet(item_id=str(seed), clips=[a, b, *spliced]))
    for found in SingleFrameScorer(tiny, 5).score(sets):
        assert found.values[0] + found.values[1] == found.values[2] + found.values[3]


def test_frame_difference_prefers_what_stands_still() -> None:
    still = np.repeat(noise(0, 1), 13, axis=0)
    moved = still.copy()
    moved[10, 0, 0, 0] ^= 255
    moved[2] ^= 255  # given, and not judged
    (found,) = FrameDifferenceScorer(5).score([ClipSet(item_id="q", clips=[still, moved])])
    step = abs(int(moved[10, 0, 0, 0]) - int(still[10, 0, 0, 0]))
    np.testing.assert_array_equal(found.values, [0, -2 * step])
    stepped = still.copy()
    stepped[5:, 0, 0, 0] ^= 255  # the step out of the context counts
    (found,) = FrameDifferenceScorer(5).score([ClipSet(item_id="q", clips=[still, stepped])])
    np.testing.assert_array_equal(found.values, [0, -step])


def test_frames_alone_do_not_depend_on_what_is_before_them(tiny: PretrainedModel) -> None:
    a, b = noise(0), noise(1)
    changed = np.concatenate([b[:5], a[5:]])
    turned = np.concatenate([a[:5], a[5:][::-1]])
    (found,) = SingleFrameScorer(tiny, 5).score([ClipSet(item_id="q", clips=[a, changed, turned])])
    assert found.values[0] == found.values[1] == found.values[2]


def test_shuffled_frames_keep_what_is_given_and_change_the_rest_alike_for_all_clips(
    tiny: PretrainedModel,
) -> None:
    orders = {tuple(shuffled_order(9, 3, f"item {k}")) for k in range(40)}
    assert len(orders) > 20
    for order in orders:
        assert order[:3] == (0, 1, 2)
        assert sorted(order) == list(range(9))
        assert order != tuple(range(9))
    clips = quadruplet()
    (found,) = ShuffledFramesScorer(tiny, 5).score([clips])
    order = shuffled_order(4, 2, "q")
    for clip, value in zip(clips.clips, found.values, strict=True):
        (scored,) = score_video(tiny, [tiny.encode_video(clip)[order]], context=2)
        assert value == pytest.approx(scored.total, rel=1e-6)
    with pytest.raises(VideoError, match="cannot be shuffled"):
        shuffled_order(3, 2, "q")


def test_an_untrained_model_has_the_same_shape_and_other_weights(tiny: PretrainedModel) -> None:
    first, again, other = (untrained(tiny, seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint
    assert len({first.fingerprint, other.fingerprint, tiny.fingerprint}) == 3
    assert first.model.config == tiny.model.config
    assert first.video_tokenizer is tiny.video_tokenizer


def test_every_set_is_scored_by_an_untrained_model_of_its_own(tiny: PretrainedModel) -> None:
    sets = [ClipSet(item_id=name, clips=quadruplet().clips) for name in "abcdef"]
    found = UntrainedScorer(tiny, 5).score(sets)
    values = {tuple(one.values) for one in found}
    assert len(values) == 6
    again = UntrainedScorer(tiny, 5).score(sets[3:4])
    np.testing.assert_array_equal(again[0].values, found[3].values)
    # By accident each prefers the lawful clips or the broken ones: not all the same.
    preferred = {bool(one.values[:2].sum() > one.values[2:].sum()) for one in found}
    assert preferred == {True, False}


def test_a_model_that_gives_nan_scores_nan_and_not_0() -> None:
    broken = tiny_pretrained(resolution=8, video=True)
    broken.model.embedding.weight.data.fill_(float("nan"))
    for scorer in (
        VideoLikelihoodScorer(broken, 5),
        ShuffledFramesScorer(broken, 5),
        SingleFrameScorer(broken, 5),
    ):
        (found,) = scorer.score([quadruplet()])
        assert np.isnan(found.values).all(), scorer.info.name


def test_settings_that_change_a_score_change_the_fingerprint(tiny: PretrainedModel) -> None:
    scorers = [
        VideoLikelihoodScorer(tiny, 5),
        VideoLikelihoodScorer(tiny, 9),
        VideoLikelihoodScorer(untrained(tiny, 0), 5),
        UntrainedScorer(tiny, 5),
        ShuffledFramesScorer(tiny, 5),
        SingleFrameScorer(tiny, 5),
        FrameDifferenceScorer(5),
        FrameDifferenceScorer(9),
        ConstantVideoScorer(),
    ]
    assert len({scorer.info.fingerprint for scorer in scorers}) == len(scorers)


def test_contexts_and_models_that_do_not_fit_are_refused(tiny: PretrainedModel) -> None:
    with pytest.raises(ConfigError, match=r"the context: 8 frames do not fit.*5 or 9"):
        VideoLikelihoodScorer(tiny, 8)
    with pytest.raises(ConfigError, match="no video tokenizer"):
        VideoLikelihoodScorer(tiny_pretrained(resolution=8), 5)
    short = ClipSet(item_id="q", clips=[noise(0, 5)])
    with pytest.raises(VideoError, match="nothing is left to score"):
        VideoLikelihoodScorer(tiny, 5).score([short])
