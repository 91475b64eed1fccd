"""Rows with pictures in them: where what stands, and what is refused."""

import pytest

from genvlm.errors import TokenError
from genvlm.tokenization.document import Text
from genvlm.tokenization.image_slots import ImageSlot, lay_out, parse_prompt


class Letters:
    """Every letter its place in the alphabet; 100 begins, 200 ends."""

    begin = (100,)
    end = 200
    unknown = None
    fingerprint = "letters"

    def encode(self, text: str) -> list[int]:
        return [ord(c) - 96 for c in text if c != " "]

    def decode(self, token_ids: object) -> str:
        raise NotImplementedError


class Beginless(Letters):
    begin = ()  # type: ignore[assignment]


CODER = Letters()


def test_a_caption_stands_behind_its_picture_and_is_alone_learned() -> None:
    row = lay_out([ImageSlot()], CODER, num_images=1, num_vectors=3, answer="ab")
    assert row.token_ids == [100, 0, 0, 0, 1, 2, 200]
    assert row.is_image == [False, True, True, True, False, False, False]
    assert row.learned == [False] * 4 + [True] * 3


def test_pictures_stand_between_texts_where_their_slots_are() -> None:
    prompt = parse_prompt("a{image} b c {image}{image}")
    assert [type(s) for s in prompt] == [Text, ImageSlot, Text, ImageSlot, ImageSlot]
    row = lay_out(prompt, CODER, num_images=3, num_vectors=2)
    assert row.token_ids == [100, 1, 0, 0, 2, 3, 0, 0, 0, 0]
    assert [i for i, image in enumerate(row.is_image) if image] == [2, 3, 6, 7, 8, 9]
    assert not any(row.learned)


def test_a_slot_in_a_text_of_its_own_is_no_slot() -> None:
    """A caption may hold the marker: it is never parsed."""
    row = lay_out([Text("a"), ImageSlot()], CODER, num_images=1, num_vectors=2, answer="b")
    assert sum(row.is_image) == 2
    assert sum(lay_out([Text("image")], CODER, num_images=0, num_vectors=2).is_image) == 0


@pytest.mark.parametrize(
    ("template", "num_images", "said"),
    [
        ("what is it", 1, "has no image slot: write {image} where a picture stands"),
        ("{image} and {image}", 1, "has 2 image slots and 1 pictures are given"),
        ("{image}", 2, "has 1 image slots and 2 pictures are given"),
        ("{image}", 0, "has 1 image slots and 0 pictures are given"),
    ],
)
def test_pictures_and_slots_must_be_as_many(template: str, num_images: int, said: str) -> None:
    with pytest.raises(TokenError, match=said):
        lay_out(parse_prompt(template), CODER, num_images=num_images, num_vectors=2)


def test_a_row_beyond_the_context_is_named_and_never_cut() -> None:
    fitting = {"num_images": 1, "num_vectors": 3, "answer": "ab"}
    lay_out([ImageSlot()], CODER, context=7, **fitting)  # type: ignore[arg-type]
    with pytest.raises(TokenError, match=r"'ab' makes a row of 7 tokens.* reads 6: shorten"):
        lay_out([ImageSlot()], CODER, context=6, **fitting)  # type: ignore[arg-type]
    with pytest.raises(TokenError, match="the prompt makes a row of 4 tokens"):
        lay_out([ImageSlot()], CODER, context=3, num_images=1, num_vectors=3)


def test_a_model_without_a_begin_needs_something_to_read() -> None:
    with pytest.raises(TokenError, match="the prompt is empty"):
        lay_out([], Beginless(), num_images=0, num_vectors=3)
