"""The shipped emoji pack: its bytes, its size, its split by concept family."""

import hashlib
from importlib.resources import files

import numpy as np
import pytest

from genvlm.data.emoji import Vendor, load_concepts, load_drawings, split_concepts
from genvlm.errors import DataError

NUM_CONCEPTS = 1594
VENDORS: tuple[Vendor, ...] = ("noto", "twemoji", "fluent")
SHA256 = {
    "emoji.json.gz": "49b2aa487ada9d359ccd59faf7109ffa96fcf2b2535eb4eda12a31303eed5b5d",
    "noto_64_native_pal.png": "aa2d7b983633fccb665751e4a4fdb76a4735a531e005149cbc127acc5a51835c",
    "twemoji_64_native_pal.png": "1c8842192f4742033c61d74060933cfed548d6928e53f8861caa8231b705fb1c",
    "fluent_flat_64_native_pal.png": (
        "ee3a538202af3203da138d17e1f8f37a0a2766800f21fc948e38ab12807951d5"
    ),
}


@pytest.mark.parametrize("name", SHA256)
def test_shipped_files_are_the_ones_the_results_were_made_with(name: str) -> None:
    content = files("genvlm.data").joinpath("emoji_pack", name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256[name]


@pytest.mark.parametrize("name", ["README.md", "LICENSES.txt"])
def test_provenance_and_licences_lie_beside_the_data(name: str) -> None:
    text = files("genvlm.data").joinpath("emoji_pack", name).read_text("utf-8")
    for source in ("Noto", "Twemoji", "Fluent", "emojibase", "emojilib", "Unicode"):
        assert source in text


def test_there_are_1594_distinct_concepts_in_the_order_of_the_sheets() -> None:
    concepts = load_concepts()
    assert len(concepts) == NUM_CONCEPTS
    assert len({c.id for c in concepts}) == NUM_CONCEPTS
    assert [c.index for c in concepts] == list(range(NUM_CONCEPTS))
    assert all(c.captions[0] == c.label and "" not in c.captions for c in concepts)


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_concept_has_a_drawing_that_is_not_blank(vendor: Vendor) -> None:
    drawings = load_drawings(vendor)
    assert drawings.shape == (NUM_CONCEPTS, 64, 64, 3)
    assert drawings.dtype == np.uint8
    assert (drawings != 255).any(axis=(1, 2, 3)).all()


def test_drawings_cannot_be_altered_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        load_drawings("noto")[0] = 0


def test_families_are_never_on_both_sides_of_the_split() -> None:
    training, held_out = split_concepts(held_out=False), split_concepts(held_out=True)
    assert len(training) + len(held_out) == NUM_CONCEPTS
    assert not {c.family for c in training} & {c.family for c in held_out}
    assert 0.05 < len(held_out) / NUM_CONCEPTS < 0.2


def test_colours_and_genders_of_a_concept_share_its_family() -> None:
    families = {c.label: c.family for c in load_concepts()}
    assert families["red heart"] == families["blue heart"]
    assert families["woman firefighter"] == families["man firefighter"]
    assert families["red heart"] != families["red circle"]


def test_an_unknown_vendor_is_refused_with_the_choices() -> None:
    with pytest.raises(DataError, match="choose one of noto, twemoji, fluent"):
        load_drawings("apple")  # type: ignore[arg-type]
