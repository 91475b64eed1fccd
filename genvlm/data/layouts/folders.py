"""Folders of pictures or videos, nested or not; the caption is a file beside, or a name."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from genvlm.config.data import FolderSource, VideosSource
from genvlm.data.frame_folders import is_frame_folder
from genvlm.data.images import inner_path
from genvlm.data.layouts.samples import documents_of, image_pair
from genvlm.data.raw import Media, RawDocument
from genvlm.data.readers import PICTURE_SUFFIXES
from genvlm.data.rows import checked_text, read_text_file
from genvlm.data.skipping import SkipBudget
from genvlm.data.video_containers import VIDEO_SUFFIXES
from genvlm.errors import DataError

Captions = Literal["sidecar", "file_name", "folder_name"]


def read_folder(
    source: FolderSource, skips: SkipBudget, *, loose: bool = False
) -> Iterator[RawDocument]:
    """Pairs in the order of paths; ids are paths below the folder.

    Args:
        loose: without the pictures that are videos, or frames of one, to `read_videos`.
    """
    folder = Path(source.path)
    names = loose_pictures(folder) if loose else list_files(folder, PICTURE_SUFFIXES)
    return _read(folder, "image", names, source.captions, skips)


def read_videos(source: VideosSource, skips: SkipBudget) -> Iterator[RawDocument]:
    """Pairs of a caption and a video, as `read_folder`; one without a caption is a document.

    A subfolder that holds pictures and nothing else is one video, its caption `name.txt` beside it.
    """
    folder = Path(source.path)
    return _read(folder, "video", _list_videos(folder), "sidecar", skips)


def loose_pictures(folder: Path) -> list[str]:
    """Pictures of a folder of videos, below it, that are neither a video nor a frame of one.

    Raises:
        DataError: as `list_files`.
    """
    videos = set(_list_videos(folder))
    return [
        name
        for name in list_files(folder, PICTURE_SUFFIXES)
        if not videos & {name, *(parent.as_posix() for parent in PurePosixPath(name).parents)}
    ]


def _list_videos(folder: Path) -> list[str]:
    return list_files(folder, (*VIDEO_SUFFIXES, ".gif"), is_frame_folder)


def _read(
    folder: Path,
    kind: Literal["image", "video"],
    names: Sequence[str],
    captions: Captions,
    skips: SkipBudget,
) -> Iterator[RawDocument]:
    if captions == "sidecar":
        _check_shared(folder, names)
        if kind == "image":
            _check_missing(folder, names)

    def pair(where: str, name: str) -> list[RawDocument]:
        path = inner_path(folder, name, where, "picture" if kind == "image" else kind)
        media = Media(kind=kind, name=str(path), path=path)
        sidecar = folder / _sidecar(folder, name)
        if kind == "video" and not (sidecar.exists() or sidecar.is_symlink()):
            return [RawDocument(id=name, segments=(media,), kind="document")]
        return [image_pair(name, _caption(folder, name, captions), media)]

    return documents_of(((str(folder / name), name) for name in names), pair, skips)


def list_files(
    folder: Path, suffixes: Sequence[str], is_one: Callable[[Path], bool] = lambda path: False
) -> list[str]:
    """Paths below a folder, with `/`, sorted; hidden files and other suffixes are passed over.

    Args:
        is_one: whether a subfolder is listed as if it was a file.

    Raises:
        DataError: no such folder, a link to a folder in it, or no file of these suffixes.
    """
    if not folder.is_dir():
        raise DataError(f"no folder at {folder}: check the path")
    found = []
    for root, subfolders, files in os.walk(folder, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in subfolders:
            if (Path(root) / name).is_symlink():
                raise DataError(
                    f"{Path(root) / name} is a link to a folder: name that folder as a source"
                )
        listed = [name for name in subfolders if is_one(Path(root) / name)]
        subfolders[:] = [name for name in subfolders if name not in listed]
        listed += [
            name
            for name in files
            if not name.startswith(".") and name.lower().endswith(tuple(suffixes))
        ]
        found += [(Path(root) / name).relative_to(folder).as_posix() for name in listed]
    for name in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(f"{folder}: the name {name!r} is not UTF-8: rename the file") from None
    if not found:
        raise DataError(f"{folder} holds none of these files: {', '.join(suffixes)}")
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename} cannot be read ({error.strerror})")


def _check_shared(folder: Path, names: Sequence[str]) -> None:
    of_sidecar: dict[PurePosixPath, str] = {}
    for name in names:
        sidecar = _sidecar(folder, name)
        if sidecar in of_sidecar and (folder / sidecar).exists():
            raise DataError(
                f"{folder / of_sidecar[sidecar]} and {folder / name} would share the caption "
                f"{sidecar.name}: rename one of them"
            )
        of_sidecar[sidecar] = name


def _check_missing(folder: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (folder / _sidecar(folder, name)).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(names)} files in {folder} have no caption beside them, such "
            f"as {missing[0]}: write {_sidecar(folder, missing[0])}"
        )


def _sidecar(folder: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    return (
        path.with_suffix(".txt") if (folder / name).is_file() else path.parent / f"{path.name}.txt"
    )


def _caption(folder: Path, name: str, captions: Captions) -> str:
    """The caption of the file `name`. Raises DataError: there is none."""
    path = PurePosixPath(name)
    match captions:
        case "sidecar":
            beside = _sidecar(folder, name).as_posix()
            sidecar = inner_path(folder, beside, folder / name, "caption")
            return checked_text(read_text_file(sidecar).strip(), "the caption", str(sidecar))
        case "file_name":
            words = path.stem
        case "folder_name":
            words = path.parent.name
    if not words:
        raise DataError(f"{folder / name} lies in no folder that could name it: move it into one")
    return checked_text(words.replace("_", " ").strip(), "its name", repr(str(folder / name)))
