"""Four laws of physics as quadruplets of simulated clips: two lawful ones, two that break the law.

In the manner of IntPhys (Riochet et al. 2018): each broken clip is spliced from the two lawful
ones, so that it takes more than single frames to tell them apart (`data/physics/quadruplets.py`).
"""

from functools import partial

from genvlm.data.physics.quadruplets import LAWS, Law, sample_quadruplet
from genvlm.evaluation.benchmark import build_version
from genvlm.evaluation.cards import load_card
from genvlm.evaluation.video_benchmark import ClipPairs, VideoBenchmark, VideoItem

NUM_QUADRUPLETS = 200
NUM_FRAMES = 33
CONTEXT = 9
"""Frames that are given: nothing is spliced among them."""


def build_physics(num_quadruplets: int = NUM_QUADRUPLETS, seed: int = 0) -> VideoBenchmark:
    """So many quadruplets of each law; clips are simulated when they are scored.

    Each is a pure function of (law, its number, seed); training clips come from other seeds.
    """
    card = load_card("physics")
    items = tuple(
        VideoItem(
            id=f"{law}-{number:04d}",
            load=partial(_clips, law, number, seed),
            group=f"{law}-{number:04d}",
            tags=(law,),
        )
        for law in LAWS
        for number in range(num_quadruplets)
    )
    version = build_version(card, quadruplets=(num_quadruplets, NUM_QUADRUPLETS), seed=(seed, 0))
    return VideoBenchmark(name=card.name, items=items, card=card, version=version, context=CONTEXT)


def _clips(law: Law, number: int, seed: int) -> ClipPairs:
    return sample_quadruplet(law, number, seed, NUM_FRAMES).pairs
