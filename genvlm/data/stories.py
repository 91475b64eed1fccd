"""Story documents: two to four sentences about one icon that meets others, a scene after each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from genvlm.data.emoji import Vendor
from genvlm.data.images import RGBImage
from genvlm.data.scenes import ICONS, RELATIONS, Scene, is_held_out, render_scene

_OPENINGS = ("first, the {}.", "then, the {}.", "next, the {}.", "at last, the {}.")


@dataclass(frozen=True)
class Story:
    """Sentences and the scenes that they tell."""

    sentences: tuple[str, ...]
    scenes: tuple[Scene, ...]

    def render(self, vendor: Vendor) -> list[RGBImage]:
        """One picture per scene."""
        return [render_scene(scene, vendor) for scene in self.scenes]


def sample_story(rng: np.random.Generator) -> Story:
    """A hero stays; its neighbour and the relation change. No scene holds a held-out pair."""
    hero = ICONS[rng.integers(len(ICONS))]
    neighbours = [icon for icon in ICONS if icon != hero and not is_held_out(hero, icon)]
    count = int(rng.integers(2, 5))
    picks = rng.choice(len(neighbours), count, replace=False)
    scenes = tuple(Scene(hero, RELATIONS[rng.integers(4)], neighbours[i]) for i in picks)
    openings = [*_OPENINGS[: count - 1], _OPENINGS[-1]]
    return Story(tuple(o.format(s.caption) for o, s in zip(openings, scenes, strict=True)), scenes)


def sample_stories(num: int, seed: int) -> Iterator[Story]:
    """`num` stories from one seed, each drawn by its own stream."""
    for i in range(num):
        yield sample_story(np.random.default_rng([seed, i]))
