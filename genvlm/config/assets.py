"""Files shipped beside the code: `configs/`, `eval/benchmarks/`, `tokenizers/`."""

from pathlib import Path

from genvlm.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent


def asset_path(relative: str) -> Path:
    """Path of a shipped file or folder, in a checkout as in an installed wheel.

    Raises:
        ConfigError: nothing of that name is shipped.
    """
    for root in (_PACKAGE / "assets", _PACKAGE.parent):
        if (root / relative).exists():
            return root / relative
    raise ConfigError(f"genvlm ships no {relative!r}")


def resolve_path(path: str) -> Path:
    """The user's path where it exists, else a shipped file of that name.

    Raises:
        ConfigError: neither is there.
    """
    if Path(path).exists():
        return Path(path)
    try:
        return asset_path(path)
    except ConfigError:
        raise ConfigError(
            f"{path!r} is neither a path on this machine nor a shipped file: check its spelling"
        ) from None
