"""WordNet's nouns as documents of text alone."""

from dataclasses import replace

import pytest

from genvlm.data.emoji import Concept, load_concepts
from genvlm.data.wordnet import choose_glosses, parse_nouns
from genvlm.errors import DataError

LICENCE = "  1 Licence of Princeton.  \n  2   \n  3 All rights reserved.  \n"
ANIMAL = '00000100 05 n 01 animal 0 000 | a living organism; "so they say"  \n'
OWL = (
    "01621127 05 n 02 owl 0 bird_of_night 0 003 @ 00000100 n 0000 #m 01621635 n 0000 "
    '~ 01621635 n 0000 | bird (of the night; it hoots) with claws; "an owl"  \n'
)
OWLET = "01621635 05 n 01 owlet 0 001 @ 01621127 n 0000 | young owl  \n"
NOUNS = LICENCE + ANIMAL + OWL + OWLET


def concept(label: str, *, held_out: bool) -> Concept:
    """A concept of a family on the wanted side of the split."""
    concepts = (Concept(0, str(i), label, (), "animals", f"kind {i}") for i in range(1000))
    return next(c for c in concepts if c.held_out == held_out)


def texts(*concepts: Concept, related: bool = False, max_letters: int = 100) -> list[str]:
    synsets, _ = parse_nouns(NOUNS.encode(), "data.noun")
    chosen = choose_glosses(synsets, concepts, max_letters=max_letters, related=related)
    return [s.text for s in chosen.synsets]


def test_a_document_is_the_usual_word_and_its_definition_without_examples() -> None:
    assert texts() == [
        "animal: a living organism",
        "owl: bird (of the night; it hoots) with claws",
        "owlet: young owl",
    ]


def test_the_licence_is_read_without_its_line_numbers() -> None:
    _, licence = parse_nouns(NOUNS.encode(), "data.noun")
    assert licence == "Licence of Princeton.\n\nAll rights reserved.\n"


def test_related_nouns_are_those_of_captions_and_all_that_they_are_a_kind_of() -> None:
    assert texts(concept("the bird of night sleeps", held_out=False), related=True) == [
        "animal: a living organism",
        "owl: bird (of the night; it hoots) with claws",
    ]


def test_a_noun_that_names_a_held_out_emoji_alone_is_left_out_and_counted() -> None:
    tested, trained = concept("bird of night", held_out=True), concept("Owlet", held_out=False)
    also_tested = concept("owlet", held_out=True)
    assert texts(tested, trained, also_tested) == ["animal: a living organism", "owlet: young owl"]
    synsets, _ = parse_nouns(NOUNS.encode(), "data.noun")
    chosen = choose_glosses(synsets, [tested], max_letters=20, related=False)
    assert chosen.left_out == {
        "longer than 20 letters": 1, "names an emoji of a held-out family": 1,
    }  # fmt: skip


def test_letters_that_are_not_ascii_and_empty_definitions_are_counted() -> None:
    nouns = (
        LICENCE
        + ANIMAL.replace("living", "lívíng")
        + OWLET.replace("young owl", "").replace("001 @ 01621127 n 0000", "000")
    )
    synsets, _ = parse_nouns(nouns.encode(), "data.noun")
    chosen = choose_glosses(synsets, [], max_letters=100, related=False)
    assert (chosen.synsets, chosen.left_out) == ([], {"not ASCII": 1, "no definition": 1})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (NOUNS.replace("003 @", "004 @"), "data.noun line 5 is not of WordNet's data.noun"),
        (NOUNS.replace(" | young", " young"), "line 6"),
        (LICENCE + OWLET, "'owlet' is said to be a kind of 01621127, which is not there"),
        (ANIMAL, "holds no nouns or no licence"),
        ("\0\1", "line 1"),
    ],
)
def test_a_damaged_file_is_named(content: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence.replace("(", r"\(")):
        parse_nouns(content.encode(), "data.noun")


def test_about_one_noun_in_twenty_is_held_out() -> None:
    synsets, _ = parse_nouns(NOUNS.encode(), "data.noun")
    many = [replace(synsets["01621635"], id=f"{i:08}") for i in range(2000)]
    assert 70 <= sum(s.held_out for s in many) <= 130


def test_every_real_concept_can_be_given() -> None:
    assert "owl: bird (of the night; it hoots) with claws" in texts(*load_concepts(), related=True)
