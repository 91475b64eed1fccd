"""Zero-shot classification of a folder of pictures, one folder a class: DATA/<class>/*.png."""

import hashlib
import json
import warnings
from collections import Counter
from pathlib import Path

from genvlm.config.assets import asset_path
from genvlm.data.images import ImageFiles
from genvlm.errors import DataError, DataWarning
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card, with_chance
from genvlm.evaluation.data_folder import DataFolder
from genvlm.scoring.protocols import Grid

CLASSES, TEMPLATE = "classes.txt", "template.txt"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_NUM_NAMED = 5


def build_imagefolder(data: DataFolder, part: str, images: Path | None) -> Benchmark:
    """One item a picture; the texts are the names of all classes.

    A class is named like its folder with blanks for underscores, or as DATA/classes.txt says, by
    lines of folder, tab, name. DATA/template.txt, one line with {}, puts the name into a sentence.
    Hidden files are left out; others that are no picture of a class too, with a warning.

    Raises:
        DataError: no class, a class without pictures, two classes of one name; they are named.
    """
    data = DataFolder(images or data.root)
    root = data.root
    if root.resolve() == asset_path("eval/data").resolve():
        raise DataError("imagefolder needs a folder of your own: name it with --data DIR")
    if not root.is_dir():
        raise DataError(f"no folder {root}: check the path")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not _hidden(p))
    if len(folders) < 2:
        raise DataError(f"{root} holds {len(folders)} folders of classes: it needs two or more")
    names = _names(data, [folder.name for folder in folders])
    template = _template(data)
    texts = [template.format(names[folder.name]) for folder in folders]
    items = []
    others = [
        p.name
        for p in sorted(root.iterdir())
        if p.is_file() and not _hidden(p) and p.name not in (CLASSES, TEMPLATE)
    ]
    for target, folder in enumerate(folders):
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not _hidden(p, folder))
        pictures = [p for p in files if p.suffix.lower() in SUFFIXES]
        rest = [p for p in files if p.suffix.lower() not in SUFFIXES]
        others += [p.relative_to(root).as_posix() for p in rest]
        if not pictures:
            raise DataError(f"the class folder {folder} holds no picture: fill or remove it")
        for path in pictures:
            key = path.relative_to(root).as_posix()
            grid = Grid(item_id=key, images=ImageFiles([path]), texts=texts)
            items.append(Item(grid=grid, group=key, target=target, tags=()))
    if others:
        shown = ", ".join(others[:_NUM_NAMED]) + (", ..." if len(others) > _NUM_NAMED else "")
        warnings.warn(
            f"{len(others)} files in {root} are left out, being no picture of a class: {shown}",
            DataWarning,
            stacklevel=2,
        )
    card = with_chance(load_card("imagefolder"), [len(texts)])
    told = json.dumps([[item.id for item in items], texts]).encode()
    version = build_version(card, data=(hashlib.sha256(told).hexdigest()[:12], ""))
    return Benchmark(card.name, tuple(items), card, version)


def _names(data: DataFolder, folders: list[str]) -> dict[str, str]:
    names = {folder: folder.replace("_", " ") for folder in folders}
    if data.has(CLASSES):
        for number, line in enumerate(data.lines(CLASSES), start=1):
            if not line.strip():
                continue
            folder, tab, name = line.partition("\t")
            if not tab or not name.strip():
                raise DataError(f"{data.root / CLASSES}, line {number}, needs folder, tab, name")
            if folder not in names:
                raise DataError(
                    f"{data.root / CLASSES}, line {number}: no folder {folder!r} of a class"
                )
            names[folder] = name.strip()
    doubled = [name for name, count in Counter(names.values()).items() if count > 1]
    if doubled:
        alike = ", ".join(folder for folder in folders if names[folder] == doubled[0])
        raise DataError(
            f"the folders {alike} are all named {doubled[0]!r}: tell them apart in "
            f"{data.root / CLASSES}, by lines of folder, tab, name"
        )
    return names


def _template(data: DataFolder) -> str:
    if not data.has(TEMPLATE):
        return "{}"
    template = "\n".join(data.lines(TEMPLATE)).strip()
    if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
        raise DataError(
            f"{data.root / TEMPLATE} holds {template!r}: it needs one {{}} for the class name"
        )
    return template


def _hidden(path: Path, root: Path | None = None) -> bool:
    parts = (path.name,) if root is None else path.relative_to(root).parts
    return any(part.startswith(".") for part in parts)
