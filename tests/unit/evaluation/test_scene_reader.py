"""The reader of generated scenes, held against pictures whose scene is known."""

import numpy as np

from genvlm.data.scenes import INVERSE, render_scene, sample_scenes
from genvlm.evaluation.scene_reader import judge_scenes, read_scenes, reading_shares

SCENES = list(sample_scenes(120, 7, held_out=True))
VENDORS = ("noto", "twemoji")


def pictures(vendor: str) -> list[np.ndarray]:
    return [render_scene(s, vendor) for s in SCENES]  # type: ignore[arg-type]


def test_real_scenes_are_read_almost_without_error() -> None:
    for vendor in VENDORS:
        for known in ((vendor,), VENDORS):
            shares = reading_shares(judge_scenes(pictures(vendor), SCENES, known))
            assert shares.both_icons >= 99
            assert shares.relation >= 99


def test_other_captions_and_swapped_icons_are_told_apart() -> None:
    noto = pictures("noto")
    shuffled = reading_shares(judge_scenes(noto, [*SCENES[1:], SCENES[0]], ("noto",)))
    assert shuffled.both_icons < 5
    swapped = judge_scenes(noto, [s.swapped for s in SCENES], ("noto",))
    assert reading_shares(swapped).relation == 0
    assert reading_shares(swapped).both_icons >= 99


def test_readings_are_given_from_the_left_or_from_above() -> None:
    scene = SCENES[0]
    (reading,) = read_scenes(pictures("noto")[:1], ("noto",))
    leads = scene.relation in ("left of", "above")
    assert reading.relation == (scene.relation if leads else INVERSE[scene.relation])
    first, second = (scene.first, scene.second) if leads else (scene.second, scene.first)
    assert (reading.first, reading.second) == (first, second)
    assert reading.distance < 0.01


def test_white_pictures_and_noise_are_far_from_every_scene() -> None:
    blank = np.full((64, 64, 3), 255, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    readings = read_scenes([blank, noise], VENDORS)
    assert min(r.distance for r in readings) > 0.02
