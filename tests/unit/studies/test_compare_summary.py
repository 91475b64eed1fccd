"""What the records of a comparison say, and what is chosen by it."""

from collections.abc import Sequence
from typing import Any

import pytest

from genvlm.config.compare import CurvesConfig
from genvlm.errors import EvaluationError
from genvlm.evaluation.control_names import BLIND, SHUFFLED
from genvlm.studies.compare.asked import METHODS, OWN, UNSEEN
from genvlm.studies.compare.benchmark_sections import beats_itself
from genvlm.studies.compare.cells import Cell
from genvlm.studies.compare.choices import Choice, abilities
from genvlm.studies.compare.curves import batch_curves, data_curves, frequency_bins
from genvlm.studies.compare.paired import FIND, SWAPPED, paired_tests
from genvlm.studies.compare.questions import SCENES
from genvlm.studies.compare.results import Results, compare_records, split_items
from genvlm.studies.compare.summary import Record, gains, numbers_of, over_seeds
from genvlm.testing.compared import made_record, tiny_comparison

RIGHT, WRONG = [True], [False]


def of(recipe: str, seed: int = 0, **numbers: Any) -> dict[str, Any]:
    return made_record(Cell(recipe=recipe, seed=seed), **numbers)


def compared(*records: dict[str, Any]) -> Results:
    cells = [Cell(recipe=r["cell"]["recipe"], seed=r["cell"]["seed"]) for r in records]
    return compare_records(tiny_comparison(), dict(zip(cells, records, strict=True)))


def choice(results: Results, need: str) -> Choice:
    (found,) = [c for c in results.choices if need in c.need]
    return found


def test_a_number_is_the_mean_of_the_seeds_beside_their_range() -> None:
    shares = {0: 2 * RIGHT + 8 * WRONG, 1: 6 * RIGHT + 4 * WRONG, 2: 10 * WRONG}
    found = over_seeds({seed: of("clip", seed, unseen=right) for seed, right in shares.items()})
    number = found["drawings", UNSEEN]
    assert (number.mean, number.low, number.high) == (pytest.approx(80 / 3), 0, 60)
    assert number.to_json()["by_seed"] == {"0": 20.0, "1": 60.0, "2": 0.0}


def test_swapped_scenes_do_not_count_with_replaced_ones() -> None:
    found = numbers_of(of("clip", swapped=RIGHT + 3 * WRONG))
    assert found[SCENES, "logit", "swapped", "group", OWN] == 25
    assert found[SCENES, "logit", "replaced", "group", OWN] == 100


def test_other_scores_of_drawings_stand_apart() -> None:
    record = of("coca", unseen=RIGHT)
    other = of("coca", unseen=WRONG, flops=9e9)["drawings"]
    record["drawings"]["other_methods"] = {"text_given_image": other}
    found = numbers_of(record)
    assert found["drawings", UNSEEN] == 100
    assert found["drawings", UNSEEN, "text_given_image"] == 0
    assert found["decision", "flops", "text_given_image"] == 9e9


def test_a_model_that_was_trained_and_not_asked_has_its_costs_alone() -> None:
    record = {k: v for k, v in of("clip").items() if k in ("schema", "cell", "training")}
    assert {key[0] for key in numbers_of(record)} == {"training"}
    assert paired_tests(UNSEEN, {"clip": {0: record}}) is None


def test_recall_counts_ranks_from_one() -> None:
    found = numbers_of(of("clip", ranks=[1, 2, 5, 6, 11]))
    recalls = [found["recall", "text_to_image", k] for k in ("1", "5", "10")]
    assert recalls == [20, 60, 80]


def test_scores_without_nats_have_no_calibration_error_before() -> None:
    found = numbers_of(of("diffusion", error=None))
    assert ("calibration", "before") not in found
    assert found["calibration", "after"] == 0.05


