"""Causality, inflation and shared codes of the video tokenizer."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genvlm.config.video_tokenizer import VideoVQConfig
from genvlm.errors import CheckpointError, ConfigError, VideoError
from genvlm.testing.tiny import (
    published_vqgan_config,
    tiny_image_tokenizer,
    tiny_pretrained,
    tiny_video_tokenizer,
)
from genvlm.tokenization.image import (
    ImageTokenizer,
    codebook_fingerprint,
    load_image_tokenizer,
    to_pixels,
)
from genvlm.tokenization.video import (
    WEIGHTS_FILE,
    VideoTokenizer,
    inflate,
    load_video_tokenizer,
)
from genvlm.tokenization.video_vqgan import PICTURE_CODES
from genvlm.tokenization.vqgan import VQGAN

ROOT = Path(__file__).resolve().parents[3]
FRAMES, OTHERS = (
    np.random.default_rng(seed).integers(0, 256, (13, 2, 2, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    for seed in (0, 1)
)
# Of pixels in [-1, 1], a hundredth of a grey level.
ROUNDING = 8e-5


@cache
def taming_tokenizer() -> VideoTokenizer:
    """With taming's whole Encoder: attention, and GroupNorm over the whole frame."""
    config = published_vqgan_config()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = VQGAN(config)
        pictures = torch.rand(16, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3) * 2 - 1
        # Codes where latents lie: else one code is the nearest to all that is untrained.
        latents = network.encode_latents(pictures)
        network.quantize.embedding.weight.copy_(latents.permute(0, 2, 3, 1).flatten(0, 2))
        shape = VideoVQConfig(image=config, encoder_width=8, decoder_width=8, decoder_blocks=2)
        tokenizer = inflate(ImageTokenizer(config, network), shape)
        for last in (tokenizer.network.encoder.leave, tokenizer.network.decoder.leave):
            torch.nn.init.normal_(last.weight, std=0.1)
    return tokenizer


def shipped_image() -> ImageTokenizer:
    return load_image_tokenizer(ROOT / "tokenizers/image-emoji-64")


def taming_image() -> ImageTokenizer:
    tokenizer = taming_tokenizer()
    network = VQGAN(tokenizer.config.image)
    network.load_state_dict(tokenizer.network.image.state_dict())
    return ImageTokenizer(tokenizer.config.image, network)


