"""Every shipped configuration loads as the class that its `kind` names."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genvlm.config.coca import CoCaTrainConfig
from genvlm.config.compare import CompareConfig
from genvlm.config.contrastive import ContrastiveTrainConfig
from genvlm.config.curation import CurationConfig
from genvlm.config.diffusion import DiffusionTrainConfig
from genvlm.config.image_encoder import OwnPatchesConfig
from genvlm.config.image_tokenizer import VQGANConfig, VQGANTrainConfig
from genvlm.config.masked import MaskedTrainConfig
from genvlm.config.projector import ProjectorTrainConfig
from genvlm.config.schema import dump_config, load_config, parse_config, read_yaml
from genvlm.config.text_tokenizer import TextTokenizerConfig
from genvlm.config.training import TrainConfig
from genvlm.config.transformer import PublishedShape
from genvlm.config.video_tokenizer import VideoVQConfig, VideoVQTrainConfig
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.tokenization.vqgan import VQGAN

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "mixed_modal": TrainConfig,
    "diffusion": DiffusionTrainConfig,
    "contrastive": ContrastiveTrainConfig,
    "coca": CoCaTrainConfig,
    "masked": MaskedTrainConfig,
    "projector": ProjectorTrainConfig,
    "vqgan": VQGANTrainConfig,
    "video_vq": VideoVQTrainConfig,
    "sentencepiece": TextTokenizerConfig,
    "shape": PublishedShape,
    "curation": CurationConfig,
    "compare": CompareConfig,
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
    command = rf"(train|compare|demo --config|data curate) {name} --out \S+|config show {name}"
    assert re.fullmatch(rf"# genvlm ({command})", first)
    assert second.startswith("# ")


@pytest.mark.parametrize("path", CONFIGS, ids=_name)
def test_a_configuration_names_shipped_files_only(path: Path) -> None:
    content = read_yaml(path)
    if content["kind"] == "mixed_modal":
        config = parse_config(TrainConfig, content, _name(path))
        names = [config.tokenizers.text, config.tokenizers.image, config.deepspeed]
    elif content["kind"] == "diffusion":
        model = parse_config(DiffusionTrainConfig, content, _name(path)).model
        names = [getattr(model.text_encoder, "tokenizer", None)]
        names.append(getattr(model.latents, "path", None))
    elif content["kind"] == "projector":
        # The language model is one of the user's own, and the encoder of such a model, too.
        encoder = parse_config(ProjectorTrainConfig, content, _name(path)).model.image_encoder
        own = isinstance(encoder, OwnPatchesConfig)
        names = [] if own else [getattr(encoder, "path", None)]
    else:
        return
    for named in names:
        assert named is None or (ROOT / named).exists(), named


@pytest.mark.parametrize("path", SHAPES, ids=_name)
def test_a_shipped_image_tokenizer_has_the_shape_of_its_recipe(path: Path) -> None:
    recipe = load_config(VQGANTrainConfig, path.with_name("recipe.yaml"))
    assert load_config(VQGANConfig, path) == recipe.model


def test_the_shipped_video_tokenizer_has_the_shape_and_the_recipe_of_its_configuration() -> None:
    folder = ROOT / "tokenizers/video-64"
    recipe = load_config(VideoVQTrainConfig, folder / "recipe.yaml")
    assert recipe == load_config(VideoVQTrainConfig, ROOT / "configs/train/video-64.yaml")
    shape = load_config(VideoVQConfig, folder / "video.yaml")
    assert shape == recipe.model(load_config(VQGANConfig, ROOT / recipe.initial / "image.yaml"))


PUBLISHED = {
    "chameleon-7b": 7_013_158_912,
    "chameleon-34b": 34_294_308_864,
    "llamagen-b": 110_888_448,
    "llamagen-l": 342_910_976,
    "llamagen-xl": 774_699_520,
    "llamagen-xxl": 1_410_972_672,
    "llamagen-3b": 3_096_659_200,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_shape_has_the_published_number_of_parameters(name: str) -> None:
    shape = load_config(PublishedShape, ROOT / f"configs/train/{name}.yaml")
    with torch.device("meta"):
        model = MixedModalTransformer(shape.model, shape.vocab_size)
        per_head = MixedModalTransformer(
            replace(shape.model, qk_norm_per_head=shape.model.qk_norm is not None),
            shape.vocab_size,
        )
    assert count(model) == shape.num_parameters == PUBLISHED[name]
    if name == "chameleon-7b":
        assert count(per_head) == 7_013_666_816
    if name.startswith("chameleon"):
        assert shape.image_tokenizer is not None
        with torch.device("meta"):
            assert count(VQGAN(shape.image_tokenizer)) == 68_718_467


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
