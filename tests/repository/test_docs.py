"""Snippets of the documentation are configurations that load."""

import re
from pathlib import Path

import yaml

from genvlm.config.contrastive import ContrastiveConfig, MixtureTokensConfig
from genvlm.config.data import DataConfig, FileSource
from genvlm.config.projector import ProjectorConfig
from genvlm.config.schema import parse_config
from genvlm.config.training import ObjectiveConfig, TokenizersConfig

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_readers_shows_each_layout_as_it_is_configured() -> None:
    page = (ROOT / "docs/readers.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = parse_config(DataConfig, yaml.safe_load(snippet)["data"], "docs/readers.md")
    assert {type(source) for source in config.sources} == set(FileSource.__args__)  # type: ignore[attr-defined]
    listed = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert listed[1:] == [source.kind for source in config.sources]


def test_the_page_of_data_shows_videos_as_they_are_configured() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"## Videos\n\n```yaml\n(.*?)```", page, re.DOTALL)
    content = yaml.safe_load(snippet)
    for key, cls in (
        ("tokenizers", TokenizersConfig), ("data", DataConfig), ("objective", ObjectiveConfig),
    ):  # fmt: skip
        parse_config(cls, content[key], "docs/data.md")


def test_the_page_of_contrastive_models_shows_mixture_tokens() -> None:
    page = (ROOT / "docs/contrastive.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = parse_config(
        ContrastiveConfig, yaml.safe_load(snippet)["model"], "docs/contrastive.md"
    )
    assert config.mixture_tokens == MixtureTokensConfig(num_tokens=8, num_heads=4)


def test_the_page_of_projectors_shows_parts_that_go_together() -> None:
    page = (ROOT / "docs/projector.md").read_text(encoding="utf-8")
    shown = [
        parse_config(ProjectorConfig, yaml.safe_load(snippet)["model"], "docs/projector.md")
        for snippet in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    ]
    assert [(c.image_encoder.kind, c.projector) for c in shown] == [
        ("small", "linear"), ("vqgan", "queries"),
    ]  # fmt: skip