@pytest.mark.parametrize("image", [shipped_image, taming_image], ids=["shipped", "taming"])
def test_a_picture_begins_with_the_latents_and_codes_of_the_image_tokenizer(image) -> None:
    image = image()
    video = inflate(image, VideoVQConfig(image=image.config))
    size = image.config.resolution
    coarse = np.random.default_rng(2).integers(0, 256, (12, 4, 4, 3), np.uint8)
    pictures = coarse.repeat(size // 4, 1).repeat(size // 4, 2)
    pixels = to_pixels(pictures)
    with torch.no_grad():
        theirs = image.network.encode_latents(pixels)
        ours = video.network.encode_latents(pixels[:, None])[:, 0]
        # A clip of one picture begins as this picture at every latent frame.
        still = video.network.encode_latents(pixels[:2, None].expand(-1, 9, -1, -1, -1))
    assert (ours - theirs).abs().max() <= 1e-5
    assert (still - theirs[:2, None]).abs().max() <= 1e-5
    codes = np.concatenate(video.encode([p[None] for p in pictures]))
    differ = codes != image.encode(list(pictures))
    # Where they differ, both codes are as near as rounding can tell.
    assert near_ties(image, theirs, codes, image.encode(list(pictures)), differ) == differ.sum()
    assert differ.mean() <= 0.001


def near_ties(
    image: ImageTokenizer,
    latents: torch.Tensor,
    ours: np.ndarray,
    theirs: np.ndarray,
    differ: np.ndarray,
) -> int:
    """How many of the places that differ have two codes equally far from the latent."""
    flat = latents.permute(0, 2, 3, 1).numpy()[differ]
    if image.config.l2_normalized:
        flat = flat / np.linalg.norm(flat, axis=-1, keepdims=True)
    book = image.codebook.detach().numpy()
    far = [np.linalg.norm(flat - book[codes[differ]], axis=-1) for codes in (ours, theirs)]
    return int((np.abs(far[0] - far[1]) <= 1e-5).sum())


@pytest.mark.parametrize("tokenizer", [tiny_video_tokenizer, taming_tokenizer])
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_what_comes_later_changes_no_earlier_code(tokenizer, data: st.DataObject) -> None:
    video = tokenizer()
    kept = 1 + video.frames_per_latent * data.draw(st.integers(0, 2))
    more = video.frames_per_latent * data.draw(st.integers(0, 2))
    (whole,) = video.encode([FRAMES])
    (other,) = video.encode([np.concatenate([FRAMES[:kept], OTHERS[:more]])])
    latents = video.config.num_latents(kept)
    np.testing.assert_array_equal(other[:latents], whole[:latents])
    if more:
        assert (other[latents:] != whole[latents : len(other)]).any()


@pytest.mark.parametrize("tokenizer", [tiny_video_tokenizer, taming_tokenizer])
def test_an_earlier_frame_changes_its_own_latent_frame_alone(tokenizer) -> None:
    video = tokenizer()
    (whole,) = video.encode([FRAMES])
    for frame, latent in ((0, 0), (1, 1), (4, 1), (5, 2), (12, 3)):
        changed = FRAMES.copy()
        changed[frame] = OTHERS[frame]
        differs = (video.encode([changed])[0] != whole).any((1, 2))
        assert differs.nonzero()[0].tolist() == [latent]


@pytest.mark.parametrize("tokenizer", [tiny_video_tokenizer, taming_tokenizer])
def test_a_stream_gives_the_codes_of_the_whole_as_soon_as_their_frames_are_there(tokenizer) -> None:
    video = tokenizer()
    taken = 0

    def camera():
        nonlocal taken
        for frame in np.concatenate([FRAMES, OTHERS[:2]]):  # the last two fill no group
            taken += 1
            yield frame

    streamed, seen_at = [], []
    for codes in video.encode_stream(camera()):
        streamed.append(codes)
        seen_at.append(taken)
    np.testing.assert_array_equal(np.stack(streamed), video.encode([FRAMES])[0])
    assert seen_at == [1, 5, 9, 13]
    assert list(video.encode_stream([])) == []


@pytest.mark.parametrize("tokenizer", [tiny_video_tokenizer, taming_tokenizer])
def test_other_clips_of_a_batch_change_no_code(tokenizer) -> None:
    video = tokenizer()
    clips = [FRAMES, OTHERS[:5], FRAMES[4:5], OTHERS, FRAMES[:9]]
    done: list[int] = []
    together = video.encode(clips, done.append)
    for clip, codes in zip(clips, together, strict=True):
        np.testing.assert_array_equal(codes, video.encode([clip])[0])
    assert [len(codes) for codes in together] == [4, 2, 1, 4, 3]
    assert done == [4, 5]


@pytest.mark.parametrize("tokenizer", [tiny_video_tokenizer, taming_tokenizer])
def test_a_whole_clip_as_trained_on_has_the_latents_of_its_groups_one_by_one(tokenizer) -> None:
    video = tokenizer()
    pixels = to_pixels(video.fit(FRAMES))[None]
    first, *groups = pixels.split([1, 4, 4, 4], 1)
    with torch.no_grad():
        whole = video.network.encode_latents(pixels)
        alone = [video.network.encode_latents(torch.cat([first, g], 1))[:, 1:] for g in groups]
        parts = torch.cat([video.network.encode_latents(first), *alone], 1)
    torch.testing.assert_close(whole, parts, rtol=0, atol=ROUNDING)


def test_frames_of_another_shape_are_fitted() -> None:
    video = tiny_video_tokenizer()
    wide = np.zeros((5, 20, 40, 3), np.uint8)
    assert video.fit(wide).shape == (5, 16, 16, 3)
    np.testing.assert_array_equal(video.encode([wide])[0], video.encode([video.fit(wide)])[0])


@pytest.mark.parametrize("tokenizer", [tiny_video_tokenizer, taming_tokenizer])
def test_later_codes_change_no_earlier_frame(tokenizer) -> None:
    video = tokenizer()
    codes = torch.from_numpy(np.stack([video.encode([f])[0] for f in (FRAMES, OTHERS)]))
    for kept in (1, 2, 3):
        mixed = torch.cat([codes[:1, :kept], codes[1:, kept:]], 1)
        frames = video.config.num_frames(kept)
        whole, part, other = (video.network.decode(c) for c in (codes[:1], codes[:1, :kept], mixed))
        torch.testing.assert_close(part, whole[:, :frames], rtol=0, atol=ROUNDING)
        torch.testing.assert_close(other[:, :frames], whole[:, :frames], rtol=0, atol=ROUNDING)
        assert (other[:, frames:] - whole[:, frames:]).abs().max() > 1e-2


def test_a_latent_frame_changes_later_frames_and_never_the_first_one() -> None:
    """Norms and attention of the layers that draw see one frame, those between see the past."""
    video = taming_tokenizer()
    codes = torch.from_numpy(video.encode([FRAMES])[0])[None]
    changed = codes.clone()
    changed[:, 1] = (codes[:, 1] + 7) % 64
    far = (video.network.decode(codes) - video.network.decode(changed)).abs().amax((0, 2, 3, 4))
    assert (far[:1] <= ROUNDING).all()
    assert (far[1:5] > 1e-2).all()
    assert (far[5:] > 10 * ROUNDING).all()  # what was there before still tells of the next frames


def test_a_long_clip_is_decoded_in_pieces_as_it_is_whole() -> None:
    video = tiny_video_tokenizer()
    codes = torch.randint(16, (1, 40, 4, 4), generator=torch.Generator().manual_seed(0))
    drawn: list[int] = []
    hook = video.network.image.decoder.register_forward_pre_hook(
        lambda _module, inputs: drawn.append(len(inputs[0]))
    )
    pieces = video.network.decode(codes)
    hook.remove()
    assert len(drawn) > 1
    assert sum(drawn) == pieces.shape[1] == 157
    with torch.no_grad():
        latents = video.network.image.quantize.lookup(codes[0])[None]
        whole = video.network.decode_latents(latents).clamp(-1, 1)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("length", "near"), [(0, "1 or 5"), (2, "1 or 5"), (12, "9 or 13")])
