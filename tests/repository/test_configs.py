"""Every shipped configuration loads as the class that its `kind` names."""

import re
from pathlib import Path

import pytest

from genvlm.config.image_tokenizer import VQGANConfig, VQGANTrainConfig
from genvlm.config.schema import dump_config, load_config, parse_config, read_yaml
from genvlm.config.text_tokenizer import TextTokenizerConfig
from genvlm.config.training import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "mixed_modal": TrainConfig,
    "vqgan": VQGANTrainConfig,
    "sentencepiece": TextTokenizerConfig,
}
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
RECIPES = sorted((ROOT / "tokenizers").rglob("recipe.yaml"))
SHAPES = sorted((ROOT / "tokenizers").rglob("image.yaml"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_check() -> None:
    assert CONFIGS
    assert RECIPES
    assert SHAPES


@pytest.mark.parametrize("path", CONFIGS + RECIPES, ids=_name)
def test_a_configuration_loads_as_its_kind_and_survives_a_dump(path: Path, tmp_path: Path) -> None:
    cls = KINDS[read_yaml(path)["kind"]]
    config = load_config(cls, path)
    copy = tmp_path / "resolved.yaml"
    copy.write_text(dump_config(config), encoding="utf-8")
    assert load_config(cls, copy) == config


@pytest.mark.parametrize("path", CONFIGS, ids=_name)
def test_a_configuration_opens_with_its_own_command(path: Path) -> None:
    first, second = path.read_text("utf-8").splitlines()[:2]
    name = re.escape(_name(path))
    assert re.fullmatch(rf"# genvlm (train|demo --config) {name} --out \S+", first)
    assert second.startswith("# ")


@pytest.mark.parametrize("path", CONFIGS, ids=_name)
def test_a_configuration_names_shipped_files_only(path: Path) -> None:
    content = read_yaml(path)
    if content["kind"] != "mixed_modal":
        return
    config = parse_config(TrainConfig, content, _name(path))
    for named in (config.tokenizers.text, config.tokenizers.image, config.deepspeed):
        assert named is None or (ROOT / named).exists(), named


@pytest.mark.parametrize("path", SHAPES, ids=_name)
def test_a_shipped_image_tokenizer_has_the_shape_of_its_recipe(path: Path) -> None:
    recipe = load_config(VQGANTrainConfig, path.with_name("recipe.yaml"))
    assert load_config(VQGANConfig, path) == recipe.model
