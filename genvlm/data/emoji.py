"""The emoji pack: 1,594 concepts, each drawn by three vendors, and its split by concept family.

Noto and Twemoji are the training vendors; Fluent is the unseen one (a natural distribution shift).
All drawings of a family (genders and colours of one concept, every vendor) fall on one side.
"""

import gzip
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

import numpy as np
from PIL import Image

from genvlm.data.images import RGBImage
from genvlm.errors import DataError

TILE = 64
COLUMNS = 40
HELD_OUT_PERCENT = 12
NUM_CLASSES = 100
NUM_CLASS_GROUPS = 8

Vendor = Literal["noto", "twemoji", "fluent"]
TRAINING_VENDORS: tuple[Vendor, ...] = ("noto", "twemoji")
UNSEEN_VENDOR: Vendor = "fluent"
LICENCES: dict[Vendor, str] = {
    "noto": "Noto Emoji (Apache-2.0)",
    "twemoji": "Twemoji (c) Twitter, Inc and contributors (CC-BY-4.0, rasterised to 64 px, "
    "palette)",
    "fluent": "Fluent UI Emoji (MIT)",
}

_SHEETS = {
    "noto": "noto_64_native_pal.png",
    "twemoji": "twemoji_64_native_pal.png",
    "fluent": "fluent_flat_64_native_pal.png",
}
COLOURS = frozenset(
    "red orange yellow green blue purple brown black white pink grey".split()  # noqa: SIM905
)
_SHADES = "light dark large medium small".split()  # noqa: SIM905
_GENDER = re.compile(r"\b(?:man|woman|men|women|boy|girl|person|people|mr|mrs|mx)(?:[’']s)?\b")
_COLOUR = re.compile(r"\b(?:" + "|".join([*sorted(COLOURS), *_SHADES]) + r")\b|-small")


@dataclass(frozen=True)
class Concept:
    """One emoji: its place in every vendor's sheet and its English names."""

    index: int
    id: str
    label: str
    captions: tuple[str, ...]
    group: str
    subgroup: str

    @property
    def family(self) -> str:
        """Key shared by all genders and colours of one concept."""
        label = self.label.lower()
        if self.group == "people-body":
            label = label.split(":")[0]
        bare = " ".join(_COLOUR.sub(" ", _GENDER.sub(" ", label)).split())
        return f"{self.subgroup}/{bare or self.subgroup}"

    @property
    def held_out(self) -> bool:
        """True when the whole family is kept out of training (sha256 of its key, modulo 100)."""
        digest = hashlib.sha256(self.family.encode()).digest()
        return int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


@cache
def load_concepts() -> tuple[Concept, ...]:
    """All concepts in sheet order."""
    raw = json.loads(gzip.decompress(_pack("emoji.json.gz")))
    return tuple(
        Concept(i, e["id"], e["label"], tuple(e["captions"]), e["group"], e["subgroup"])
        for i, e in enumerate(raw)
    )


@cache
def load_drawings(vendor: Vendor) -> RGBImage:
    """Every drawing of one vendor, (concepts, 64, 64, 3) uint8 on white, in sheet order."""
    if vendor not in _SHEETS:
        raise DataError(f"no emoji vendor {vendor!r}; choose one of {', '.join(_SHEETS)}")
    with files("genvlm.data").joinpath("emoji_pack", _SHEETS[vendor]).open("rb") as file:
        sheet = np.asarray(Image.open(file).convert("RGB"))
    tiles = sheet.reshape(-1, TILE, COLUMNS, TILE, 3).swapaxes(1, 2).reshape(-1, TILE, TILE, 3)
    drawings = np.ascontiguousarray(tiles[: len(load_concepts())])
    drawings.setflags(write=False)
    return drawings


def split_concepts(held_out: bool) -> list[Concept]:
    """Concepts of the held-out families, or of the training families."""
    return [c for c in load_concepts() if c.held_out == held_out]


@cache
def class_concepts() -> tuple[Concept, ...]:
    """The 100 concepts of emoji-classes.

    Within each of the 8 largest groups they are those with the smallest hash of id.
    Concepts that any vendor draws nearly like another are left out. Groups get 12 or 13 places,
    the larger ones 13.
    """
    vendors = (*TRAINING_VENDORS, UNSEEN_VENDOR)
    alike = {index for v in vendors for pair in drawn_alike(v) for index in pair}
    training = [c for c in split_concepts(held_out=False) if c.index not in alike]
    sizes = Counter(c.group for c in training)
    groups = sorted(sizes, key=lambda group: (-sizes[group], group))[:NUM_CLASS_GROUPS]
    places, rest = divmod(NUM_CLASSES, NUM_CLASS_GROUPS)
    chosen = []
    for rank, group in enumerate(groups):
        members = sorted((c for c in training if c.group == group), key=id_rank)
        chosen += members[: places + (rank < rest)]
    return tuple(sorted(chosen, key=lambda c: c.index))


def id_rank(concept: Concept) -> str:
    """Key of a fixed random order."""
    return hashlib.sha256(concept.id.encode()).hexdigest()


def find_concept(label: str) -> Concept:
    """The concept with this label. Raises DataError when there is none."""
    for concept in load_concepts():
        if concept.label == label:
            return concept
    raise DataError(f"no emoji concept is labelled {label!r}")


def near_duplicates(
    vendor: Vendor, concepts: Sequence[Concept], threshold: float = 0.004
) -> set[tuple[int, int]]:
    """Pairs of concepts whose drawings are nearly the same picture.

    Args:
        threshold: mean squared difference of pixels in [0, 1] under which two count as the same.

    Returns:
        Pairs (i, j) of concept indices, i < j. A pair test must not ask to tell these apart.
    """
    index = np.array([c.index for c in concepts])
    flat = load_drawings(vendor)[index].reshape(len(index), -1).astype(np.float32) / 255
    squares = (flat**2).sum(1)
    distances = (squares[:, None] + squares[None] - 2 * flat @ flat.T) / flat.shape[1]
    rows, columns = np.nonzero(np.triu(distances < threshold, k=1))
    pairs = zip(index[rows].tolist(), index[columns].tolist(), strict=True)
    return {(min(a, b), max(a, b)) for a, b in pairs}


@cache
def drawn_alike(vendor: Vendor) -> frozenset[tuple[int, int]]:
    """`near_duplicates` of all concepts."""
    return frozenset(near_duplicates(vendor, load_concepts()))


def _pack(name: str) -> bytes:
    return files("genvlm.data").joinpath("emoji_pack", name).read_bytes()
