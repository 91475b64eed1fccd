"""What every model folder has: it appears whole, and a manifest holds the sha256 of each file.

Every family has config.yaml and model.safetensors; nothing in a folder is a pickle.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genvlm.config.schema import read_yaml
from genvlm.errors import CheckpointError, ConfigError
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


def copy_folder(folder: Path, target: Path) -> None:
    """The files of a model folder, which may lie in that of another. Raises as `verify_folder`."""
    for name in [*verify_folder(folder), MANIFEST]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / name, target / name)


def is_of_kind(folder: Path, kind: str) -> bool:
    """Whether this is, or was to be, a model folder of a kind."""
    try:
        return bool(read_yaml(folder / CONFIG).get("kind") == kind)
    except ConfigError:
        return False


def read_model_config(folder: Path, kind: str | None, schema: int) -> dict[str, Any]:
    """What config.yaml of a whole folder says; that of a mixed-modal model says no kind.

    Raises:
        CheckpointError: a file is missing or altered, it is a model of another kind, or another
            genvlm wrote it.
    """
    verify_folder(folder)
    content = read_yaml(folder / CONFIG)
    if content.get("kind") != kind:
        found, wanted = (k or "mixed-modal" for k in (content.get("kind"), kind))
        raise CheckpointError(f"{folder} is a {found} model: a {wanted} one is needed here")
    if content.get("schema_version") != schema:
        raise CheckpointError(
            f"{folder} has schema {content.get('schema_version')}; this genvlm reads {schema}: "
            "use the version that wrote it"
        )
    return content


def check_part(folder: Path, part: str, found: str, expected: str | None) -> None:
    """Raises CheckpointError: a part in a folder has not the fingerprint that was written."""
    if found != expected:
        raise CheckpointError(
            f"the {part} in {folder} is not the one the model was trained with (fingerprint "
            f"{found[:12]}, expected {str(expected)[:12]}): copy the folder again"
        )


def check_whole(folder: Path, found: str, expected: str) -> None:
    """Raises CheckpointError: the model in a folder has not the fingerprint that was written."""
    if found != expected:
        raise CheckpointError(
            f"{folder} computes something else than the model that was written (fingerprint "
            f"{found[:12]}, expected {expected[:12]}): copy it again"
        )
