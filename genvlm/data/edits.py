"""Edits: a scene, an instruction, and the scene that results, exactly.

"replace cow with star", "swap cow and star", "put cow above star". Neither scene of a training edit
holds a held-out pair of icons; an edit for testing results in one.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from genvlm.data.scenes import ICONS, RELATIONS, Icon, Scene, sample_scene


@dataclass(frozen=True)
class Edit:
    """Two scenes and what leads from one to the other."""

    before: Scene
    instruction: str
    after: Scene


def sample_edit(rng: np.random.Generator, *, held_out: bool = False) -> Edit:
    """Draw an edit at random.

    Args:
        held_out: whether the resulting icons are a held-out pair; in training neither scene is.
    """
    while True:
        before = sample_scene(rng)
        # Most edits replace an icon, which asks more than the others: what is where is to be seen.
        kind = int(rng.integers(5))
        if held_out:  # only a new icon can make a held-out pair of one that is not
            kind = 0
        if kind == 1:
            names = f"{before.first.name} and {before.second.name}"
            return Edit(before, f"swap {names}", before.swapped)
        if kind == 2:
            others = [r for r in RELATIONS if r != before.relation]
            after = replace(before, relation=others[rng.integers(len(others))])
            return Edit(before, f"put {after.caption}", after)
        new = ICONS[rng.integers(len(ICONS))]
        edit = _replaced(before, new, first=bool(rng.integers(2)))
        if edit is not None and edit.after.held_out == held_out:
            return edit


def sample_edits(num: int, seed: int, *, held_out: bool = False) -> Iterator[Edit]:
    """`num` edits from one seed, each drawn by its own stream."""
    for i in range(num):
        yield sample_edit(np.random.default_rng([seed, i]), held_out=held_out)


def _replaced(before: Scene, new: Icon, *, first: bool) -> Edit | None:
    """One icon becomes another; None where it was there already."""
    if new in (before.first, before.second):
        return None
    old = before.first if first else before.second
    after = replace(before, first=new) if first else replace(before, second=new)
    return Edit(before, f"replace {old.name} with {new.name}", after)
