"""Words, repetition, scripts and boilerplate of captions."""

import pytest

from genvlm.data.curation.captions import PATTERNS, plain, repeated_share, scripts_of, words_of


@pytest.mark.parametrize(
    ("pattern", "caption"),
    [
        ("url", "see http://aiga.org"),
        ("url", "from www.example"),
        ("url", "buy at shop-24.com now"),
        ("email", "drawn by jo@example.net"),
        ("file_name", "holiday-3.JPG"),
        ("camera_name", "DSC_00123"),
        ("camera_name", "IMG 2041 (2)"),
        ("camera_name", "photo0034"),
        ("hexadecimal", "3fa85f64571a4562b3fc"),
        ("no_letters", "2041 - 17"),
        ("placeholder", "Untitled"),
        ("placeholder", "click to enlarge this"),
        ("placeholder", "(no description)"),
        ("opening", "A picture of a cow"),
    ],
)
def test_a_pattern_matches_boilerplate(pattern: str, caption: str) -> None:
    assert PATTERNS[pattern].search(caption)  # type: ignore[index]


@pytest.mark.parametrize(
    "caption",
    [
        "A drawing by a child, 3 years old.",
        "image of the Virgin",
        "photo 1",
        "Scanner",
        "DSC Arminia Bielefeld flag",
        "a defaced cafe",
        "No. 7",
        "e.g. a St. Bernard vs. a poodle",
        "thumbnail sketch of a house",
        "Ωmega",
    ],
)
def test_fine_captions_match_nothing_that_is_on_by_default(caption: str) -> None:
    assert [n for n, p in PATTERNS.items() if n != "opening" and p.search(caption)] == []


def test_words_keep_their_apostrophes_and_lose_their_case() -> None:
    assert words_of("Rubik's CUBE_02 (b&w)") == ["rubik's", "cube", "02", "b", "w"]
    assert plain("Red  apple!") == plain("red apple") != plain("red apples")
    assert plain("??  !") == "?? !"


def test_repetition_is_the_share_of_phrases_seen_before() -> None:
    assert repeated_share(words_of("buy now buy now buy now"), 2) == pytest.approx(3 / 5)
    assert repeated_share(words_of("a cow and a hen"), 2) == 0
    assert repeated_share(["one"], 2) == 0


def test_letters_are_counted_by_script() -> None:
    assert scripts_of("cow 牛 корова 1!") == {"latin": 3, "han": 1, "cyrillic": 6}
    assert scripts_of("ウシ うし ｃ") == {"kana": 4, "latin": 1}
