"""Model folders with a video tokenizer, and that those without one are what they were."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genvlm.config.schema import read_yaml, to_plain
from genvlm.config.syntax import SyntaxConfig
from genvlm.errors import CheckpointError, ConfigError, VideoError
from genvlm.models.pretrained import (
    PretrainedModel,
    build_vocabulary,
    load_pretrained,
    save_pretrained,
    vocabulary_size,
)
from genvlm.nn.safetensors_folder import fingerprint_of, fingerprint_tensors
from genvlm.testing.tiny import (
    tiny_image_tokenizer,
    tiny_pretrained,
    tiny_text_tokenizer,
    tiny_video_tokenizer,
)

TEXT, IMAGE = tiny_text_tokenizer(), tiny_image_tokenizer()


@pytest.fixture(scope="module")
def pretrained() -> PretrainedModel:
    return tiny_pretrained(video=True)


@pytest.fixture(scope="module")
def written(pretrained: PretrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_pretrained(pretrained, folder, "# card\n")
    return folder


def frames_of(num_frames: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_frames, 16, 16, 3), np.uint8)


@pytest.mark.parametrize("own_video_codes", [False, True])
def test_a_folder_keeps_the_video_tokenizer(own_video_codes: bool, tmp_path: Path) -> None:
    pretrained = tiny_pretrained(video=True, own_video_codes=own_video_codes)
    save_pretrained(pretrained, tmp_path / "model", "# card\n")
    loaded = load_pretrained(tmp_path / "model")
    assert loaded.fingerprint == pretrained.fingerprint
    assert loaded.vocabulary == pretrained.vocabulary
    assert loaded.vocabulary.video_shares_image != own_video_codes
    np.testing.assert_array_equal(
        loaded.encode_video(frames_of(9)), pretrained.encode_video(frames_of(9))
    )


def test_a_clip_becomes_latent_frames_whose_first_is_the_picture(
    pretrained: PretrainedModel,
) -> None:
    frames = frames_of(9)
    codes = pretrained.encode_video(frames)
    assert codes.shape == (3, 4, 4)
    np.testing.assert_array_equal(codes[:1], pretrained.encode_images(list(frames[:1])))
    with pytest.raises(VideoError, match="10 frames do not fit"):
        pretrained.encode_video(frames_of(10))


def test_a_model_without_a_video_tokenizer_says_so() -> None:
    with pytest.raises(ConfigError, match="no video tokenizer: use one that was trained with"):
        tiny_pretrained().encode_video(frames_of(9))


def test_models_without_video_are_what_they_were(tmp_path: Path) -> None:
    pretrained = tiny_pretrained()
    save_pretrained(pretrained, tmp_path / "model", "# card\n")
    assert set(read_yaml(tmp_path / "model" / "config.yaml")) == {
        "schema_version", "model", "condition_dropout", "syntax", "vocabulary", "text_tokenizer",
        "image_tokenizer",
    }  # fmt: skip
    assert not list((tmp_path / "model").rglob("video*"))
    vocabulary = {
        "image": [16, pretrained.image_tokenizer.codebook_fingerprint],
        "video": None,
        "control": ["EOV", "EOI", "PAD", "BOS", "BOV", "EOS", "BOI"],
        "text_size": 288,
    }
    assert pretrained.vocabulary.fingerprint_payload() == vocabulary
    payload = {
        "schema": 3,
        "weights": fingerprint_tensors(pretrained.model.state_dict()),
        "model": to_plain(pretrained.model.config),
        "vocabulary": vocabulary,
        "text_tokenizer": pretrained.text_tokenizer.fingerprint,
        "image_tokenizer": pretrained.image_tokenizer.fingerprint,
    }
    assert pretrained.fingerprint == fingerprint_of(payload)


def test_the_fingerprint_follows_the_video_tokenizer(pretrained: PretrainedModel) -> None:
    other = tiny_video_tokenizer(seed=0)
    other.network.decoder.leave.weight[0] += 1e-3
    assert replace(pretrained, video_tokenizer=other).vocabulary == pretrained.vocabulary
    assert replace(pretrained, video_tokenizer=other).fingerprint != pretrained.fingerprint


def test_an_altered_or_missing_video_tokenizer_is_refused(written: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(written, folder)
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(config.replace("video_tokenizer: ", "video_tokenizer: 0"))
    with pytest.raises(CheckpointError, match=r"config\.yaml was altered"):
        load_pretrained(folder)
    (folder / "tokenizers" / "video.safetensors").unlink()
    (folder / "config.yaml").write_text(config)
    with pytest.raises(CheckpointError, match=r"lacks tokenizers/video\.safetensors: copy"):
        load_pretrained(folder)


def test_the_video_tokenizer_of_another_model_is_refused(
    pretrained: PretrainedModel, tmp_path: Path
) -> None:
    other = tiny_video_tokenizer(frames_per_latent=2)

    def exchange(folder: Path) -> None:
        other.save(folder / "tokenizers")

    save_pretrained(pretrained, tmp_path / "model", "# card\n", also=exchange)
    with pytest.raises(CheckpointError, match=r"video tokenizer in .* is not the one"):
        load_pretrained(tmp_path / "model")


def test_grids_that_differ_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"makes 2x2 codes of a frame, and .* 4x4 of a picture"):
        build_vocabulary(TEXT, IMAGE, video=tiny_video_tokenizer(resolution=8))


@pytest.mark.parametrize("syntax", [SyntaxConfig(), SyntaxConfig(num_gaps=2, max_side=5)])
@pytest.mark.parametrize(("video_seed", "num_video_codes"), [(0, 0), (1, 16)])
def test_the_size_of_the_vocabulary_is_known_before(
    syntax: SyntaxConfig, video_seed: int, num_video_codes: int
) -> None:
    video = tiny_video_tokenizer(seed=video_seed)
    vocabulary = build_vocabulary(TEXT, IMAGE, syntax, video)
    assert len(vocabulary.video_range) == 16
    size = vocabulary_size(TEXT.size, 16, IMAGE.config, syntax, num_video_codes)
    assert size == vocabulary.size