def test_seeds_of_one_item_are_exchanged_together() -> None:
    # Five items that the best names in all three seeds: p is 2 / 2^5, not 2 / 2^15.
    records = {
        recipe: {seed: of(recipe, seed, unseen=5 * right) for seed in range(3)}
        for recipe, right in (("clip", WRONG), ("siglip", RIGHT))
    }
    found = paired_tests(UNSEEN, records)
    assert found is not None
    assert found.best == "siglip"
    test = found.tests["clip"]
    assert (test.difference, test.num_seeds, test.best_only) == (100, 3, 15)
    assert test.p == pytest.approx(2 / 2**5)
    assert not test.told_apart


def test_scenes_of_one_group_are_exchanged_together() -> None:
    first, second = (of(name, swapped=10 * right) for name, right in
                     (("clip", RIGHT), ("siglip", WRONG)))  # fmt: skip
    apart = paired_tests(SWAPPED, {"clip": {0: first}, "siglip": {0: second}})
    for record in (first, second):
        groups = record[SCENES]["logit"]["groups"]
        record[SCENES]["logit"]["groups"] = dict.fromkeys(groups, "panda + pizza")
    together = paired_tests(SWAPPED, {"clip": {0: first}, "siglip": {0: second}})
    assert apart is not None
    assert together is not None
    assert apart.tests["siglip"].p == pytest.approx(2 / 2**10)
    assert together.tests["siglip"].p == 1


def test_p_values_are_adjusted_over_the_recipes() -> None:
    shares = {"clip": 12 * RIGHT, "siglip": 12 * WRONG, "transformer": 6 * (RIGHT + WRONG)}
    found = paired_tests(UNSEEN, {n: {0: of(n, unseen=right)} for n, right in shares.items()})
    assert found is not None
    least, other = found.tests["siglip"], found.tests["transformer"]
    assert least.p is not None
    assert least.adjusted_p == pytest.approx(2 * least.p)
    assert other.adjusted_p == other.p == pytest.approx(2 / 2**6)


def test_recipes_are_tested_on_the_seeds_that_both_have() -> None:
    clip = {0: of("clip", 0, unseen=9 * RIGHT), 1: of("clip", 1, unseen=9 * WRONG)}
    siglip = {1: of("siglip", 1, unseen=RIGHT + 8 * WRONG)}
    found = paired_tests(UNSEEN, {"clip": clip, "siglip": siglip})
    assert found is not None
    assert found.best == "clip"
    assert found.tests["siglip"].num_seeds == 1
    assert found.tests["siglip"].difference == pytest.approx(-100 / 9)
    none = paired_tests(UNSEEN, {"clip": {0: clip[0]}, "siglip": siglip})
    assert none is not None
    assert none.tests["siglip"].difference is None
    assert not none.tests["siglip"].told_apart


def test_models_that_were_asked_other_items_are_not_compared() -> None:
    records = {"clip": {0: of("clip", unseen=RIGHT)}, "siglip": {0: of("siglip", unseen=2 * RIGHT)}}
    with pytest.raises(EvaluationError, match="same items only"):
        paired_tests(UNSEEN, records)


def test_nobody_asked_is_no_test() -> None:
    assert paired_tests(FIND, {"clip": {0: of("clip")}}) is None


def test_equal_answers_are_not_told_apart() -> None:
    results = compared(of("clip", unseen=9 * RIGHT), of("siglip", unseen=9 * RIGHT))
    assert results.paired[UNSEEN].tests["siglip"].p is None
    assert choice(results, "style").verdict == "not told apart from siglip"


