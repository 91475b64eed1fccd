"""Strict YAML: what a wrong key, type or file says, and that every shipped file is sound."""

from pathlib import Path

import pytest
import yaml

from genvlm.cli.main import main
from genvlm.config.schema import dump_config, load_config, parse_config
from genvlm.config.training import TrainConfig
from genvlm.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
TINY = ROOT / "configs/debug/tiny.yaml"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("model", "hiden_size"), 3, "unknown key 'model.hiden_size'; did you mean 'hidden_size'"),
        (("data", "sources", 0, "numm"), 3, "did you mean 'num'"),
        (("num_steps",), "many", "'num_steps'"),
        (("model", "num_heads"), None, "'model.num_heads'"),
        (("model", "num_kv_heads"), 3, "not a multiple of num_kv_heads 3"),
        (("global_batch_size",), 6, "not a multiple of micro_batch_size"),
        (("data", "sources", 0, "kind"), "scene", "'scenes'"),
    ],
)
def test_a_wrong_key_or_value_is_named(path, value, said):
    content = yaml.safe_load(TINY.read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ConfigError, match=r"my\.yaml") as raised:
        parse_config(TrainConfig, content, "my.yaml")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"a: [", "not valid YAML"), (b"\xff\xfe\x00", "UTF-8"), (b"- 1", "mapping")],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content, said):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        load_config(TrainConfig, path)


def test_scientific_notation_is_a_number():
    assert load_config(TrainConfig, TINY).optimizer.learning_rate == 3e-3


def test_a_dumped_configuration_loads_as_itself(tmp_path):
    config = load_config(TrainConfig, TINY)
    path = tmp_path / "resolved.yaml"
    path.write_text(dump_config(config))
    assert load_config(TrainConfig, path) == config


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_configuration_is_sound_and_says_its_command(path):
    assert main(["config", "check", str(path)]) == 0
    assert path.read_text().startswith("# genvlm train")
