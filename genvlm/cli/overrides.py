"""A YAML configuration with `--section.field value` overrides, parsed by tyro."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from genvlm.config.schema import load_config, parse_config, to_plain
from genvlm.errors import ConfigError, GenvlmError

T = TypeVar("T")


def load_with_overrides(cls: type[T], path: Path, overrides: Sequence[str]) -> T:
    """The configuration of a file with overrides applied.

    Raises:
        ConfigError: from the file, or a value that does not fit. An override that tyro cannot read
            ends the program with its message, code 2.
    """
    config = load_config(cls, path)
    if not overrides:
        return config
    import tyro

    prog = "genvlm train CONFIG --out RUN"
    try:
        changed: T = tyro.cli(cls, default=config, args=list(overrides), prog=prog)
    except GenvlmError as error:
        raise ConfigError(f"command line: {error}") from None
    return parse_config(cls, to_plain(changed), "command line")
