"""Zero-shot classification: one drawing, the names of 100 concepts of 8 groups.

Every concept is of a training family. Augmented drawings of the training vendors ask whether the
model knows what it has seen; drawings of the unseen vendor, whether it knows what it means. For a
model that learned from Noto alone Twemoji is an unseen vendor too: settings are chosen there.
"""

import hashlib
from collections.abc import Sequence

import torch

from genvlm.data.augment import affine
from genvlm.data.emoji import (
    NUM_CLASSES,
    TRAINING_VENDORS,
    UNSEEN_VENDOR,
    Concept,
    Vendor,
    class_concepts,
    id_rank,
    load_drawings,
)
from genvlm.data.images import RGBImage
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card
from genvlm.scoring.protocols import Grid
from genvlm.tokenization.image import to_pixels, to_uint8


def build_emoji_classes(
    vendors: Sequence[Vendor] = (*TRAINING_VENDORS, UNSEEN_VENDOR),
    *,
    num_shown: int = NUM_CLASSES,
    moved: bool = True,
) -> Benchmark:
    """One item for each concept and vendor; the texts are the labels of all 100 concepts.

    Args:
        num_shown: how many of the concepts are shown (those with the smallest hash of id); all 100
            stay classes.
        moved: show drawings of training vendors moved, turned and scaled a little.
    """
    card = load_card("emoji-classes")
    concepts = class_concepts()
    shown = set(sorted(concepts, key=id_rank)[:num_shown])
    labels = [concept.label for concept in concepts]
    items = [
        Item(
            grid=Grid(
                item_id=f"{vendor}-{c.id}", images=[_picture(c, vendor, moved)], texts=labels
            ),
            group=c.id,
            target=k,
            tags=(vendor, c.group),
        )
        for vendor in vendors
        for k, c in enumerate(concepts)
        if c in shown
    ]
    every = (*TRAINING_VENDORS, UNSEEN_VENDOR)
    version = build_version(
        card,
        vendors=("-".join(vendors), "-".join(every)),
        num_shown=(num_shown, NUM_CLASSES),
        moved=(moved, True),
    )
    return Benchmark(card.name, tuple(items), card, version)


def labelled_drawings(
    concepts: Sequence[Concept], vendors: Sequence[Vendor] = TRAINING_VENDORS
) -> tuple[list[RGBImage], list[str]]:
    """Unchanged drawings and their labels: the references of the pixel nearest neighbour."""
    pairs = [(load_drawings(v)[c.index], c.label) for v in vendors for c in concepts]
    return [image for image, _ in pairs], [label for _, label in pairs]


def _picture(concept: Concept, vendor: Vendor, moved: bool) -> RGBImage:
    """The drawing; moved, turned and scaled a little where its vendor is one of training."""
    drawing = load_drawings(vendor)[concept.index]
    if not moved or vendor not in TRAINING_VENDORS:
        return drawing
    digest = hashlib.sha256(f"{vendor}|{concept.id}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "big"))
    pixels = affine(
        to_pixels(drawing[None]), generator, scale=(0.85, 1.1), degrees=10.0, shift=0.06
    )
    picture: RGBImage = to_uint8(pixels)[0]
    return picture