@pytest.mark.parametrize(("first", "second"), [("clip", "siglip"), ("siglip", "clip")])
def test_choices_follow_the_numbers(first: str, second: str) -> None:
    well: dict[str, Any] = {
        "unseen": 20 * RIGHT, "swapped": 20 * RIGHT, "pairs": 20 * RIGHT, "ranks": 20 * [1],
        "probes": {1: 20 * RIGHT}, "error": 0.05, "flops": 1e9,
    }  # fmt: skip
    badly: dict[str, Any] = {
        "unseen": 20 * WRONG, "swapped": 20 * WRONG, "pairs": 20 * WRONG, "ranks": 20 * [9],
        "probes": {1: 20 * WRONG}, "error": 0.5, "flops": 2e9,
    }  # fmt: skip
    results = compared(of(first, **well), of(second, **badly))
    assert {c.chosen for c in results.choices} == {first}
    style = choice(results, "style")
    assert style.number == "unseen vendor 100.0 %"
    assert style.runner_up == f"{second}: unseen vendor 0.0 %"
    assert style.verdict.startswith("told apart from all others")
    assert choice(results, "cheapest").number == "1.00 GFLOPs, 100.0 % right"


def test_a_cheaper_decision_may_cost_five_points_and_not_six() -> None:
    right = {"clip": 50, "siglip": 47, "transformer": 48}
    flops = {"clip": 9e9, "siglip": 1e9, "transformer": 3e9}
    records = [
        of(n, unseen=num * RIGHT + (50 - num) * WRONG, flops=flops[n]) for n, num in right.items()
    ]
    found = choice(compared(*records), "cheapest")
    assert found.chosen == "transformer"  # 96 %; siglip is cheaper still, with 94 %
    assert found.runner_up.startswith("clip: 9.00 GFLOPs")


def test_calibration_tells_where_the_ranges_of_seeds_meet() -> None:
    errors = {("clip", 0): 0.1, ("clip", 1): 0.2, ("siglip", 0): 0.19, ("siglip", 1): 0.3}
    results = compared(*(of(n, seed, error=e) for (n, seed), e in errors.items()))
    found = choice(results, "posterior")
    assert found.chosen == "clip"
    assert found.verdict.endswith("meet those of siglip")


def test_a_model_at_chance_is_not_believed_for_knowing_that_it_knows_nothing() -> None:
    knows = of("clip", unseen=18 * RIGHT + 2 * WRONG, error=0.1)
    guesses = of("siglip", unseen=20 * WRONG, error=0.005)
    found = choice(compared(knows, guesses), "posterior")
    assert found.chosen == "clip"
    assert found.number == "calibration error 0.100, 90.0 % right"


def test_what_was_not_asked_is_not_chosen() -> None:
    results = compared(of("clip"))
    assert choice(results, "find the picture").chosen is None
    assert choice(results, "labelled").chosen is None
    assert choice(results, "style").verdict == "the only one that was asked"


def test_gains_over_the_blind_control_are_of_whole_groups() -> None:
    record = of("clip", swapped=30 * RIGHT + 10 * WRONG, blind=0.25)
    alone = gains(record)[SCENES, "swapped", "group", BLIND]
    assert alone.value == pytest.approx(50)
    assert alone.is_sure
    # The same in two groups, one of which gains nothing.
    judged = record[SCENES]["logit"]
    judged["groups"] = {i: "right" if judged["earned"]["group"][i] else "wrong"
                        for i in judged["groups"]}  # fmt: skip
    grouped = gains(record)[SCENES, "swapped", "group", BLIND]
    assert grouped.value == pytest.approx(50)
    assert not grouped.is_sure


def test_a_gain_that_no_resample_changes_is_not_taken_as_certain() -> None:
    found = gains(of("clip", swapped=4 * RIGHT, blind=0.5))
    gain = found[SCENES, "swapped", "group", BLIND]
    assert gain.value == 50
    assert gain.interval is not None
    assert gain.interval.low < 10 < 90 < gain.interval.high


def test_a_model_beats_itself_where_it_is_surely_above_both_controls() -> None:
    record = of("clip", swapped=30 * RIGHT + 10 * WRONG, blind=0.25)
    key = (SCENES, "swapped", "group")
    assert beats_itself(gains(record), key) == "yes"
    halves = record[SCENES]["logit"]["halves"]
    halves[SHUFFLED] = halves[OWN]
    assert beats_itself(gains(record), key) == "no"
    del halves[SHUFFLED]
    assert beats_itself(gains(record), key) is None


