"""Training of a video tokenizer at tiny size: what is kept, what learns, resuming, refusals."""

import itertools
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.config.data import MovingEmojiSource, PhysicsSource, VideosSource
from genvlm.config.video_tokenizer import VideoVQTrainConfig
from genvlm.errors import CheckpointError, ConfigError, DataError, TrainingError
from genvlm.nn.safetensors_folder import fingerprint_tensors
from genvlm.testing.tiny import tiny_image_tokenizer
from genvlm.testing.videos import numbers_of, timed_video_bytes
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.video import VideoTokenizer, inflate
from genvlm.tokenization.video_vqgan import PICTURE_CODES, VideoVQ
from genvlm.training.adversarial import build_optimizers
from genvlm.training.stopping import StoppedError
from genvlm.training.video_tokenizer import (
    VideoVQState,
    load_pool,
    prepare,
    reconstruction_loss,
    sample_clips,
    train_step,
    train_video_vq,
)

CONFIG = VideoVQTrainConfig(
    sources=(MovingEmojiSource(num=6, num_frames=9), MovingEmojiSource(num=2, seed=1)),
    num_frames=9,
    encoder_width=8,
    encoder_blocks=1,
    decoder_width=8,
    decoder_blocks=1,
    num_steps=4,
    batch_size=2,
    warmup_steps=1,
    restart_after=1,
    checkpoint_every=2,
)
IMAGE = tiny_image_tokenizer()


def inflated(config: VideoVQTrainConfig = CONFIG, image: ImageTokenizer = IMAGE) -> VideoVQ:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return inflate(image, config.model(image.config)).network


def changed_by_training(config: VideoVQTrainConfig, out: Path) -> set[str]:
    """Names of the tensors that a run changes."""
    before = {n: t.clone() for n, t in inflated(config).state_dict().items()}
    after = train_video_vq(inflated(config), config, out).state_dict()
    return {n for n, t in after.items() if not torch.equal(t, before[n])}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video_vq")
    train_video_vq(inflated(), CONFIG, out)
    return out


def state_of(run: Path, step: int = 4) -> str:
    """Over weights, optimizer and counts of unused codes."""
    path = run / f"checkpoints/step-{step:08d}/state.pt"
    state = torch.load(path, weights_only=True)
    moments = {
        f"{i}.{k}.{name}": value
        for i, optimizer in enumerate(state["optimizers"])
        for k, of_parameter in optimizer["state"].items()
        for name, value in of_parameter.items()
        if isinstance(value, torch.Tensor)
    }
    return fingerprint_tensors(state["model"] | moments | {"unused": state["steps_unused"]})


def test_what_gives_pictures_their_codes_stays_bitwise_and_all_else_learns(tmp_path: Path) -> None:
    changed = changed_by_training(CONFIG, tmp_path)
    assert {n for n in inflated().state_dict() if not n.startswith(PICTURE_CODES)} == changed


def test_after_training_first_frames_still_have_the_codes_of_pictures(tmp_path: Path) -> None:
    trained = VideoTokenizer(
        CONFIG.model(IMAGE.config), train_video_vq(inflated(), CONFIG, tmp_path)
    )
    clips = [clip for of_source in load_pool(CONFIG.sources, 16) for clip in of_source]
    for clip, codes in zip(clips, trained.encode([c[:9] for c in clips]), strict=True):
        np.testing.assert_array_equal(codes[:1], IMAGE.encode([clip[0]]))
    assert trained.codebook_fingerprint == IMAGE.codebook_fingerprint


def test_codes_are_trained_and_restarted_where_asked_for(tmp_path: Path) -> None:
    config = replace(CONFIG, train_codes=True)
    assert changed_by_training(config, tmp_path) == set(inflated(config).state_dict())


@pytest.mark.parametrize("train_codes", [False, True])
def test_gradients_pass_the_quantizer_straight_through(train_codes: bool) -> None:
    """What the decoder asks of quantized latents reaches the encoder as it is."""
    model = prepare(inflated(), replace(CONFIG, train_codes=train_codes))
    videos = torch.rand(1, 9, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = torch.nn.functional.normalize(model.encode_latents(videos).flatten(0, 1), dim=1)
    latents.retain_grad()
    quantized = model.image.quantize(latents)
    asked = torch.randn(quantized.latents.shape, generator=torch.Generator().manual_seed(1))
    (quantized.latents * asked).sum().backward()
    # Normalising what is normal takes away the part that leads off the sphere.
    along = asked - latents.detach() * (asked * latents.detach()).sum(1, keepdim=True)
    torch.testing.assert_close(latents.grad, along, rtol=0, atol=1e-5)
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None}
    assert "encoder.leave.weight" in with_gradient
    assert ("image.encoder.conv_in.weight" in with_gradient) is train_codes
    assert not any(n.startswith("image.quantize.") for n in with_gradient)


