from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from genvlm.config.assets import asset_path
from genvlm.data.emoji import class_concepts, find_concept, load_drawings, near_duplicates
from genvlm.data.scenes import ICONS, Icon, is_held_out
from genvlm.errors import ConfigError
from genvlm.evaluation.benchmark import Benchmark, run_benchmark
from genvlm.evaluation.benchmarks.emoji_classes import build_emoji_classes, labelled_drawings
from genvlm.evaluation.benchmarks.emoji_pairs import add_pairs, build_emoji_pairs, replace_pairs
from genvlm.evaluation.benchmarks.scenes import build_scenes
from genvlm.evaluation.cards import Card, load_card
from genvlm.evaluation.summary import summarize
from genvlm.scoring.controls import ConstantScorer, LengthScorer, PixelNeighbourScorer
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.studies.evaluations import NEIGHBOUR, VALIDATION, build_benchmark, build_controls

NAMES = {icon.name: icon for icon in ICONS}
PLURALS = {icon.plural: icon for icon in ICONS}
RELATIONS = ("left of", "right of", "above", "below")


class BlindScorer:
    """Likes some texts more than others, whatever the picture."""

    info = ScorerInfo(name="blind", unit="arbitrary")

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        rows = [[float(sum(map(ord, text)) % 97) for text in g.texts] for g in grids]
        return [Scores(np.tile(r, (len(g.images), 1))) for r, g in zip(rows, grids, strict=True)]


@pytest.fixture(scope="module")
def scenes() -> Benchmark:
    return build_scenes()


@pytest.fixture(scope="module")
def pairs() -> Benchmark:
    return build_emoji_pairs()


@pytest.fixture(scope="module")
def classes() -> Benchmark:
    return build_emoji_classes()


def parse(caption: str) -> tuple[Icon, str, Icon]:
    """Icons and relation of a caption, read without the code that wrote it."""
    for relation in RELATIONS:
        first, found, second = caption.partition(f" {relation} ")
        if found:
            return NAMES[first], relation, NAMES[second]
    raise AssertionError(caption)


