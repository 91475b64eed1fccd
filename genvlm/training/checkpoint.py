"""Checkpoints that a kill at any moment cannot spoil.

A checkpoint is written into a temporary folder, flushed to disk, described by a manifest with the
sha256 of every file, and only then renamed into place; older ones are deleted last. The newest
*valid* one is resumed. A hash is no authentication: resume only runs that are your own.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from genvlm.errors import CheckpointError
from genvlm.nn.whole_files import hash_file, publish_folder

_MANIFEST = "manifest.json"
_PREFIX = "step-"


def save_checkpoint(root: Path, step: int, write: Callable[[Path], None], *, keep: int = 2) -> Path:
    """Call `write(folder)` and publish what it wrote as `root/step-<step>`.

    Args:
        keep: how many of the newest checkpoints stay.
    """
    root.mkdir(parents=True, exist_ok=True)
    final = root / f"{_PREFIX}{step:08d}"
    for left_by_a_kill in (*root.glob(".tmp-*"), *root.glob(".*.old")):
        shutil.rmtree(left_by_a_kill, ignore_errors=True)
    temporary = root / f".tmp-{step:08d}-{os.getpid()}"
    temporary.mkdir()
    write(temporary)
    manifest = {
        "step": step,
        "files": {
            str(p.relative_to(temporary)): hash_file(p)
            for p in sorted(temporary.rglob("*"))
            if p.is_file()
        },
    }
    (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1))
    publish_folder(temporary, final)  # the same step again, after a resume: ours replaces it
    for old in [p for p in list_checkpoints(root) if p != final][: 1 - keep or None]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def list_checkpoints(root: Path) -> list[Path]:
    """Published checkpoints, oldest first."""
    return sorted(p for p in root.glob(_PREFIX + "*") if p.is_dir()) if root.is_dir() else []


def checkpoint_step(folder: Path) -> int:
    """The step at which a checkpoint was taken."""
    return int(folder.name.removeprefix(_PREFIX))


def newest_valid(root: Path, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files match its manifest; says aloud what it passes over.

    Raises:
        CheckpointError: there are checkpoints and none of them is valid.
    """
    found = list_checkpoints(root)
    for folder in reversed(found):
        try:
            verify_checkpoint(folder)
        except CheckpointError as error:
            warn(f"{error}; trying the one before it")
            continue
        return folder
    if found:
        raise CheckpointError(
            f"none of the {len(found)} checkpoints in {root} is whole: remove that folder to begin "
            f"again, or copy it again"
        )
    return None


def verify_checkpoint(folder: Path) -> None:
    """Raise CheckpointError unless every file of the manifest is there with its hash."""
    try:
        files = json.loads((folder / _MANIFEST).read_text())["files"]
        hashes = dict(files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"checkpoint {folder} has no readable manifest") from None
    for name, expected in hashes.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"checkpoint {folder} lacks {name}")
        if hash_file(path) != expected:
            raise CheckpointError(f"checkpoint {folder}: {name} is not what was written")