def test_a_resumed_run_equals_a_whole_one_bitwise(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(out / "checkpoints/step-00000004")
    said: list[str] = []
    train_video_vq(inflated(), CONFIG, out, resume=True, say=said.append)
    assert state_of(out) == state_of(finished)
    assert any("resumed at step 2" in line for line in said)
    before = state_of(out)
    train_video_vq(inflated(), CONFIG, out, resume=True, say=said.append)
    assert state_of(out) == before


@pytest.mark.parametrize("train_codes", [False, True])
def test_a_stopped_run_saves_and_resumes_bitwise(tmp_path: Path, train_codes: bool) -> None:
    config = replace(CONFIG, train_codes=train_codes, num_steps=3, checkpoint_every=9)

    def stop(_module: object, _inputs: object, _output: object) -> None:
        if next(calls) == 1:  # the second step
            signal.raise_signal(signal.SIGTERM)

    calls = itertools.count()
    network = inflated(config)
    handle = network.encoder.register_forward_hook(stop)
    with pytest.raises(StoppedError, match="stopped at step 2 by SIGTERM"):
        train_video_vq(network, config, tmp_path / "stopped")
    handle.remove()
    train_video_vq(inflated(config), config, tmp_path / "stopped", resume=True)
    train_video_vq(inflated(config), config, tmp_path / "whole")
    assert state_of(tmp_path / "stopped", 3) == state_of(tmp_path / "whole", 3)


def test_a_run_goes_on_only_as_what_it_was(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state_of(finished)
    with pytest.raises(TrainingError, match="holds a run already"):
        train_video_vq(inflated(), CONFIG, finished)
    with pytest.raises(CheckpointError, match="its batch_size is another"):
        train_video_vq(inflated(), replace(CONFIG, batch_size=3), finished, resume=True)
    other = inflated(image=tiny_image_tokenizer(seed=1))
    with pytest.raises(CheckpointError, match="started with another image tokenizer"):
        train_video_vq(other, CONFIG, finished, resume=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="a video tokenizer trains in one process, and 2 were"):
        train_video_vq(inflated(), CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert state_of(finished) == before


def test_steps_without_a_finite_gradient_change_nothing() -> None:
    model = prepare(inflated(), CONFIG)
    state = VideoVQState(model, build_optimizers(model, 1e-3))
    before = fingerprint_tensors(model.state_dict())
    videos = torch.full((1, 9, 3, 16, 16), torch.nan)
    with pytest.raises(TrainingError, match="not finite at step 0: lower learning_rate"):
        train_step(state, CONFIG, videos, torch.Generator())
    assert fingerprint_tensors(model.state_dict()) == before


def test_lengths_and_batches_that_do_not_fit_are_named_before_anything_is_drawn() -> None:
    with pytest.raises(
        ConfigError, match=r"sources\.1 has clips of 9 frames, and num_frames is 17"
    ):
        replace(CONFIG, num_frames=17, sources=(PhysicsSource(num=1), CONFIG.sources[0]))
    for wrong in (1, 8, 10):
        with pytest.raises(ConfigError, match=rf"num_frames is {wrong}: .* must be 5, 9, 13"):
            replace(CONFIG, num_frames=wrong)
    with pytest.raises(ConfigError, match="batch_size is 1, and each of 2 sources has a share"):
        replace(CONFIG, batch_size=1)


def test_sources_without_clips_and_clips_that_are_too_short_are_named(tmp_path: Path) -> None:
    source = VideosSource(path=str(tmp_path), num_frames=9)
    with pytest.raises(DataError, match="holds none of these files"):
        load_pool((source,), 16)
    (tmp_path / "short.gif").write_bytes(timed_video_bytes("gif", range(0, 120, 40)))
    with pytest.raises(DataError, match=r"short\.gif has 3 frames, 9 are needed"):
        load_pool((source,), 16)


def test_videos_of_a_user_are_clips_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "mine.gif").write_bytes(timed_video_bytes("gif", range(0, 800, 40)))
    ((first, second),) = load_pool((VideosSource(path=str(tmp_path), num_frames=9),), 16)
    assert first.shape == second.shape == (9, 16, 16, 3)
    assert numbers_of(first) == list(range(9))
    assert numbers_of(second) == list(range(9, 18))


def test_damaged_videos_are_left_out_counted_and_named_or_stop_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "mine.gif").write_bytes(timed_video_bytes("gif", range(0, 800, 40)))
    (folder / "text.mp4").write_bytes(b"text")
    source = VideosSource(path=str(folder), num_frames=9)
    config = replace(CONFIG, sources=(source,), num_steps=1)
    with pytest.raises(DataError, match=r"text\.mp4 is not a video.*; or set max_bad_share"):
        train_video_vq(inflated(config), config, tmp_path / "none")
    said: list[str] = []
    some = replace(config, max_bad_share=0.4)
    train_video_vq(inflated(some), some, tmp_path / "some", say=said.append)
    (told,) = (line for line in said if "damaged" in line)
    assert "left out 1 of 3 samples as damaged" in told
    assert "text.mp4 is not a video" in told
    few = replace(config, max_bad_share=0.3)
    with pytest.raises(DataError, match=r"1 of the first 3 .* max_bad_share 0\.3 allows"):
        train_video_vq(inflated(few), few, tmp_path / "few")
    (folder / "mine.gif").unlink()
    every = replace(config, max_bad_share=1.0)
    with pytest.raises(DataError, match=r"sources\.0 has no clip left: left out 1 of 1 samples"):
        train_video_vq(inflated(every), every, tmp_path / "every")


def test_batches_take_turns_between_sources_and_are_fixed_by_their_seed() -> None:
    grey = [np.full((9, 4, 4, 3), level, np.uint8) for level in (0, 1)]
    coloured = [np.broadcast_to(np.array([200, 220, 240], np.uint8), (12, 4, 4, 3))]
    config = replace(CONFIG, batch_size=5)
    videos = sample_clips([grey, coloured], config, torch.Generator().manual_seed(3))
    again = sample_clips([grey, coloured], config, torch.Generator().manual_seed(3))
    assert torch.equal(videos, again)
    assert videos.shape == (5, 9, 3, 4, 4)
    assert [float(v.min()) > 0 for v in videos] == [False, True, False, True, False]


def test_a_clip_is_cut_mirrored_and_recoloured_as_one() -> None:
    """Each pixel says its frame, column and channel; all frames agree on what was done."""
    clip = np.zeros((12, 4, 4, 3), np.uint8)
    clip += (10 * np.arange(12, dtype=np.uint8))[:, None, None, None]
    clip += np.arange(0, 8, 2, dtype=np.uint8)[None, None, :, None]
    clip += np.array([0, 130, 60], np.uint8)[None, None, None, :] // 2
    seen = set()
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        config = replace(CONFIG, sources=CONFIG.sources[:1], batch_size=1)
        (video,) = sample_clips([[clip]], config, generator)
        levels = ((video + 1) * 127.5).round().to(torch.int64)
        steps = levels[1:] - levels[:-1]
        assert (steps == 10).all()  # frames in order, nothing mixed between them
        mirrored = bool(levels[0, 0, 0, 0] > levels[0, 0, 0, 3])
        start = int(levels[0].min()) // 10
        seen.add((start, mirrored, tuple(levels[0, :, 0, 0].argsort().tolist())))
    assert {start for start, _, _ in seen} == {0, 1, 2, 3}
    assert {mirrored for _, mirrored, _ in seen} == {False, True}
    assert len({order for _, _, order in seen}) >= 5


def test_moving_pixels_count_more_and_the_weights_have_a_mean_of_one() -> None:
    videos = torch.zeros(1, 5, 3, 4, 4)
    videos[:, 2:, :, 0, 0] = 1.0  # one pixel moves, in frame 2
    still, moving = videos.clone(), videos.clone()
    still[:, 2, :, 3, 3] += 0.5
    moving[:, 2, :, 0, 0] += 0.5
    config = replace(CONFIG, l2_weight=0.0, motion_weight=3.0)
    (loss_still, squared_still), (loss_moving, squared_moving) = (
        reconstruction_loss(decoded, videos, config) for decoded in (still, moving)
    )
    torch.testing.assert_close(loss_moving / loss_still, torch.tensor(4.0))
    assert squared_still == squared_moving
    everywhere, _ = reconstruction_loss(videos + 0.5, videos, config)
    torch.testing.assert_close(everywhere, torch.tensor(0.5))


def test_a_few_steps_lower_the_loss() -> None:
    config = replace(CONFIG, batch_size=4, learning_rate=3e-3, num_steps=60)
    model = prepare(inflated(config), config)
    state = VideoVQState(model, build_optimizers(model, config.learning_rate))
    pool = load_pool(config.sources, 16)
    losses = []
    for step in range(30):
        generator = torch.Generator().manual_seed(step)
        videos = sample_clips(pool, config, generator)
        losses.append(float(train_step(state, config, videos, generator)["loss"]))
        state.step += 1
    assert np.mean(losses[-5:]) < 0.7 * losses[0]