def test_records_without_controls_have_no_gains() -> None:
    assert gains(of("clip")) == {}


CAN = {
    "mixed_modal": "draw give bound give write",
    "diffusion": "draw bound",
    "contrastive": "embed search",
    "masked": "embed search",
    "coca": "give write embed search",
    "projector": "give write",
}


@pytest.mark.parametrize("kind", METHODS)
def test_families_can_do_what_their_scores_allow(kind: str) -> None:
    can = [name.split()[0] for name, able in abilities(kind).items() if able]
    assert " ".join(can) == CAN[kind]


def points(records: Sequence[Cell], **numbers: Any) -> dict[Cell, Record]:
    return {
        cell: made_record(
            cell, unseen=int(8 * (cell.data_share or 1)) * RIGHT + 8 * WRONG, **numbers
        )
        for cell in records
    }


def test_curves_end_with_the_main_cell_of_the_first_seed() -> None:
    cells = [
        Cell(recipe="clip", seed=0),
        Cell(recipe="clip", seed=1),
        Cell(recipe="clip", seed=0, data_share=0.5),
        Cell(recipe="clip", seed=0, batch_size=256),
        Cell(recipe="clip", seed=0, batch_size=16),
        Cell(recipe="siglip", seed=0),
    ]
    curves = CurvesConfig(
        data_shares=(0.5,), data_recipes=("clip",), batch_sizes=(16, 256), batch_recipes=("clip",)
    )
    config, records = tiny_comparison(curves=curves), points(cells)
    assert data_curves(config, records)[UNSEEN] == {"clip": [(50, 100 / 3), (100, 50)]}
    assert batch_curves(config, records)["swapped scenes"] == {
        "clip": [(16, 50), (64, 50), (256, 50)]
    }


def test_concepts_are_binned_by_the_captions_that_name_them() -> None:
    asked = {1: WRONG, 31: 3 * RIGHT, 32: RIGHT, 500: RIGHT}
    found = frequency_bins(of("clip", captions=asked))
    assert [(b.captions, b.num_right, b.num) for b in found] == [
        ("1 to 31", 3, 4), ("32 to 127", 1, 1), ("128 and more", 1, 1),
    ]  # fmt: skip
    assert found[0].low < 75 < found[0].high


def test_records_are_parted_from_what_each_item_earned() -> None:
    lean, items = split_items(of("clip", ranks=[1], probes={1: RIGHT}))
    assert lean["drawings"]["cost"] == {"flops": 1e9, "seconds": 0.5}
    assert "right" not in lean["drawings"]
    assert items["drawings"]["right"][UNSEEN] == {"fluent-0": True, "fluent-1": False}
    assert items["retrieval"]["text_to_image"]["ranks"] == {"query-0": 1}
    assert items["probes"]["shots"]["1"]["right"] == {"fluent-0": True}


def test_a_choice_that_pixels_beat_says_so() -> None:
    right = {f"fluent-{i}": i < 6 for i in range(10)}
    baselines = {"drawings": {"right": {UNSEEN: right}}}
    for num, said in ((5, True), (6, True), (7, False)):
        record = of("clip", unseen=num * RIGHT + (10 - num) * WRONG)
        results = compare_records(
            tiny_comparison(), {Cell(recipe="clip", seed=0): record}, baselines
        )
        assert ("pixels alone get 60.0 %" in choice(results, "style").verdict) == said


def test_nothing_is_chosen_where_nobody_is_above_chance() -> None:
    found = compared(of("clip", swapped=40 * WRONG), of("siglip", swapped=40 * WRONG))
    nobody = choice(found, "who stands where")
    assert nobody.chosen == "none"
    assert nobody.verdict == "no recipe is above chance, 16.7 %"
