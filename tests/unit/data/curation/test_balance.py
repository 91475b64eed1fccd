"""MetaCLIP's balancing: frequent entries are capped, rare ones stay whole."""

import math
from pathlib import Path

import pytest

from genvlm.config.curation import BalanceRule
from genvlm.data.curation.balance import balance, read_entries
from genvlm.errors import DataError


def captions(counts: dict[str, int]) -> dict[str, str]:
    return {f"{text}-{n}": text for text, count in counts.items() for n in range(count)}


def test_a_frequent_entry_keeps_about_cap_and_a_rare_one_all() -> None:
    given = captions({"a cow": 4000, "a yak": 30})
    result = balance(given, BalanceRule(cap=200, entries=None, min_count=5))
    kept = [text for key, text in given.items() if key not in result.dropped]
    assert kept.count("a yak") == 30
    assert abs(kept.count("a cow") - 200) < 4 * math.sqrt(200)
    assert result.counts["cow"] == 4000
    assert result.kept_counts["cow"] == kept.count("a cow")


def test_the_draw_depends_on_seed_and_id_and_not_on_the_order() -> None:
    given = captions({"cow": 500})
    rule = BalanceRule(cap=100)
    reverse = dict(reversed(given.items()))
    assert balance(given, rule).dropped == balance(reverse, rule).dropped
    assert balance(given, rule).dropped != balance(given, BalanceRule(cap=100, seed=1)).dropped


def test_entries_of_a_file_match_whole_words_and_captions_without_one_are_dropped(
    tmp_path: Path,
) -> None:
    path = tmp_path / "entries.txt"
    path.write_text("fire_engine\ncow\n\nfire_engine\n", encoding="utf-8")
    assert read_entries(path) == [("fire", "engine"), ("cow",)]
    given = {"1": "Red FIRE engine.", "2": "cowboy", "3": "engine fire", "4": "two cow s"}
    result = balance(given, BalanceRule(entries=str(path)))
    assert result.dropped == {"2": "no entry", "3": "no entry"}


def test_captions_of_rare_words_alone_stay_without_a_file() -> None:
    result = balance({"1": "yak", "2": "cow", "3": "cow", "4": "cow"}, BalanceRule(min_count=3))
    assert result.dropped == {}


def test_function_words_and_numbers_are_no_entries_of_their_own() -> None:
    result = balance(captions({"the 2 cows": 50}) | {"x": "the teapot 2"}, BalanceRule(cap=1))
    assert set(result.counts) == {"cows"}
    assert "x" not in result.dropped
    assert len(result.dropped) > 40


def test_an_empty_file_of_entries_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "entries.txt"
    path.write_text("\n--\n", encoding="utf-8")
    with pytest.raises(DataError, match="lists no entry"):
        read_entries(path)
