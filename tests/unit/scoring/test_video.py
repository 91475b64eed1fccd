"""Likelihoods of videos, on toys whose clips can all be enumerated."""

import itertools

import numpy as np
import pytest
import torch

from genvlm.errors import ConfigError, TokenError, VideoError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.video import score_video
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Document, Text, Video, encode_document
from genvlm.tokenization.windows import window_frames

FIRST = np.array([[[0, 1], [1, 1]]])
SECOND = np.array([[[1, 0], [0, 1]]])


@pytest.fixture(scope="module")
def toy() -> PretrainedModel:
    """Frames of 2x2 codes of 2."""
    return tiny_pretrained(resolution=8, codebook_size=2, dtype=torch.float64, video=True)


def every_clip(*first: np.ndarray, more: int) -> list[np.ndarray]:
    return [
        np.concatenate([*first, np.array(codes).reshape(more, 2, 2)])
        for codes in itertools.product(range(2), repeat=4 * more)
    ]


@pytest.mark.parametrize("text", [None, "a red square"])
@pytest.mark.parametrize("given", [(), (FIRST,), (FIRST, SECOND)])
def test_all_clips_of_one_length_have_probability_one(
    toy: PretrainedModel, text: str | None, given: tuple[np.ndarray, ...]
) -> None:
    clips = every_clip(*given, more=2)
    scored = score_video(toy, clips, context=len(given), texts=[text] * len(clips))
    probabilities = np.exp([s.total for s in scored])
    assert abs(probabilities.sum() - 1) < 1e-9
    assert probabilities.max() > 2 / 256  # it does prefer some


def test_the_raw_softmax_also_counts_the_end_of_the_video_and_all_else(
    toy: PretrainedModel,
) -> None:
    clips = every_clip(FIRST, more=1)
    grammar = score_video(toy, clips, context=1)
    raw = score_video(toy, clips, context=1, normalization="vocabulary")
    assert all((r.frames[1:] < g.frames[1:]).all() for r, g in zip(raw, grammar, strict=True))
    assert sum(np.exp(s.total) for s in raw) < 0.1


def test_given_frames_have_no_probability_and_change_that_of_the_others(
    toy: PretrainedModel,
) -> None:
    clip = np.concatenate([FIRST, SECOND, FIRST])
    (of_two,) = score_video(toy, [clip], context=1)
    assert of_two.log_probs.shape == (3, 2, 2)
    assert np.isnan(of_two.log_probs[0]).all()
    assert np.isnan(of_two.frames[0])
    assert of_two.total == pytest.approx(of_two.log_probs[1:].sum())
    (of_all,) = score_video(toy, [clip], context=0)
    np.testing.assert_allclose(of_all.log_probs[1:], of_two.log_probs[1:], atol=1e-12)
    (other,) = score_video(toy, [np.concatenate([SECOND, SECOND, FIRST])], context=1)
    assert np.abs(other.log_probs[1] - of_two.log_probs[1]).max() > 1e-3


def by_hand(toy: PretrainedModel, codes: np.ndarray, text: str | None) -> np.ndarray:
    """log p of the last latent frame of a document that fits, one softmax over the video codes."""
    v = toy.vocabulary
    segments = [*([Text(text)] if text else []), Video(codes)]
    document = encode_document(
        Document(id="d", segments=segments), v, toy.text_tokenizer, grid=(2, 2)
    )
    ids = torch.tensor(document.token_ids.astype(np.int64))[None]
    positions = torch.tensor(document.positions.astype(np.int64))[None]
    with torch.no_grad():
        logits = toy.model.head(toy.model(ids[:, :-1], positions=positions))[0]
    chosen = logits[:, v.video_range.start : v.video_range.stop].log_softmax(-1)
    last = slice(len(ids[0]) - 6, len(ids[0]) - 2)  # EOV and EOS stand behind
    at = ids[0, last] - v.video_range.start
    return chosen[last.start - 1 : last.stop - 1].gather(1, at[:, None])[:, 0].numpy()


@pytest.mark.parametrize("text", [None, "a red square"])
def test_a_long_video_is_read_through_a_window_that_keeps_the_first_frame(
    text: str | None,
) -> None:
    num_text = 0
    short = tiny_pretrained(
        resolution=8, codebook_size=2, dtype=torch.float64, video=True, context_length=64
    )
    if text:
        num_text = len(short.text_tokenizer.encode(text))
    most = 4
    short = tiny_pretrained(
        resolution=8,
        codebook_size=2,
        dtype=torch.float64,
        video=True,
        context_length=4 + num_text + 4 * most + 3,
    )
    clip = np.random.default_rng(0).integers(0, 2, (8, 2, 2))
    (scored,) = score_video(short, [clip], context=2, texts=[text])
    for frame in range(2, 8):
        read = [*window_frames(frame, most), frame]
        expected = by_hand(short, clip[read], text)
        np.testing.assert_allclose(scored.log_probs[frame].ravel(), expected, atol=1e-10)
    (late,) = score_video(short, [clip], context=6, texts=[text])
    np.testing.assert_allclose(late.log_probs[6:], scored.log_probs[6:], atol=1e-10)
    assert np.isnan(late.log_probs[:6]).all()


def test_batches_of_clips_of_many_lengths_equal_one_by_one() -> None:
    float32 = tiny_pretrained(resolution=8, codebook_size=2, video=True, context_length=40)
    rng = np.random.default_rng(1)
    clips = [rng.integers(0, 2, (length, 2, 2)) for length in (2, 12, 5, 9)]
    together = score_video(float32, clips, context=1)
    for clip, found in zip(clips, together, strict=True):
        (alone,) = score_video(float32, [clip], context=1, tokens_per_batch=1)
        assert found.log_probs.dtype == np.float32
        np.testing.assert_allclose(found.log_probs[1:], alone.log_probs[1:], atol=1e-5)


def test_clips_without_a_frame_to_score_and_texts_without_room_are_refused(
    toy: PretrainedModel,
) -> None:
    with pytest.raises(VideoError, match="clip 2 of 2 has 1 latent frames"):
        score_video(toy, [np.concatenate([FIRST, SECOND]), FIRST], context=1)
    with pytest.raises(TokenError, match="no room for a latent frame"):
        score_video(toy, [FIRST], context=0, texts=["a red square " * 60])
    with pytest.raises(ConfigError, match="no video tokenizer"):
        score_video(tiny_pretrained(resolution=8), [FIRST], context=0)