def test_a_length_that_does_not_fit_is_named_with_those_that_do(length: int, near: str) -> None:
    video = tiny_video_tokenizer()
    with pytest.raises(VideoError, match=rf"clip 2 of 2: {length} frames do not fit .* {near}$"):
        video.encode([FRAMES, FRAMES[:length]])
    with pytest.raises(ConfigError, match="do not fit"):
        video.config.num_latents(length)


def test_lengths_of_frames_and_latent_frames_are_inverse() -> None:
    config = tiny_video_tokenizer(frames_per_latent=3).config
    assert [config.num_latents(n) for n in (1, 4, 7)] == [1, 2, 3]
    assert [config.num_frames(n) for n in (1, 2, 3)] == [1, 4, 7]


def test_codes_that_mean_nothing_are_named() -> None:
    video = tiny_video_tokenizer()
    with pytest.raises(VideoError, match=r"codes 0\.\.16 are outside the codebook of 16"):
        video.decode([np.array([[[0, 16]]])])
    with pytest.raises(VideoError, match="1 latent frame or more"):
        video.decode([np.zeros((0, 4, 4), np.int64)])


def test_a_saved_tokenizer_comes_back_as_it_was(tmp_path: Path) -> None:
    video = tiny_video_tokenizer()
    video.save(tmp_path)
    again = load_video_tokenizer(tmp_path)
    assert again.fingerprint == video.fingerprint
    assert again.config == video.config
    np.testing.assert_array_equal(again.encode([FRAMES])[0], video.encode([FRAMES])[0])
    (tmp_path / WEIGHTS_FILE).unlink()
    with pytest.raises(CheckpointError, match="no weights at"):
        load_video_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="no video tokenizer: it lacks"):
        load_video_tokenizer(tmp_path / "elsewhere")


