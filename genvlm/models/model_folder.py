"""What every model folder has: it appears whole, and a manifest holds the sha256 of each file.

Every family has config.yaml and model.safetensors; nothing in a folder is a pickle.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from genvlm.errors import CheckpointError
from genvlm.nn.file_system import DISK, FileSystem
from genvlm.nn.whole_files import (
    hash_file,
    make_folders,
    publish_folder,
    restore_replaced,
    storage_errors,
)

CONFIG, WEIGHTS, CARD, MANIFEST = (
    "config.yaml", "model.safetensors", "README.md", "manifest.json",
)  # fmt: skip


_TOKENIZERS = ("image.yaml", "text.model", "text.json", "video.yaml")
"""Of which the folder of a tokenizer holds one."""


def publish_model_folder(
    folder: Path, write: Callable[[Path], None], *, disk: FileSystem = DISK
) -> None:
    """A folder of what `write` writes, whole or not at all; an earlier one is replaced.

    Raises:
        StorageError: the disk is full, read-only or gone; an earlier folder stands.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with storage_errors(folder):
        make_folders(folder.parent, disk=disk)
        restore_replaced(folder, disk=disk)
        for left_by_a_kill in folder.parent.glob(f".{folder.name}.*.tmp"):
            disk.remove(left_by_a_kill)
        try:
            disk.make_folder(temporary)
            write(temporary)
            files = sorted(p for p in temporary.rglob("*") if p.is_file())
            manifest = {str(p.relative_to(temporary)): hash_file(p) for p in files}
            disk.write(temporary / MANIFEST, json.dumps(manifest, indent=1))
            publish_folder(temporary, folder, disk=disk)
        finally:
            with contextlib.suppress(OSError):
                disk.remove(temporary)


def is_finished(folder: Path) -> bool:
    """Whether a model folder has been written to its end."""
    return (folder / MANIFEST).is_file()


def verify_folder(folder: Path) -> list[str]:
    """The files of a model folder, relative. Raises CheckpointError unless each has its hash."""
    if not folder.is_dir():
        raise CheckpointError(f"no model folder at {folder}: check --model")
    try:
        manifest = dict(json.loads((folder / MANIFEST).read_text()).items())
        if not {CONFIG, WEIGHTS} <= manifest.keys():
            raise ValueError
    except (OSError, ValueError, AttributeError):
        inside = folder / "model"
        hint = f"; did you mean {inside}?" if is_finished(inside) else ""
        if (folder / "model_index.json").is_file():
            hint = "; a pipeline of diffusers goes with generate, score, classify and eval run"
        kinds = [Path(name).stem for name in _TOKENIZERS if (folder / name).is_file()]
        if kinds:
            hint = f"; it holds tokenizers ({', '.join(kinds)}) and no model"
        raise CheckpointError(
            f"{folder} is not a finished model folder: it has no readable {MANIFEST}{hint}"
        ) from None
    for name, expected in manifest.items():
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
            raise CheckpointError(f"{folder} lacks {name}: copy the model folder again")
        if hash_file(path) != expected:
            raise CheckpointError(f"{path} was altered or damaged: copy the model folder again")
    return list(manifest)
