"""Runs from token shards, packed and mixed, and `genvlm data shard`."""

import json
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from genvlm.cli.main import main
from genvlm.config.data import ScenesSource, ShardsSource
from genvlm.config.schema import dump_config
from genvlm.config.training import TrainConfig
from genvlm.data.batches import BatchSource
from genvlm.data.corpus import build_corpus
from genvlm.errors import DataError
from genvlm.nn.safetensors_folder import fingerprint_tensors, load_tensors
from genvlm.testing.logs import logged
from genvlm.testing.tiny import tiny_train_config
from genvlm.training.loop import Progress, build_source, load_tokenizers, train
from genvlm.training.stopping import StoppedError


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    config = tiny_train_config(tmp_path_factory.mktemp("tiny"), num_steps=6)
    data = replace(config.data, sources=(*config.data.sources, ScenesSource(num=30)))
    return replace(config, data=data)


@pytest.fixture(scope="module")
def shards(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "run.yaml").write_text(dump_config(config))
    command = ["data", "shard", str(folder / "run.yaml"), "--samples-per-shard", "10"]
    assert main([*command, "--out", str(folder / "shards")]) == 0
    return folder / "shards"


def _from(shards: Path, config: TrainConfig, **data: object) -> TrainConfig:
    sources = (ShardsSource(path=str(shards)),)
    return replace(config, data=replace(config.data, **({"sources": sources} | data)))


def _source(config: TrainConfig) -> BatchSource:
    tokenizers = load_tokenizers(config)
    return build_source(config, tokenizers, build_corpus(config.data, tokenizers, None))


def _weights(out: Path) -> str:
    return fingerprint_tensors(load_tensors(out / "model" / "model.safetensors"))


def _same(a: Path, b: Path) -> None:
    assert logged(a) == logged(b)
    assert _weights(a) == _weights(b)


def test_a_run_from_shards_is_the_run_from_their_sources(
    config: TrainConfig, shards: Path, tmp_path: Path
) -> None:
    train(config, tmp_path / "direct")
    train(_from(shards, config), tmp_path / "sharded")
    _same(tmp_path / "direct", tmp_path / "sharded")
    assert not (tmp_path / "sharded" / "cache").exists()
    card = (tmp_path / "sharded" / "model" / "README.md").read_text()
    assert "Drawings: Noto" in card, "licences of what was sharded"


@pytest.mark.parametrize("data", [{"packing": True}, {"weights": (1.0, 3.0)}])
def test_a_stopped_run_goes_on_bitwise_when_packed_or_mixed(
    config: TrainConfig, shards: Path, tmp_path: Path, data: dict[str, object]
) -> None:
    sources = (ShardsSource(path=str(shards)), ScenesSource(num=7))
    changed = _from(shards, config, sources=sources if "weights" in data else sources[:1], **data)
    train(changed, tmp_path / "whole")

    def stop(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StoppedError):
        train(changed, tmp_path / "stopped", progress=Progress(step=stop))
    train(changed, tmp_path / "stopped", resume=True)
    _same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize("packing", [False, True])
def test_each_id_comes_exactly_once_in_each_of_three_epochs(
    config: TrainConfig, shards: Path, packing: bool
) -> None:
    source = _source(_from(shards, config, packing=packing))
    steps = source.batches_per_epoch
    for epoch in range(3):
        read = Counter(
            i for step in range(epoch * steps, (epoch + 1) * steps) for i in source.ids(step)
        )
        assert len(read) == len(source.corpus) == 42
        assert set(read.values()) == {1}


def test_a_shard_that_is_cut_while_training_ends_the_run_with_a_sentence(
    config: TrainConfig, shards: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for path in shards.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    changed = _from(folder, replace(config, num_steps=400, checkpoint_every=1))
    victim = folder / "shard-00001.safetensors"

    def cut(record: dict[str, float], _num_steps: int) -> None:
        if record["step"] == 2:
            victim.write_bytes(victim.read_bytes()[:8])

    with pytest.raises(DataError, match=r"shard-00001\.safetensors has 8 of .* bytes, while"):
        train(changed, tmp_path / "run", progress=Progress(step=cut))
    victim.write_bytes((shards / victim.name).read_bytes())
    short = replace(changed, num_steps=400)
    said: list[str] = []

    def stop(_record: dict[str, float], _num_steps: int) -> None:
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(StoppedError):
        train(short, tmp_path / "run", resume=True, progress=Progress(step=stop, say=said.append))
    assert any(s.startswith("resumed at step") for s in said)


def test_the_command_says_what_it_wrote_and_how_full_rows_are(
    config: TrainConfig, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text(dump_config(config))
    command = ["data", "shard", str(tmp_path / "run.yaml"), "--samples-per-shard", "10"]
    assert main([*command, "--out", str(shards), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["samples"], said["shards"], said["skipped"]) == (42, 5, 0)
    used = said["positions_used"]
    assert 0 < used["a document a row"] <= 1
    assert used["packed into rows of 1024"] > used["packed into rows of 64"]
    assert main(["data", "shard", "configs/debug/diffusion.yaml", "--out", str(shards)]) == 2
    assert "no run of a mixed-modal transformer" in capsys.readouterr().err
    (tmp_path / "again.yaml").write_text(dump_config(_from(shards, config)))
    assert main(["data", "shard", str(tmp_path / "again.yaml"), "--out", str(shards)]) == 2
    assert "is shards already" in capsys.readouterr().err


def test_shards_are_not_written_beside_other_things(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").touch()
    assert main(["data", "shard", "configs/debug/tiny.yaml", "--out", str(tmp_path)]) == 2
    assert "holds config.yaml and no shards" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_shards_cut_off_before_their_first_index_go_on(config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(dump_config(config))
    out = tmp_path / "shards"
    out.mkdir()
    for name in (".lock", "shard-00000.safetensors", "unfinished.json.1.tmp"):
        (out / name).touch()
    assert main(["data", "shard", str(tmp_path / "run.yaml"), "--out", str(out)]) == 0
    assert (out / "index.json").is_file()
