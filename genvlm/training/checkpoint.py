"""Checkpoints that a kill at any moment, a full disk or a failing one cannot spoil.

A checkpoint is written into a temporary folder, described by a manifest with the sha256 of every
file, flushed to disk, and only then renamed into place. It is read again before older ones are
deleted, so that the last one that can be read never goes. The newest *valid* one is resumed. A
hash is no authentication: resume only runs that are your own.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from genvlm.errors import CheckpointError
from genvlm.nn.file_system import DISK, FileSystem
from genvlm.nn.whole_files import (
    hash_file,
    publish_folder,
    restore_replaced,
    storage_errors,
)

_MANIFEST = "manifest.json"
_PREFIX = "step-"
SHARED_PARTS = ".parts-"
"""What the folder in which several processes write their parts begins with."""
CONVERTED = ".universal"
"""A checkpoint made ready for another number of processes."""


def save_checkpoint(
    root: Path,
    step: int,
    write: Callable[[Path], None],
    *,
    keep: int = 2,
    disk: FileSystem = DISK,
) -> Path:
    """Call `write(folder)` and publish what it wrote as `root/step-<step>`.

    Args:
        keep: how many of the newest checkpoints stay.

    Raises:
        StorageError: the disk is full, read-only or gone; earlier checkpoints stand.
        CheckpointError: what was written reads back otherwise; earlier checkpoints stand.
    """
    final = checkpoint_folder(root, step)
    temporary = root / f".tmp-{step:08d}-{os.getpid()}"
    with storage_errors(final, what_stands(root)):
        if not root.is_dir():  # not those above it: a run folder that vanished must be missed
            disk.make_folder(root)
            disk.sync(root.parent)
        _clean(root, disk)
        try:
            disk.make_folder(temporary)
            write(temporary)
            disk.write(temporary / _MANIFEST, _manifest(step, _hashes(temporary)))
            # The same step again, after a resume: ours replaces it.
            publish_folder(temporary, final, disk=disk)
        except BaseException:
            with contextlib.suppress(OSError):  # the next save removes what is left
                disk.remove(temporary)
            raise
        try:
            verify_checkpoint(final)
        except CheckpointError as error:
            raise CheckpointError(
                f"{error}, although it was just written: see to that disk before going on with "
                f"--resume; no earlier checkpoint was deleted"
            ) from None
        for old in [p for p in list_checkpoints(root) if p != final][: 1 - keep or None]:
            # Half deleted, it must not bear the name of a checkpoint.
            doomed = old.with_name(f".tmp-{old.name}")
            disk.rename(old, doomed)
            disk.remove(doomed)
    return final


def list_checkpoints(root: Path) -> list[Path]:
    """Published checkpoints, oldest first."""
    if not root.is_dir():
        return []
    return sorted(p for p in root.glob(_PREFIX + "[0-9]*") if _step_of(p) is not None)


def checkpoint_folder(root: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return root / f"{_PREFIX}{step:08d}"


def checkpoint_step(folder: Path) -> int:
    """The step at which a checkpoint was taken."""
    return int(folder.name.removeprefix(_PREFIX))


def newest_valid(
    root: Path, warn: Callable[[str], None], *, disk: FileSystem = DISK
) -> Path | None:
    """The newest checkpoint whose files match its manifest; says aloud what it passes over.

    Raises:
        CheckpointError: there are checkpoints and none of them is valid.
    """
    _restore_all(root, disk)
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


def what_stands(root: Path) -> str:
    """What a fault has not taken, for its sentence."""
    found = list_checkpoints(root)
    if not found:
        return "nothing had been saved before"
    return (
        f"what was saved up to {found[-1].name} is untouched: --resume goes on from the newest "
        f"that is whole"
    )


def remove_leftovers(root: Path, *, disk: FileSystem = DISK) -> None:
    """Before any process of a run writes: what a kill of an earlier start has left behind."""
    _clean(root, disk)
    for left in (*root.glob(f"{SHARED_PARTS}*"), root / CONVERTED):
        disk.remove(left)


def verify_checkpoint(folder: Path) -> None:
    """Raise CheckpointError unless a folder holds what its manifest says, of its step, no more.

    No file is trusted before: what is no regular file is damage too.
    """
    try:
        text = (folder / _MANIFEST).read_text(encoding="utf-8")
        content = json.loads(text)
        step, expected = content["step"], dict(content["files"].items())
        unaltered = text == _manifest(step, expected)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"checkpoint {folder} has no readable manifest") from None
    if not unaltered:
        raise CheckpointError(f"checkpoint {folder}: {_MANIFEST} is not what was written")
    if step != checkpoint_step(folder):
        raise CheckpointError(f"checkpoint {folder} holds the manifest of step {step}")
    try:
        there = _files(folder) - {_MANIFEST}
        if missing := sorted(expected.keys() - there):
            raise CheckpointError(f"checkpoint {folder} lacks {missing[0]}")
        if strange := sorted(there - expected.keys()):
            raise CheckpointError(f"checkpoint {folder} holds {strange[0]}, which is not its own")
        for name in sorted(there):
            path = folder / name
            if path.is_symlink() or not path.is_file() or hash_file(path) != expected[name]:
                raise CheckpointError(f"checkpoint {folder}: {name} is not what was written")
    except OSError as error:
        raise CheckpointError(f"checkpoint {folder} cannot be read ({error})") from None


def _manifest(step: int, files: Mapping[str, str]) -> str:
    """The only text that describes these files; it tells the sha256 of itself."""
    content = {"step": step, "files": dict(files)}
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1)


def _hashes(folder: Path) -> dict[str, str]:
    return {name: hash_file(folder / name) for name in sorted(_files(folder))}


def _files(folder: Path) -> set[str]:
    """Everything in a folder that is no folder, by relative path; links are not followed."""
    return {
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()
    }


def _clean(root: Path, disk: FileSystem) -> None:
    """Remove what a kill left behind."""
    _restore_all(root, disk)
    for left in root.glob(".tmp-*"):
        disk.remove(left)


def _restore_all(root: Path, disk: FileSystem) -> None:
    for replaced in root.glob(f".{_PREFIX}*.old") if root.is_dir() else ():
        restore_replaced(root / replaced.name[1:].split(".")[0], disk=disk)


def _step_of(path: Path) -> int | None:
    number = path.name.removeprefix(_PREFIX)
    return int(number) if number.isdecimal() and path.is_dir() else None
