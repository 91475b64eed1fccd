"""A YAML configuration with `--section.field value` overrides, parsed by tyro."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from genvlm.config.schema import load_config

T = TypeVar("T")


def load_with_overrides(cls: type[T], path: Path, overrides: Sequence[str]) -> T:
    """The configuration of a file with overrides applied.

    Raises:
        ConfigError: from the file. A wrong override ends the program with tyro's message, code 2.
    """
    config = load_config(cls, path)
    if not overrides:
        return config
    import tyro

    return tyro.cli(cls, default=config, args=list(overrides), prog="genvlm train CONFIG --out RUN")
