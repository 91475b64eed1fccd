"""Folders laid out as IntPhys: sets of two possible and two impossible scenes as folders of frames.

Riochet et al. 2018, https://arxiv.org/abs/1803.07616. A set is a folder with the scenes 1 to 4,
each with `scene/scene_001.png` and so on, and a `status.json`.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np

from genvlm.data.images import load_image
from genvlm.data.sampled_frames import sample_frame_paths
from genvlm.data.videos import VideoFrames
from genvlm.errors import DataError
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.data_folder import read_file
from genvlm.evaluation.video_benchmark import ClipPairs, VideoBenchmark, VideoItem

NUM_FRAMES = 33
"""Sampled evenly from all frames of a scene, the first and the last among them."""
CONTEXT = 9
_SCENES = ("1", "2", "3", "4")
# The dev set holds its blocks, a block its sets.
_DEPTHS = ("", "*/", "*/*/")


def build_intphys(root: Path) -> VideoBenchmark:
    """The sets in a folder, which is the dev set, one of its blocks, or a set.

    Frames and truth are read when an item is scored, so that a damaged set is one failed item.

    Raises:
        DataError: no such folder, or no set in it.
    """
    card = load_card("intphys")
    if not root.is_dir():
        raise DataError(f"no folder {root}: name one that is laid out as IntPhys ({card.fetch})")
    folders = {scene.parent.parent for up in _DEPTHS for scene in root.glob(f"{up}[1-4]/scene")}
    items = tuple(_item(root, folder) for folder in sorted(folders))
    if not items:
        raise DataError(
            f"{root} holds no set of scenes (SET/1/scene/scene_001.png and so on): {card.fetch}"
        )
    version = build_version(card)
    return VideoBenchmark(name=card.name, items=items, card=card, version=version, context=CONTEXT)


def _item(root: Path, folder: Path) -> VideoItem:
    place = folder.relative_to(root)
    where = folder.resolve()
    name = place.as_posix() if place.parts else where.name
    block = place.parts[0] if len(place.parts) > 1 else where.parent.name
    return VideoItem(id=name, load=partial(_clips, folder), group=name, tags=(f"block: {block}",))


def _clips(folder: Path) -> ClipPairs:
    """Rows of a possible and an impossible clip; which of them share a beginning is not asked."""
    truths = {scene: is_possible(folder / scene / "status.json") for scene in _SCENES}
    possible, impossible = ([s for s in _SCENES if truths[s] is truth] for truth in (True, False))
    if len(possible) != 2:
        raise DataError(
            f"{folder} has {len(possible)} possible scenes of 4, and a set has 2: restore it"
        )
    return [
        (_load_scene(folder / p / "scene"), _load_scene(folder / i / "scene"))
        for p, i in zip(possible, impossible, strict=True)
    ]


def is_possible(path: Path) -> bool:
    """`is_possible` of the header, or `possible` at the top; which of them the dev set has was
    not seen (`docs/surprise.md`)."""
    try:
        status = json.loads(read_file(path))
    except ValueError as error:
        raise DataError(f"{path} is no JSON ({error}): restore it") from None
    status = status if isinstance(status, dict) else {}
    header = status.get("header")
    said = (header if isinstance(header, dict) else {}).get("is_possible", status.get("possible"))
    if said not in (True, False, 0, 1):
        raise DataError(
            f"{path} does not say whether its scene is possible (header.is_possible, or possible "
            "at the top): the test set is not published with its truth, use the dev set"
        )
    return bool(said)


def _load_scene(folder: Path) -> VideoFrames:
    frames: list[np.ndarray] = [load_image(p) for p in sample_frame_paths(folder, NUM_FRAMES)]
    if len({frame.shape for frame in frames}) > 1:
        raise DataError(f"{folder} holds frames of different sizes: restore it")
    return np.stack(frames)
