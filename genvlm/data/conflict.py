"""Pictures whose shape says one thing and whose colours say another (Geirhos et al. 2019).

The drawing of one concept in the colours of another: light stays light and dark stays dark.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from genvlm.data.emoji import Concept, Vendor, load_drawings
from genvlm.data.images import RGBImage
from genvlm.errors import DataError

# A pixel this light is ground.
_GROUND = 245
# Mean colours nearer than this (of 255) are no conflict.
_LEAST_DIFFERENCE = 60.0
# Outlines that share more than this of their union are no conflict.
_MOST_OVERLAP = 0.75


@dataclass(frozen=True)
class Conflict:
    """One picture with the concept of its shape and the concept of its colours."""

    image: RGBImage
    shape: Concept
    colour: Concept

    @property
    def id(self) -> str:
        """Of both concepts."""
        return f"{self.shape.id}-in-{self.colour.id}"


def cue_conflicts(concepts: Sequence[Concept], vendor: Vendor, num: int) -> list[Conflict]:
    """`num` pairs of concepts whose colours and outlines differ, no concept far more often than
    another.

    Raises:
        DataError: fewer such pairs.
    """
    drawings = load_drawings(vendor)
    differ = _differ([drawings[c.index] for c in concepts])
    pairs = [(concepts[i], concepts[j]) for i, j in np.argwhere(differ)]
    pairs.sort(key=lambda p: hashlib.sha256(f"{p[0].id}|{p[1].id}".encode()).hexdigest())
    chosen: list[tuple[Concept, Concept]] = []
    uses = dict.fromkeys((c.index for c in concepts), 0)
    for limit in range(1, len(pairs) + 1):
        for pair in pairs:
            if len(chosen) == num:
                break
            free = all(uses[c.index] < 2 * limit for c in pair)
            if free and pair not in chosen:
                chosen.append(pair)
                for concept in pair:
                    uses[concept.index] += 1
        if len(chosen) == num:
            break
    if len(chosen) < num:
        raise DataError(f"{num} cue conflicts asked for, and {len(pairs)} pairs differ enough")
    return [Conflict(in_colours_of(drawings[a.index], drawings[b.index]), a, b) for a, b in chosen]


def in_colours_of(
    shape: UInt8[np.ndarray, "height width 3"], colours: UInt8[np.ndarray, "height width 3"]
) -> UInt8[np.ndarray, "height width 3"]:
    """The first drawing with its pixels, ordered by lightness, in the colours of the other's."""
    drawn, palette = _drawn(shape), colours[_drawn(colours)]
    palette = palette[np.argsort(palette.astype(int).sum(1), kind="stable")]
    num = int(drawn.sum())
    lightness = shape[drawn].astype(int).sum(1)
    order = np.argsort(lightness, kind="stable")
    # Equal pixels get one colour, that of their middle rank: a flat area stays flat.
    _, first, counts = np.unique(lightness[order], return_index=True, return_counts=True)
    middle = np.repeat(first + (counts - 1) / 2, counts)
    quantiles = (middle + 0.5) / num * len(palette)
    recoloured = np.empty((num, 3), np.uint8)
    recoloured[order] = palette[np.minimum(quantiles.astype(int), len(palette) - 1)]
    picture = shape.copy()
    picture[drawn] = recoloured
    return picture


def _drawn(drawing: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Everything but the ground; all of a picture that is nothing else."""
    drawn: Bool[np.ndarray, "h w"] = (drawing < _GROUND).any(-1)
    return drawn if drawn.any() else np.ones_like(drawn)


def _differ(drawings: Sequence[RGBImage]) -> Bool[np.ndarray, "n n"]:
    """Which of them differ in the mean colour of what is drawn, and in its outline."""
    drawn = [_drawn(d) for d in drawings]
    means = np.stack([d[mask].mean(0) for d, mask in zip(drawings, drawn, strict=True)])
    masks = np.stack(drawn).reshape(len(drawn), -1).astype(np.float64)
    shared, sizes = masks @ masks.T, masks.sum(1)
    overlap = shared / (sizes[:, None] + sizes - shared)
    apart = np.linalg.norm(means[:, None] - means, axis=-1)
    differ: Bool[np.ndarray, "n n"] = (apart >= _LEAST_DIFFERENCE) & (overlap <= _MOST_OVERLAP)
    return differ
