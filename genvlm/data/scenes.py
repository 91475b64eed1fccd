"""Composed scenes: two or three icons on 64x64 white, with a caption that is exactly true.

"hamster left of yellow circle" and "yellow circle left of hamster" are different pictures with the
same words: Winoground's shape, unlimited. A pair of icons that is held out occurs in no relation
and no order in training, while every word and every relation does.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image

from genvlm.data.emoji import Vendor, find_concept, load_drawings
from genvlm.data.images import RGBImage

SIZE = 64
ICON_SIZE = 30
# Centres of the picture's halves, each four codes of an 8x8 grid wide. Icons never shift within
# them, so that an icon has the same codes wherever it stands.
_NEAR, _FAR = 16, 48
HELD_OUT_PERCENT = 10
Relation = Literal["left of", "right of", "above", "below"]
RELATIONS: tuple[Relation, ...] = ("left of", "right of", "above", "below")
INVERSE: dict[Relation, Relation] = {
    "left of": "right of", "right of": "left of", "above": "below", "below": "above",
}  # fmt: skip
COUNT_WORDS = {1: "", 2: "two ", 3: "three "}


@dataclass(frozen=True)
class Icon:
    """A drawing that scenes use, with the words that name it."""

    label: str
    """Label in the emoji pack."""
    name: str
    plural: str
    colour: str = ""


def _coloured(noun: str, plural: str, colours: str) -> list[Icon]:
    return [Icon(f"{c} {noun}", f"{c} {noun}", f"{c} {plural}", c) for c in colours.split()]


def _plain(*specs: str) -> list[Icon]:
    icons = []
    for spec in specs:
        label, _, rest = spec.partition("|")
        name, _, plural = rest.partition("|")
        name = name or label
        icons.append(Icon(label, name, plural or name + "s"))
    return icons


ICONS: tuple[Icon, ...] = (
    *_coloured("heart", "hearts", "red orange yellow green blue purple"),
    *_coloured("circle", "circles", "red orange yellow green blue purple"),
    *_coloured("square", "squares", "red orange yellow green blue purple"),
    *_coloured("book", "books", "green blue orange"),
    *_coloured("apple", "apples", "red green"),
    *_plain(
        "tiger face|tiger", "cow face|cow", "panda", "koala", "penguin", "owl",
        "octopus||octopuses", "spouting whale|whale", "crab", "turtle", "snail", "honeybee|bee",
        "tropical fish|fish|fish",
        "lemon", "strawberry||strawberries", "pineapple", "banana", "tomato||tomatoes",
        "hamburger", "doughnut", "cookie", "pizza", "birthday cake|cake", "rocket", "bicycle",
        "tractor", "umbrella", "star", "guitar", "soccer ball|football", "basketball", "crown",
        "top hat|hat", "bell", "balloon", "cactus||cactuses", "tulip",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """What a scene shows. `third` sits alone on the side `third_relation` of the first two."""

    first: Icon
    relation: Relation
    second: Icon
    first_count: int = 1
    second_count: int = 1
    third: Icon | None = None
    third_relation: Relation = "below"

    @property
    def caption(self) -> str:
        """The sentence that is exactly true of the picture."""
        text = (
            f"{_counted(self.first, self.first_count)} {self.relation} "
            f"{_counted(self.second, self.second_count)}"
        )
        if self.third is not None:
            text += f", {self.third.name} {self.third_relation.removesuffix(' of')}"
        return text

    @property
    def swapped(self) -> "Scene":
        """The same words with the two icons exchanged."""
        return replace(
            self,
            first=self.second,
            second=self.first,
            first_count=self.second_count,
            second_count=self.first_count,
        )

    @property
    def held_out(self) -> bool:
        """True when any two of its icons form a held-out pair."""
        icons = [i for i in (self.first, self.second, self.third) if i is not None]
        return any(is_held_out(a, b) for k, a in enumerate(icons) for b in icons[k + 1 :] if a != b)


def is_held_out(first: Icon, second: Icon) -> bool:
    """True when this unordered pair is kept for testing (sha256 of both names, modulo 100)."""
    key = "|".join(sorted((first.label, second.label)))
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest, "big") % 100 < HELD_OUT_PERCENT


def render_scene(scene: Scene, vendor: Vendor) -> RGBImage:
    """Draw a scene on 64x64 white: a pure function of its arguments."""
    canvas = np.full((SIZE, SIZE, 3), 255, np.uint8)
    horizontal = scene.relation in ("left of", "right of")
    first_leads = scene.relation in ("left of", "above")
    along = (_NEAR, _FAR) if first_leads else (_FAR, _NEAR)
    across = 32
    if scene.third is not None:
        third_leads = scene.third_relation in ("left of", "above")
        across = _FAR if third_leads else _NEAR
        _stamp(canvas, scene.third, 1, 32, SIZE - across, horizontal, vendor)
    _stamp(canvas, scene.first, scene.first_count, along[0], across, horizontal, vendor)
    _stamp(canvas, scene.second, scene.second_count, along[1], across, horizontal, vendor)
    return canvas


def sample_scene(
    rng: np.random.Generator,
    *,
    held_out: bool = False,
    three: float = 0.0,
    counts: float = 0.0,
) -> Scene:
    """Draw a scene at random.

    Args:
        held_out: whether the first two icons are a held-out pair; training scenes hold none.
        three: probability of a third icon.
        counts: probability that a two-icon scene has counts of one to three.
    """
    while True:
        first, second, third = (ICONS[i] for i in rng.choice(len(ICONS), 3, replace=False))
        relation = RELATIONS[rng.integers(4)]
        scene = Scene(first, relation, second)
        if rng.random() < three:
            sides: tuple[Relation, ...] = (
                ("above", "below")
                if relation in ("left of", "right of")
                else ("left of", "right of")
            )
            scene = replace(scene, third=third, third_relation=sides[rng.integers(2)])
        elif rng.random() < counts:
            first_count, second_count = (int(n) for n in rng.integers(1, 4, 2))
            scene = replace(scene, first_count=first_count, second_count=second_count)
        if is_held_out(first, second) if held_out else not scene.held_out:
            return scene


def sample_scenes(num: int, seed: int, **options: float | bool) -> Iterator[Scene]:
    """`num` scenes from one seed, each drawn by its own stream."""
    for i in range(num):
        yield sample_scene(np.random.default_rng([seed, i]), **options)  # type: ignore[arg-type]


@cache
def draw_icon(label: str, vendor: Vendor, size: int) -> RGBImage:
    """The drawing of a label on white, `size` pixels wide and high."""
    drawing = Image.fromarray(load_drawings(vendor)[find_concept(label).index])
    return np.asarray(drawing.resize((size, size), Image.Resampling.LANCZOS))


def _counted(icon: Icon, count: int) -> str:
    return COUNT_WORDS[count] + (icon.name if count == 1 else icon.plural)


def _stamp(
    canvas: RGBImage,
    icon: Icon,
    count: int,
    along: int,
    across: int,
    horizontal: bool,
    vendor: Vendor,
) -> None:
    """Paste `count` copies of an icon, centred at (along, across) in the relation's own axes."""
    size = ICON_SIZE if count == 1 else 20
    spread = 21
    for copy in range(count):
        offset = (copy - (count - 1) / 2) * spread
        centre = (along, round(across + offset))
        column, row = centre if horizontal else centre[::-1]
        top = min(max(row - size // 2, 0), SIZE - size)
        left = min(max(column - size // 2, 0), SIZE - size)
        region = canvas[top : top + size, left : left + size]
        # The white surround of an icon must not cut into its neighbour.
        np.minimum(region, draw_icon(icon.label, vendor, size), out=region)
