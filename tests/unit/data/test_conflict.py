from collections import Counter

import numpy as np
import pytest

from genvlm.data.conflict import cue_conflicts, in_colours_of
from genvlm.data.emoji import class_concepts, load_drawings
from genvlm.errors import DataError


def test_the_outline_is_that_of_the_shape_and_every_colour_of_the_other() -> None:
    conflict = cue_conflicts(class_concepts(), "noto", 5)[3]
    shape = load_drawings("noto")[conflict.shape.index]
    colour = load_drawings("noto")[conflict.colour.index]
    ground = (shape >= 245).all(-1)
    assert (conflict.image[ground] == shape[ground]).all()
    palette = {tuple(p) for p in colour.reshape(-1, 3)}
    assert {tuple(p) for p in conflict.image[~ground]} <= palette
    assert not np.array_equal(conflict.image, shape)


def test_lightness_keeps_its_order_and_flat_areas_stay_flat() -> None:
    shape = np.full((8, 8, 3), 255, np.uint8)
    shape[:, :3], shape[:, 3:6] = (10, 10, 10), (200, 100, 100)
    colours = np.full((8, 8, 3), 255, np.uint8)
    colours[:4], colours[4:6] = (0, 0, 90), (0, 240, 0)
    recoloured = in_colours_of(shape, colours)
    assert (recoloured[:, :3] == (0, 0, 90)).all()
    assert (recoloured[:, 3:6] == (0, 240, 0)).all()
    assert (recoloured[:, 6:] == 255).all()


def test_a_drawing_in_its_own_colours_is_itself_where_lightness_tells_colours() -> None:
    ramp = np.repeat(np.arange(64, dtype=np.uint8)[:, None, None] * 3, 64, 1).repeat(3, 2)
    assert np.array_equal(in_colours_of(ramp, ramp), ramp)


def test_pairs_are_distinct_fixed_and_spread_over_the_concepts() -> None:
    conflicts = cue_conflicts(class_concepts(), "twemoji", 100)
    assert len({c.id for c in conflicts}) == 100
    assert [c.id for c in conflicts] == [
        c.id for c in cue_conflicts(class_concepts(), "twemoji", 100)
    ]
    uses = Counter(c.shape.id for c in conflicts) + Counter(c.colour.id for c in conflicts)
    assert max(uses.values()) <= 4
    assert len(uses) > 80


def test_too_many_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="10 cue conflicts asked for"):
        cue_conflicts(class_concepts()[:2], "noto", 10)