def centre(picture: np.ndarray, icon: Icon) -> tuple[float, float]:
    """Row and column where a 30-pixel Noto drawing of the icon fits the picture best."""
    from PIL import Image

    drawing = Image.fromarray(load_drawings("noto")[find_concept(icon.label).index])
    best = (np.inf, 0, 0)
    for size in (28, 29, 30, 31):
        template = np.asarray(drawing.resize((size, size), Image.Resampling.LANCZOS), np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(
            picture.astype(np.float32), (size, size, 3)
        )[:, :, 0]
        errors = ((windows - template) ** 2).mean((2, 3, 4))
        row, column = np.unravel_index(errors.argmin(), errors.shape)
        best = min(best, (errors.min(), row + size / 2, column + size / 2))
    return best[1], best[2]


def test_scenes_hold_four_hundred_of_each_set_in_thirds(scenes: Benchmark) -> None:
    counts = Counter(tag for item in scenes.items for tag in item.tags)
    assert counts == {
        "swapped": 400, "replaced": 400,
        "replaced-icon": 134, "replaced-relation": 133, "replaced-colour": 133,
    }  # fmt: skip
    assert scenes.items[7].grid.item_id == "swapped-0007"
    assert len({frozenset(item.grid.texts) for item in scenes.items}) == 800


def test_scene_captions_are_held_out_and_differ_as_their_tags_say(scenes: Benchmark) -> None:
    for item in scenes.items:
        (a, relation, b), (c, other, d) = map(parse, item.grid.texts)
        assert is_held_out(a, b)
        assert is_held_out(c, d)
        kind = item.tags[-1]
        if kind == "swapped":
            assert (a, b, relation) == (d, c, other)
        elif kind == "replaced-relation":
            assert (a, b) == (c, d)
            assert (relation in RELATIONS[:2]) != (other in RELATIONS[:2])
        else:
            assert relation == other
            ((old, new),) = [(x, y) for x, y in ((a, c), (b, d)) if x != y]
            if kind == "replaced-colour":
                assert old.name.split()[1:] == new.name.split()[1:]
                assert old.colour != new.colour


def test_scene_captions_are_true_of_their_pictures(scenes: Benchmark) -> None:
    for item in (*scenes.items[:400:80], *scenes.items[400::45]):
        for picture, caption in zip(item.grid.images, item.grid.texts, strict=True):
            first, relation, second = parse(caption)
            (row, column), (row2, column2) = centre(picture, first), centre(picture, second)
            offset = {
                "left of": column2 - column,
                "right of": column - column2,
                "above": row2 - row,
                "below": row - row2,
            }[relation]
            assert offset > 20, caption


def test_scenes_repeat_with_their_seed_and_say_their_options() -> None:
    first, again = (build_scenes(num_swapped=3, num_replaced=3) for _ in range(2))
    for a, b in zip(first.items, again.items, strict=True):
        assert a.grid.texts == b.grid.texts
        assert all(map(np.array_equal, a.grid.images, b.grid.images))
    assert first.version == "3+swapped=3+replaced=3"
    other = build_scenes("fluent", 3, 3, seed=1)
    assert other.version == "3+vendor=fluent+swapped=3+replaced=3+seed=1"
    assert [i.grid.texts for i in other.items] != [i.grid.texts for i in first.items]


def test_scenes_with_three_icons_and_counts_change_one_thing() -> None:
    benchmark = build_scenes(num_swapped=12, num_replaced=30, three=0.5, counts=0.5)
    captions = [text for item in benchmark.items for text in item.grid.texts]
    assert any("," in text for text in captions)
    assert any(word in text for text in captions for word in ("two ", "three "))
    for item in benchmark.items[12:]:
        first, second = (text.split() for text in item.grid.texts)
        if "replaced-icon" not in item.tags:
            assert abs(len(first) - len(second)) <= 1
        assert item.grid.texts[0] != item.grid.texts[1]


def test_a_blind_scorer_gets_nothing_on_scenes(scenes: Benchmark) -> None:
    records = run_benchmark(scenes, BlindScorer(), {"length": LengthScorer()}, chunk_size=400)
    result = summarize(records, scenes.card)
    for metrics in (result.metrics, *result.categories.values()):
        assert [metrics[name].value for name in ("text", "image", "group")] == [0, 0, 0]
    assert result.status == "complete"


def test_each_label_of_a_pair_is_right_once_and_wrong_once(pairs: Benchmark) -> None:
    asked = Counter((item.grid.texts[0], item.grid.texts[1]) for item in pairs.items)
    assert set(asked.values()) == {1}
    assert all(asked[b, a] == 1 for a, b in asked)
    assert all(item.target == 0 for item in pairs.items)
    fluent = load_drawings("fluent")
    for item in pairs.items[::50]:
        expected = fluent[find_concept(item.grid.texts[0]).index]
        np.testing.assert_array_equal(item.grid.images[0], expected)


def test_pairs_hold_the_numbers_that_the_card_says(pairs: Benchmark) -> None:
    counts = Counter(tag for item in pairs.items for tag in item.tags)
    assert counts == {
        "replace": 778, "add": 222, "colour": 70, "direction": 38, "gender": 36, "number": 50,
        "expression": 72, "other": 734, "training-family": 832, "held-out-family": 168,
    }  # fmt: skip
    assert (len(list(replace_pairs())), len(list(add_pairs()))) == (5075, 478)
    for number in ("778", "222", "734", "168", "5,075", "478"):
        assert number in pairs.card.description


def test_pairs_leave_out_what_cannot_be_told_apart(pairs: Benchmark) -> None:
    alike = near_duplicates("fluent", [find_concept(t) for i in pairs.items for t in i.grid.texts])
    for item in pairs.items:
        first, second = sorted(find_concept(text).index for text in item.grid.texts)
        assert (first, second) not in alike
        words = [set(text.lower().replace(":", "").split()) for text in item.grid.texts]
        different = words[0] ^ words[1]
        assert different not in ({"person", "man"}, {"person", "woman"}, {"man"}, {"woman"})


def test_no_frame_or_kind_dominates_the_pairs(pairs: Benchmark) -> None:
    kinds = Counter((item.group, item.tags[1]) for item in pairs.items)
    assert max(kinds.values()) <= 40


def test_a_blind_scorer_gets_half_of_the_pairs(pairs: Benchmark) -> None:
    result = summarize(
        run_benchmark(pairs, BlindScorer(), {"constant": ConstantScorer()}), pairs.card
    )
    assert result.metrics["accuracy"].half == pytest.approx(50.0)
    assert all(c["accuracy"].half == pytest.approx(50.0) for c in result.categories.values())
    assert result.controls.gain.metrics["accuracy"].value == pytest.approx(0.0)


def test_classes_are_a_hundred_training_concepts_of_eight_groups(classes: Benchmark) -> None:
    concepts = class_concepts()
    assert len({c.label for c in concepts}) == 100
    assert not any(c.held_out for c in concepts)
    assert sorted(Counter(c.group for c in concepts).values()) == [12] * 4 + [13] * 4
    for vendor in ("noto", "twemoji", "fluent"):
        assert not near_duplicates(vendor, concepts)
    assert len(classes.items) == 300
    assert {len(item.grid.texts) for item in classes.items} == {100}
    assert Counter(item.target for item in classes.items) == dict.fromkeys(range(100), 3)


def test_drawings_of_training_vendors_are_moved_and_those_of_the_unseen_one_are_not(
    classes: Benchmark,
) -> None:
    for item in classes.items:
        vendor = item.tags[0]
        label = item.grid.texts[item.target or 0]
        drawing = load_drawings(vendor)[find_concept(label).index]
        assert np.array_equal(item.grid.images[0], drawing) == (vendor == "fluent")
        assert item.grid.images[0].dtype == np.uint8


def test_the_validation_set_shows_unchanged_twemoji_and_the_neighbour_knows_noto_alone() -> None:
    benchmark = build_benchmark(VALIDATION)
    assert benchmark.version == "1+vendors=twemoji+moved=False"
    for item, concept in zip(benchmark.items, class_concepts(), strict=True):
        assert item.grid.texts[item.target or 0] == concept.label
        assert np.array_equal(item.grid.images[0], load_drawings("twemoji")[concept.index])
    controls = build_controls(VALIDATION, benchmark, ConstantScorer())
    result = summarize(
        run_benchmark(benchmark, controls[NEIGHBOUR], {"constant": ConstantScorer()}),
        benchmark.card,
    )
    assert result.metrics["accuracy"].value == 48
    assert len(build_benchmark(VALIDATION, limit=7).items) == 7


def test_a_smaller_version_shows_fewer_pictures_and_keeps_all_classes(classes: Benchmark) -> None:
    few = build_emoji_classes(num_shown=10)
    assert few.version == f"{classes.version}+num_shown=10"
    assert len(few.items) == 30
    whole = {item.grid.item_id: item for item in classes.items}
    for item in few.items:
        same = whole[item.grid.item_id]
        assert (item.target, item.grid.texts) == (same.target, same.grid.texts)


def test_the_pixel_neighbour_gets_what_the_card_says(classes: Benchmark) -> None:
    scorer = PixelNeighbourScorer(*labelled_drawings(class_concepts()))
    result = summarize(run_benchmark(classes, scorer, {"constant": ConstantScorer()}), classes.card)
    found = {v: result.categories[v]["accuracy"].value for v in ("noto", "twemoji", "fluent")}
    # The augmented ones may move by a picture where bilinear sampling rounds otherwise.
    assert found == pytest.approx({"noto": 78, "twemoji": 72, "fluent": 41}, abs=1.01)
    assert result.controls.scores["constant"].metrics["accuracy"].half == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["scenes", "emoji-pairs", "emoji-classes"])
def test_every_card_loads(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.artefacts


def test_a_card_must_name_the_metrics_of_its_rule() -> None:
    card = load_card("scenes")
    with pytest.raises(ConfigError, match="chance of 'accuracy'"):
        Card(**{**card.__dict__, "chance": {"accuracy": 50.0}})


def test_an_asset_that_is_not_shipped_is_named() -> None:
    assert asset_path("eval/benchmarks/scenes.yaml").is_file()
    with pytest.raises(ConfigError, match="no-such-file"):
        asset_path("no-such-file.yaml")
    assert asset_path("eval/benchmarks").is_dir()
