"""Composed scenes as 2 pictures x 2 captions: Winoground's shape, exact truth, held-out pairs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from genvlm.data.emoji import Vendor
from genvlm.data.scenes import (
    ICONS,
    INVERSE,
    Icon,
    Relation,
    Scene,
    is_held_out,
    render_scene,
    sample_scene,
)
from genvlm.errors import EvaluationError
from genvlm.evaluation.benchmark import Benchmark, Item, build_version
from genvlm.evaluation.cards import load_card
from genvlm.scoring.protocols import Grid

PERPENDICULAR: dict[Relation, tuple[Relation, Relation]] = {
    "left of": ("above", "below"),
    "right of": ("above", "below"),
    "above": ("left of", "right of"),
    "below": ("left of", "right of"),
}
KINDS = ("icon", "relation", "colour")
ATTEMPTS = 5000
Change = Callable[[Scene, np.random.Generator], Scene | None]
"""Another scene that differs in one thing, or None where this scene allows none."""


def build_scenes(
    vendor: Vendor = "noto",
    num_swapped: int = 400,
    num_replaced: int = 400,
    seed: int = 0,
    three: float = 0.0,
    counts: float = 0.0,
) -> Benchmark:
    """Two sets of held-out scenes: the icons swapped, or one thing replaced.

    A third each of the replaced set changes an icon, the relation, or the colour of an icon. No two
    items have the same captions. Each picture is drawn by its own random stream.

    Args:
        vendor: whose drawings the icons are.
        three: probability of a third icon.
        counts: probability that a two-icon scene has counts of one to three.
    """
    card = load_card("scenes")
    seen: set[frozenset[str]] = set()
    items = []
    for index in range(num_swapped + num_replaced):
        number = index if index < num_swapped else index - num_swapped
        kind = "swapped" if index < num_swapped else KINDS[number % 3]
        name = "swapped" if kind == "swapped" else "replaced"
        stream = [seed, int(name == "replaced"), number]
        first, second = _sample_pair(kind, stream, seen, three=three, counts=counts)
        grid = Grid(
            item_id=f"{name}-{number:04d}",
            images=[render_scene(scene, vendor) for scene in (first, second)],
            texts=[first.caption, second.caption],
        )
        tags = (name,) if name == "swapped" else (name, f"replaced-{kind}")
        items.append(Item(grid=grid, group=_pair_name(first), target=None, tags=tags))
    version = build_version(
        card,
        vendor=(vendor, "noto"),
        swapped=(num_swapped, 400),
        replaced=(num_replaced, 400),
        seed=(seed, 0),
        three=(three, 0.0),
        counts=(counts, 0.0),
    )
    return Benchmark(card.name, tuple(items), card, version)


def _sample_pair(
    kind: str, stream: list[int], seen: set[frozenset[str]], *, three: float, counts: float
) -> tuple[Scene, Scene]:
    """A held-out scene and its changed twin, whose captions occur in no earlier item."""
    changes: dict[str, Change] = {
        "swapped": lambda scene, rng: scene.swapped,
        "icon": _replace_icon,
        "relation": _replace_relation,
        "colour": _replace_colour,
    }
    rng = np.random.default_rng([*stream, 0])
    for _ in range(ATTEMPTS):
        scene = sample_scene(rng, held_out=True, three=three, counts=counts)
        other = changes[kind](scene, rng)
        if other is None:
            continue
        captions = frozenset((scene.caption, other.caption))
        if captions not in seen:
            seen.add(captions)
            return scene, other
    raise EvaluationError(
        f"no further {kind} pair of held-out scenes was found in {ATTEMPTS} draws: ask for fewer"
    )


def _replace_icon(scene: Scene, rng: np.random.Generator) -> Scene | None:
    return _replace_one(scene, rng, lambda old, new: True)


def _replace_colour(scene: Scene, rng: np.random.Generator) -> Scene | None:
    def same_noun(old: Icon, new: Icon) -> bool:
        return bool(old.colour and new.colour) and _noun(old) == _noun(new)

    return _replace_one(scene, rng, same_noun)


def _replace_relation(scene: Scene, rng: np.random.Generator) -> Scene:
    """A perpendicular relation; the inverse where a third icon already takes those sides."""
    choices = PERPENDICULAR[scene.relation] if scene.third is None else (INVERSE[scene.relation],)
    return replace(scene, relation=choices[rng.integers(len(choices))])


def _replace_one(
    scene: Scene, rng: np.random.Generator, allowed: Callable[[Icon, Icon], bool]
) -> Scene | None:
    """One of the first two icons replaced, such that the new pair is held out as well."""
    present = (scene.first, scene.second, scene.third)
    options = [
        replace(scene, **{place: new})  # type: ignore[arg-type]
        for place, old, partner in (
            ("first", scene.first, scene.second),
            ("second", scene.second, scene.first),
        )
        for new in ICONS
        if new not in present and is_held_out(new, partner) and allowed(old, new)
    ]
    return options[rng.integers(len(options))] if options else None


def _noun(icon: Icon) -> str:
    return icon.name.removeprefix(icon.colour).strip()


def _pair_name(scene: Scene) -> str:
    return " + ".join(sorted((scene.first.name, scene.second.name)))
