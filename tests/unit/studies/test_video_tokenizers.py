"""What is published of a video tokenizer: held-out clips, metrics, card."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genvlm.config.data import CameraSource, MovingEmojiSource, PhysicsSource, VideosSource
from genvlm.config.video_tokenizer import VideoVQTrainConfig
from genvlm.data.moving_emoji import sample_moving_emoji
from genvlm.errors import ConfigError
from genvlm.studies import video_tokenizers as studies
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_video_tokenizer
from genvlm.tokenization.image import ImageTokenizer
from genvlm.tokenization.video import VideoTokenizer
from genvlm.tokenization.video_vqgan import PICTURE_CODES

CONFIG = VideoVQTrainConfig(sources=(MovingEmojiSource(num=1),), num_steps=1)


class _Exact:
    """A tokenizer that gives back what it was given."""

    grid, frames_per_latent, codebook = (1, 1), 4, range(2)

    def fit(self, clip: np.ndarray) -> np.ndarray:
        return clip

    def encode(self, clips: list[np.ndarray]) -> list[np.ndarray]:
        self.seen = clips
        return [np.zeros((1 + (len(clip) - 1) // 4, 1, 1), np.int64) for clip in clips]

    def decode(self, codes: object) -> list[np.ndarray]:
        return self.seen


def test_metrics_have_the_values_that_were_worked_out_by_hand() -> None:
    """A grey level that grows by 4 each frame; the image tokenizer is off by 5 everywhere."""

    class Brighter(_Exact):
        def encode(self, clips: list[np.ndarray]) -> list[np.ndarray]:
            self.seen = np.stack(clips) + 5
            return []

    clip = np.broadcast_to(np.arange(0, 36, 4, dtype=np.uint8)[:, None, None, None], (9, 16, 16, 3))
    found = studies.measure_video_tokenizer(_Exact(), Brighter(), [clip, clip])
    ours, every, drawn, held = found.values()
    assert ours["temporal_difference"] == 0
    assert ours["ssim"] > 0.999
    assert (ours["codes_used"], ours["perplexity_share"]) == (0.5, 0.5)
    assert every["psnr_db"] == drawn["psnr_db"] == pytest.approx(20 * np.log10(255 / 5))
    assert every["temporal_difference"] == drawn["temporal_difference"] == 0
    # Held frames stay for four: changes of 4 become three of 0 and one of 16.
    assert held["temporal_difference"] == pytest.approx((3 * 4 + 12) / 4)
    assert [m["tokens"] for m in (ours, every, drawn, held)] == [3, 9, 3, 3]


def test_metrics_of_many_clips_are_those_of_all_their_frames_and_progress_is_told() -> None:
    rng = np.random.default_rng(0)
    clips = [rng.integers(0, 256, (frames, 16, 16, 3), np.uint8) for frames in (5, 9, 5, 5, 17, 5)]

    class Darker(_Exact):
        def encode(self, some: list[np.ndarray]) -> list[np.ndarray]:
            self.seen = np.stack(some) // 2
            return []

    class Later(_Exact):
        def decode(self, codes: object) -> list[np.ndarray]:
            return [np.roll(clip, 1, 0) for clip in self.seen]

    told: list[int] = []
    found = studies.measure_video_tokenizer(Later(), Darker(), clips, on_clip=told.append)
    assert told == [4, 6]
    frames = [clip.astype(float) for clip in clips]
    for way, decoded in (
        ("video tokenizer", [np.roll(f, 1, 0) for f in frames]),
        ("image tokenizer, every frame", [f // 2 for f in frames]),
    ):
        squared = ((np.concatenate(frames) - np.concatenate(decoded)) ** 2).mean((1, 2, 3))
        assert found[way]["psnr_db"] == pytest.approx((10 * np.log10(255**2 / squared)).mean())
        changes = [
            abs(np.diff(a, axis=0) - np.diff(b, axis=0)).mean()
            for a, b in zip(frames, decoded, strict=True)
        ]
        assert found[way]["temporal_difference"] == pytest.approx(np.mean(changes))
        assert found[way]["clips"] == 6
    assert found["video tokenizer"]["tokens"] == (4 * 2 + 3 + 5) / 6
    assert found["image tokenizer, every frame"]["tokens"] == 46 / 6


def test_held_out_clips_are_in_no_training_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "_NUM_CLIPS", 3)
    sets = studies.held_out_clips()
    assert {clip.shape for clips in sets.values() for clip in clips} == {(17, 64, 64, 3)}
    assert [len(clips) for clips in sets.values()] == [3] * 5
    held_out = sample_moving_emoji(3, studies._HELD_OUT_SEED, 17, held_out=True)
    trained = {(c.icon.label, c.direction) for c in sample_moving_emoji(500, 0, 17)}
    assert not trained & {(c.icon.label, c.direction) for c in held_out}
    for kind in (PhysicsSource, CameraSource):
        config = replace(CONFIG, sources=(kind(num=1, seed=studies._HELD_OUT_SEED),))
        with pytest.raises(ConfigError, match=r"sources\.0 has seed 977, that of the clips which"):
            studies.train_video_tokenizer(config, Path("nowhere"))
    filmed = sets["camera, noto"], sets["camera, fluent"]
    # The same ground under the drawings of two vendors.
    for noto, fluent in zip(*filmed, strict=True):
        assert 0.2 < (noto == fluent).all(-1).mean() < 1


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Publish the tiny tokenizer with another recipe."""
    video, image = tiny_video_tokenizer(), tiny_image_tokenizer()
    monkeypatch.setattr(studies, "_NUM_CLIPS", 3)

    def publish(config: VideoVQTrainConfig) -> Path:
        return _publish(video, image, config, tmp_path / "tokenizer")

    return publish


