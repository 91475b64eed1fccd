"""How many damaged samples a run may meet."""

import pytest

from genvlm.data.skipping import SkipBudget
from genvlm.errors import DataError


def test_without_a_share_the_first_damaged_sample_stops_with_its_own_reason() -> None:
    skips = SkipBudget()
    for _ in range(10_000):
        skips.keep()
    with pytest.raises(DataError, match=r"^a\.png is damaged$"):
        skips.skip("a", "a.png is damaged")


def test_a_share_is_of_all_samples_and_the_first_ones_are_no_hundred_percent() -> None:
    skips = SkipBudget(0.01)
    for number in range(10):
        skips.skip(str(number), f"{number}.png is damaged")
    with pytest.raises(DataError, match=r"11 of the first 11 samples .* 0\.01 .*: 0\.png"):
        skips.skip("10", "10.png is damaged")


def test_of_a_long_source_the_share_grows_with_what_was_read() -> None:
    skips = SkipBudget(0.01)
    for _ in range(5000):
        skips.keep()
    for number in range(50):
        skips.skip(str(number), "damaged")
    with pytest.raises(DataError, match="51 of the first 5051"):
        skips.skip("50", "damaged")


def test_a_short_source_is_judged_at_its_end() -> None:
    skips = SkipBudget(0.25)
    skips.skip("a", "a.png is damaged")
    skips.keep()
    with pytest.raises(DataError, match="1 of the first 2 samples"):
        skips.finish()
    skips.keep()
    skips.keep()
    skips.finish()


def test_the_report_counts_all_and_names_the_first() -> None:
    skips = SkipBudget(0.5)
    for number in range(30):
        skips.keep()
        skips.skip(str(number), f"reason {number}")
    report = skips.report()
    assert (report["num_good"], report["num_skipped"]) == (30, 30)
    examples = report["examples"]
    assert isinstance(examples, list)
    assert [example["id"] for example in examples] == [str(number) for number in range(10)]
