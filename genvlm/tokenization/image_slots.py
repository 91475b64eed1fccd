"""Rows of tokens for a language model that reads vectors of pictures in some of its places.

T tokens. A prompt is a sequence of texts and of slots; each slot is as wide as a picture's vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from genvlm.config.projector import IMAGE_SLOT
from genvlm.errors import TokenError
from genvlm.tokenization.document import Text


class TokenCoder(Protocol):
    """Texts to the token ids of a language model and back."""

    @property
    def begin(self) -> Sequence[int]:
        """What stands in front of everything; may be nothing."""
        ...

    @property
    def end(self) -> int:
        """What a text ends with."""
        ...

    @property
    def unknown(self) -> int | None:
        """What stands for text that has no token; None: there is no such text."""
        ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, text: str) -> list[int]:
        """Without begin and end.

        Raises:
            TokenError: the text is blank, or spells a control token, which would be obeyed.
        """
        ...

    def decode(self, token_ids: Sequence[int]) -> str: ...


@dataclass(frozen=True)
class ImageSlot:
    """Where the next picture stands."""


Prompt = Sequence[Text | ImageSlot]


class Row(NamedTuple):
    """A prompt, and perhaps what goes on behind it, as lists of one length."""

    token_ids: list[int]
    """0 where a picture stands."""
    is_image: list[bool]
    learned: list[bool]
    """Whether a loss falls on the token; never on a prompt's."""


def parse_prompt(template: str) -> list[Text | ImageSlot]:
    """Texts and the slots between them, which `{image}` marks; blanks beside a slot stay."""
    segments: list[Text | ImageSlot] = []
    for number, text in enumerate(template.split(IMAGE_SLOT)):
        segments += [ImageSlot()] if number else []
        segments += [Text(text)] if text.strip() else []
    return segments


def lay_out(
    prompt: Prompt,
    coder: TokenCoder,
    *,
    num_images: int,
    num_vectors: int,
    answer: str | None = None,
    context: int | None = None,
) -> Row:
    """`begin (text | vectors)*`, and with an answer `answer end` behind it, which is learned.

    Every text is tokenized by itself.

    Args:
        num_vectors: of one picture.
        context: most tokens that the language model reads; None: nobody knows.

    Raises:
        TokenError: pictures and slots are not as many, or the row is too long.
    """
    check_slots(prompt, num_images)
    token_ids, is_image = list(coder.begin), [False] * len(coder.begin)
    for segment in prompt:
        wide = isinstance(segment, ImageSlot)
        ids = [0] * num_vectors if isinstance(segment, ImageSlot) else coder.encode(segment.text)
        token_ids += ids
        is_image += [wide] * len(ids)
    if not token_ids:
        raise TokenError(
            "the prompt is empty and the language model has no begin token: give it a text or a "
            "picture"
        )
    behind = [] if answer is None else [*coder.encode(answer), coder.end]
    learned = [False] * len(token_ids) + [True] * len(behind)
    row = Row(token_ids + behind, is_image + [False] * len(behind), learned)
    if context is not None and len(row.token_ids) > context:
        said = "the prompt" if answer is None else repr(answer[:60])
        raise TokenError(
            f"{said} makes a row of {len(row.token_ids)} tokens, {num_vectors} of them for each "
            f"picture, and the language model reads {context}: shorten it"
        )
    return row


def check_slots(prompt: Prompt, num_images: int) -> None:
    """Raises TokenError: pictures and slots are not as many."""
    slots = sum(isinstance(segment, ImageSlot) for segment in prompt)
    if slots == num_images:
        return
    said = "".join(s.text if isinstance(s, Text) else IMAGE_SLOT for s in prompt)[:60]
    if not slots:
        raise TokenError(
            f"{num_images} pictures are given and the prompt {said!r} has no image slot: write "
            f"{IMAGE_SLOT} where a picture stands"
        )
    raise TokenError(
        f"the prompt {said!r} has {slots} image slots and {num_images} pictures are given: write "
        f"{IMAGE_SLOT} once for each"
    )