def _publish(
    video: VideoTokenizer, image: ImageTokenizer, config: VideoVQTrainConfig, folder: Path
) -> Path:
    return studies.publish_video_tokenizer(video, image, config, folder)


def test_a_tokenizer_of_another_resolution_is_measured_at_its_own(published) -> None:
    folder = published(CONFIG)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert list(metrics) == [
        "physics",
        "moving emoji, noto",
        "moving emoji, fluent",
        "camera, noto",
        "camera, fluent",
    ]
    for ways in metrics.values():
        assert ways["video tokenizer"]["tokens"] == 5 * 16
        assert ways["image tokenizer, every frame"]["tokens"] == 17 * 16
        assert all(0 < m["psnr_db"] < 40 for m in ways.values())
    assert (folder / "reconstructions.png").is_file()


def test_the_card_says_what_was_kept_and_what_was_not_seen(published) -> None:
    card = " ".join((published(CONFIG) / "README.md").read_text().split())
    assert "both share their token ids" in card
    assert "Fluent's were not seen" in card
    own = replace(
        CONFIG, train_codes=True, sources=(MovingEmojiSource(num=1, vendors=("fluent",)),)
    )
    card = " ".join((published(own) / "README.md").read_text().split())
    assert "Its codebook is also its own" in card
    assert "not seen" not in card


def test_the_card_names_the_recipe_that_was_trained_and_licences_of_its_sources_alone(
    published,
) -> None:
    recipe = replace(CONFIG, num_steps=1234, sources=(PhysicsSource(num=2345), *CONFIG.sources))
    card = " ".join((published(recipe) / "README.md").read_text().split())
    assert "genvlm train recipe.yaml --out" in card
    assert "video-64" not in card
    assert "1,234 steps" in card
    assert "`physics`: 2,345 simulated clips of 33 frames" in card
    assert "trained on: - Noto Emoji (Apache-2.0)" in card
    assert "Twemoji" not in card
    assert "no clips of the kind of: camera." in card
    mine = replace(CONFIG, sources=(VideosSource(path="my/clips", frames_per_second=12),))
    card = " ".join((published(mine) / "README.md").read_text().split())
    assert "`videos`: clips of 17 frames at 12 a second from `my/clips`" in card
    assert "drawings that" not in card
    assert "not seen" not in card
    # Whatever was trained on, the picture shows the drawings that were measured.
    assert "with drawings of Noto Emoji (Apache-2.0) and Fluent UI Emoji (MIT)." in card


def test_a_folder_is_whole_with_these_weights_as_stored_and_with_the_card_that_is_written_last(
    tmp_path: Path,
) -> None:
    video, card, weights = (
        tiny_video_tokenizer(), tmp_path / "README.md", tmp_path / "video.safetensors",
    )  # fmt: skip
    assert not studies._is_published(video, CONFIG, tmp_path)
    video.save(tmp_path, dtype=torch.float16, exact=PICTURE_CODES)
    assert not studies._is_published(video, CONFIG, tmp_path)
    card.write_text("card")
    assert studies._is_published(video, CONFIG, tmp_path)
    other = tiny_video_tokenizer()
    next(other.network.parameters()).add_(0.1)
    assert not studies._is_published(other, CONFIG, tmp_path)
    weights.write_bytes(weights.read_bytes()[:-8])
    assert not studies._is_published(video, CONFIG, tmp_path)
