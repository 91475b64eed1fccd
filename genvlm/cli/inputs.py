"""Input and output files of commands: checked before work is spent, read within bounds."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genvlm.errors import ConfigError

if TYPE_CHECKING:
    from genvlm.data.images import RGBImage
    from genvlm.models.pretrained import PretrainedModel


def load_fitted(path: Path, pretrained: "PretrainedModel") -> "RGBImage":
    """A picture as the model's tokenizer takes it; a large one is not kept."""
    from genvlm.data.images import load_image

    return pretrained.fit_image(load_image(path))


def check_output_file(path: Path, *, but_not: Path) -> None:
    """Make the folder of a file to write. Raises ConfigError: a folder, or the input itself."""
    if path.is_dir():
        raise ConfigError(f"--out {path} is a folder: name a file")
    if path.exists() and path.samefile(but_not):
        raise ConfigError(f"--out {path} is the input: name another file")
    path.parent.mkdir(parents=True, exist_ok=True)


def check_output_folder(path: Path, *, but_not: Sequence[Path] = ()) -> None:
    """Raises ConfigError for a file, or the folder of one of the inputs `but_not`, or one of them.

    Makes nothing yet: the input may still be refused.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--out {path} is a file: name a folder")
    for source in but_not:
        if path.resolve() in (source.resolve(), source.resolve().parent):
            raise ConfigError(f"--out {path} holds the input {source}: name another folder")


def record_command(run_folder: Path) -> None:
    """Add this command line to the run's `commands.txt`, which its report shows."""
    with (run_folder / "commands.txt").open("a", encoding="utf-8") as file:
        file.write(shlex.join(["genvlm", *sys.argv[1:]]) + "\n")
