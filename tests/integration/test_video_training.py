"""A model of clips, captions and pictures, from its configuration to its folder."""

import json
from pathlib import Path

import pytest

from genvlm.cli.main import main
from genvlm.config.data import DataConfig, PhysicsSource
from genvlm.config.training import ObjectiveConfig, OptimizerConfig, TokenizersConfig, TrainConfig
from genvlm.errors import ConfigError
from genvlm.models.pretrained import load_pretrained
from genvlm.testing.tiny import tiny_image_tokenizer, tiny_transformer_config, tiny_video_tokenizer
from genvlm.training.run_folder import read_log

CONFIG = str(Path(__file__).resolve().parents[2] / "configs/debug/video.yaml")


def tokenizers_in(folder: Path, *, video_seed: int = 0) -> list[str]:
    """Overrides that name tiny tokenizers, written into a folder."""
    tiny_image_tokenizer().save(folder / "image")
    tiny_video_tokenizer(seed=video_seed).save(folder / "video")
    return [
        "--tokenizers.image", str(folder / "image"), "--tokenizers.video", str(folder / "video"),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    out = folder / "video"
    assert main(["train", CONFIG, "--out", str(out), *tokenizers_in(folder)]) == 0
    return out


def test_a_model_learns_clips_and_keeps_its_video_tokenizer(run_folder: Path) -> None:
    log = read_log(run_folder / "log.jsonl")
    assert log[-1]["loss_video"] < log[0]["loss_video"] - 0.3
    pretrained = load_pretrained(run_folder / "model")
    assert pretrained.video_tokenizer is not None
    assert pretrained.video_tokenizer.fingerprint == tiny_video_tokenizer().fingerprint
    assert pretrained.vocabulary.video_shares_image
    card = " ".join((run_folder / "model" / "README.md").read_text().split())
    assert "48 documents with 16 pictures and 32 clips" in card
    assert list(json.loads((run_folder / "inputs.json").read_text())) == [
        "text tokenizer", "image tokenizer", "video tokenizer", "corpus",
    ]  # fmt: skip


def test_a_run_does_not_go_on_with_another_video_tokenizer(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tiny_video_tokenizer()
    other = tiny_video_tokenizer()
    other.network.decoder.leave.weight[0] += 1e-3
    overrides = [
        "--tokenizers.image", str(run_folder.parent / "image"),
        "--tokenizers.video", str(run_folder.parent / "video"),
    ]  # fmt: skip
    other.save(run_folder.parent / "video")
    try:
        assert main(["train", CONFIG, "--out", str(run_folder), "--resume", *overrides]) == 2
    finally:
        before.save(run_folder.parent / "video")
    assert "started with another video tokenizer: bring back" in capsys.readouterr().err


def test_shards_of_a_run_train_it_as_its_sources_do(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens, overrides = tmp_path / "tokens", tokenizers_in(tmp_path)
    assert main(["data", "shard", CONFIG, "--out", str(tokens), "--json", *overrides]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["pictures"], said["videos"]) == (16, 32)
    sources = json.dumps([{"kind": "shards", "path": str(tokens)}])
    config = Path(CONFIG).read_text()
    start, stop = config.index("  sources:"), config.index("objective:")
    (tmp_path / "own.yaml").write_text(f"{config[:start]}  sources: {sources}\n{config[stop:]}")
    command = ["train", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "run"), *overrides]
    assert main([*command, "--num-steps", "5"]) == 0
    ours, theirs = (read_log(f / "log.jsonl")[0] for f in (tmp_path / "run", run_folder))
    assert ours["loss_video"] == theirs["loss_video"]


@pytest.mark.parametrize(
    ("video_seed", "merged", "more_ids"),
    [(0, "null", 0), (1, "null", 16), (0, "7", -9), (1, "7", -2)],
)
def test_a_plan_counts_the_ids_of_videos(
    run_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    video_seed: int,
    merged: str,
    more_ids: int,
) -> None:
    """Merged, 7 codes stand for 16 of pictures; clips have the same ones, or 7 of their own."""
    overrides = tokenizers_in(tmp_path, video_seed=video_seed)
    named = (
        Path(CONFIG)
        .read_text()
        .replace(
            "  video: tokenizers/video-64",
            f"  image: {overrides[1]}\n  video: {overrides[3]}\n  num_codes: {merged}",
        )
    )
    (tmp_path / "own.yaml").write_text(named)
    assert main(["plan", str(tmp_path / "own.yaml"), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["parameters"]["total"]
    trained = sum(p.numel() for p in load_pretrained(run_folder / "model").model.parameters())
    assert planned == trained + more_ids * 2 * 32  # in embedding and head


def test_a_source_of_clips_without_a_video_tokenizer_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Path(CONFIG).read_text().replace("  video: tokenizers/video-64", "  video: null")
    (tmp_path / "own.yaml").write_text(config)
    assert main(["train", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert "data.sources.0, of kind physics, holds videos: set tokenizers.video to a" in said


def test_something_must_be_learned() -> None:
    settings = {
        "model": tiny_transformer_config(),
        "data": DataConfig(sources=(PhysicsSource(num=1),)),
        "optimizer": OptimizerConfig(learning_rate=1e-3),
        "num_steps": 1, "global_batch_size": 1, "micro_batch_size": 1,
        "objective": ObjectiveConfig(text_weight=0, image_weight=0),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="nothing would be learned"):
        TrainConfig(**settings)
    TrainConfig(**settings, tokenizers=TokenizersConfig(video="folder"))
    settings["objective"] = ObjectiveConfig(text_weight=0, image_weight=0, video_weight=0)
    with pytest.raises(ConfigError, match="nothing would be learned"):
        TrainConfig(**settings, tokenizers=TokenizersConfig(video="folder"))