def test_float16_rounds_all_but_what_gives_pictures_their_codes(tmp_path: Path) -> None:
    """The tiny image tokenizer is no float16: rounded, its codebook would be another one."""
    video, image = tiny_video_tokenizer(), tiny_image_tokenizer()
    video.save(tmp_path / "rounded", dtype=torch.float16)
    video.save(tmp_path / "exact", dtype=torch.float16, exact=PICTURE_CODES)
    rounded, exact = (load_video_tokenizer(tmp_path / n) for n in ("rounded", "exact"))
    assert rounded.codebook_fingerprint != image.codebook_fingerprint
    assert exact.codebook_fingerprint == image.codebook_fingerprint
    assert len({video.fingerprint, rounded.fingerprint, exact.fingerprint}) == 3
    for name, tensor in video.network.state_dict().items():
        stored = exact.network.state_dict()[name]
        assert torch.equal(stored, tensor) or not name.startswith(PICTURE_CODES)
        assert torch.equal(stored.half(), tensor.half())
    size = [(tmp_path / n / WEIGHTS_FILE).stat().st_size for n in ("rounded", "exact")]
    rounded.save(tmp_path / "again", dtype=torch.float16, exact=PICTURE_CODES)
    assert (tmp_path / "again" / WEIGHTS_FILE).stat().st_size == size[0] < size[1]


def test_every_weight_and_the_shape_tell_in_the_fingerprint() -> None:
    video = tiny_video_tokenizer()
    moved = tiny_video_tokenizer()
    moved.network.decoder.leave.bias[0] += 1e-3
    same = tiny_video_tokenizer()
    assert same.fingerprint == video.fingerprint != moved.fingerprint
    assert moved.codebook_fingerprint == video.codebook_fingerprint
    assert video.codebook_fingerprint == codebook_fingerprint(video.network.image.quantize)


@pytest.mark.parametrize("own", [False, True])
def test_an_equal_codebook_shares_its_ids_and_another_has_its_own(own: bool) -> None:
    pretrained = tiny_pretrained(video=True, own_video_codes=own)
    vocabulary = pretrained.vocabulary
    codes = np.arange(16).reshape(1, 4, 4)
    assert vocabulary.video_shares_image is not own
    shared = vocabulary.video_tokens(codes[0]) == vocabulary.image_tokens(codes[0])
    assert shared.all() if not own else not shared.any()


def test_an_image_tokenizer_of_another_shape_is_not_inflated() -> None:
    image = tiny_image_tokenizer()
    config = VideoVQConfig(image=tiny_image_tokenizer(codebook_size=32).config)
    with pytest.raises(ConfigError, match="not the shape of the image tokenizer"):
        inflate(image, config)


def test_the_shipped_tokenizer_has_the_codes_of_the_shipped_image_tokenizer() -> None:
    image, video = shipped_image(), load_video_tokenizer(ROOT / "tokenizers/video-64")
    assert video.codebook_fingerprint == image.codebook_fingerprint
    for name, tensor in image.network.state_dict().items():
        if f"image.{name}".startswith(PICTURE_CODES):
            assert torch.equal(video.network.image.state_dict()[name], tensor), name
    assert (ROOT / "tokenizers/video-64" / WEIGHTS_FILE).stat().st_size <= 6_000_000
