from collections.abc import Sequence

import numpy as np
import pytest
import torch

from genvlm.config.syntax import SyntaxConfig
from genvlm.errors import ConfigError, GuidanceWarning, ImageError, TokenError
from genvlm.generation.guidance import guide
from genvlm.generation.infill import (
    GappedSegment,
    MaskedImage,
    MissingImage,
    MissingText,
    fill_documents,
    inpaint,
)
from genvlm.generation.sampling import SamplingSettings, draw, mask_logits, row_generators
from genvlm.models.pretrained import PretrainedModel
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Image, Text

CODES = np.array([[1, 2], [3, 4]])
MASK = np.array([[False, True], [True, True]])
GAPPED: list[list[GappedSegment]] = [
    [Text("a red square"), MissingImage()],
    [Image(CODES), MissingText()],
    [Text("blue"), MaskedImage(CODES, MASK)],
    [MissingText(), MissingImage(), Text("green"), MaskedImage(CODES, MASK), MissingText()],
]


@pytest.fixture(scope="module")
def pretrained() -> PretrainedModel:
    return tiny_pretrained(
        resolution=8, context_length=128, dtype=torch.float64, syntax=SyntaxConfig(num_gaps=3)
    )


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_every_gap_is_filled_with_what_it_asks_for(
    pretrained: PretrainedModel, guidance_scale: float
) -> None:
    settings = SamplingSettings(temperature=4, guidance_scale=guidance_scale)
    filled = fill_documents(pretrained, GAPPED, settings, seed=0)
    for given, document in zip(GAPPED, filled, strict=True):
        assert document.ended
        # Neighbouring texts become one: compare kinds without repetition.
        want = [_kind(s) for s in given]
        got = [_kind(s) for s in document.segments]
        assert _merged(got) == _merged(want)
    for i in (2, 3):
        assert filled[i].images[-1][~MASK].tolist() == CODES[~MASK].tolist()


def _kind(segment: GappedSegment) -> str:
    return "text" if isinstance(segment, Text | MissingText) else "image"


def _merged(kinds: Sequence[str]) -> list[str]:
    return [k for i, k in enumerate(kinds) if i == 0 or (k, kinds[i - 1]) != ("text", "text")]


@pytest.mark.parametrize("max_side", [3, 8])
@pytest.mark.parametrize("context_length", [40, 64])
def test_sized_models_fill_gaps_with_images_that_fit(max_side: int, context_length: int) -> None:
    """Also where the model's own square has more codes than it counts to."""
    sized = tiny_pretrained(
        resolution=16, context_length=context_length,
        syntax=SyntaxConfig(num_gaps=3, max_side=max_side),
    )  # fmt: skip
    oblong = np.zeros((1, 3), int)
    masked = MaskedImage(oblong, oblong == 0)
    document: list[GappedSegment] = [
        Text("blue"), MissingImage(), masked, MissingImage(), MissingText(),
    ]  # fmt: skip
    settings = SamplingSettings(temperature=3, repetition_penalty=1.3)
    shapes = set()
    for filled in fill_documents(sized, [document] * 30, settings, seed=max_side):
        assert filled.ended
        assert len(filled.token_ids) <= context_length
        assert [_kind(s) for s in filled.segments] == ["text", *["image"] * 3, "text"]
        assert filled.images[1].shape == (1, 3)
        shapes |= {filled.images[0].shape, filled.images[2].shape}
    assert len(shapes) > 3


def test_a_document_is_filled_alike_whatever_its_neighbours(pretrained: PretrainedModel) -> None:
    settings = SamplingSettings(temperature=4, guidance_scale=2.0)
    together = fill_documents(pretrained, GAPPED, settings, seed=5)
    alone = fill_documents(pretrained, GAPPED, settings, seed=5, batch_size=1)
    assert [d.token_ids.tolist() for d in together] == [d.token_ids.tolist() for d in alone]


@torch.no_grad()
def test_masked_codes_equal_those_of_a_slow_reference(pretrained: PretrainedModel) -> None:
    """No cache, no grammar: the sequence is written down by hand and read anew for every code."""
    v, model = pretrained.vocabulary, pretrained.model
    text = v.text_tokens(pretrained.text_tokenizer.encode("blue")).tolist()
    one, two = v.number(1), v.number(2)
    none, at = [-1, -1, -1], lambda r, c: [0, r, c]
    picture = [v.boi, 1, one, two, v.eoi, v.infill]
    # Of each token; a sentinel has the place of the first code that it stands for.
    places = [none, at(0, 0), at(0, 1), at(1, 0), none, none]
    settings = SamplingSettings(temperature=2, guidance_scale=3.0)
    (generator,) = row_generators(7, 1)
    rows = [[v.bos, *text, *picture], [v.bos, *picture]]
    positions = [[none, *[none] * len(text), *places], [none, *places]]
    drawn = []
    for sentinel, codes in ((one, [at(0, 1)]), (two, [at(1, 0), at(1, 1)])):
        draw_forced(generator)
        for row, place in zip(rows, positions, strict=True):
            row.append(sentinel)
            place.append(none)
        for place in codes:
            log_probs = []
            for row, own in zip(rows, positions, strict=True):
                hidden = model(torch.tensor([row]), positions=torch.tensor([[*own, place]]))
                logits = model.head(hidden[:, -1])
                log_probs.append(mask_logits(logits, torch.tensor([[0, 16]])))
            drawn.append(int(draw(guide(*log_probs, 3.0), settings, [generator])))
            for row, own in zip(rows, positions, strict=True):
                row.append(drawn[-1])
                own.append(place)
    (document,) = fill_documents(pretrained, [GAPPED[2]], settings, seed=7)
    assert document.images[0][MASK].tolist() == drawn


def draw_forced(generator: torch.Generator) -> None:
    """A row draws for a sentinel too, of which there is only one."""
    torch.rand(1, generator=generator, dtype=torch.float64)


def test_the_probabilities_of_all_fillings_sum_to_one() -> None:
    """Two codes of a codebook of three, given text and the codes around them."""
    tiny = tiny_pretrained(
        resolution=8, codebook_size=3, dtype=torch.float64, syntax=SyntaxConfig(num_gaps=1)
    )
    mask = np.array([[False, False], [True, True]])
    document: list[GappedSegment] = [Text("blue"), MaskedImage(np.zeros((2, 2), int), mask)]
    counts = np.zeros((3, 3))
    settings = SamplingSettings(temperature=1)
    for filled in fill_documents(tiny, [document] * 4000, settings, seed=0, batch_size=1000):
        counts[tuple(filled.images[0][1])] += 1
    assert counts.sum() == 4000
    exact = exact_filling(tiny)
    assert exact.sum() == pytest.approx(1)
    error = np.sqrt(exact * (1 - exact) / 4000)
    assert (np.abs(counts / 4000 - exact) < 5 * error + 1e-9).all()


@torch.no_grad()
def exact_filling(tiny: PretrainedModel) -> np.ndarray:
    v = tiny.vocabulary
    text = v.text_tokens(tiny.text_tokenizer.encode("blue")).tolist()
    two = v.number(2)
    prefix = [v.bos, *text, v.boi, 0, 0, two, v.eoi, v.infill, two]
    none = [-1, -1, -1]
    places = [none] * (2 + len(text)) + [[0, 0, 0], [0, 0, 1], [0, 1, 0], none, none, none]
    result = np.zeros((3, 3))
    for first in range(3):
        read = torch.tensor([[*prefix, first]])
        positions = torch.tensor([[*places, [0, 1, 0], [0, 1, 1]]])
        logits = tiny.model.head(tiny.model(read, positions=positions)[0, -2:])[:, :3]
        p = logits.softmax(-1).numpy()
        result[first] = p[0, first] * p[1]
    return result


def test_only_masked_pixels_of_a_picture_change(pretrained: PretrainedModel) -> None:
    image = np.full((8, 8, 3), 90, np.uint8)
    mask = np.zeros((8, 8), bool)
    mask[5:, 1:7] = True
    (drawn,) = inpaint(pretrained, [image], [mask], ["blue"], SamplingSettings(), seed=0)
    assert drawn.shape == image.shape
    assert (drawn[~mask] == 90).all()
    assert (drawn[mask] != 90).any()


def test_a_picture_and_its_mask_are_fitted_alike(pretrained: PretrainedModel) -> None:
    """Twice as wide as high: scaled by half and padded above and below."""
    image = np.full((8, 16, 3), 40, np.uint8)
    mask = np.zeros((8, 16), bool)
    mask[:, 8:] = True
    (drawn,) = inpaint(pretrained, [image], [mask], [None], SamplingSettings(), seed=0)
    assert (drawn[:2] == 255).all()
    assert (drawn[6:] == 255).all()
    assert (drawn[2:6, :4] == 40).all()
    assert (drawn[2:6, 4:] != 40).any()


def test_the_thinnest_mask_is_widened_to_its_code(pretrained: PretrainedModel) -> None:
    image = np.full((320, 320, 3), 90, np.uint8)
    mask = np.zeros((320, 320), bool)
    mask[300, 10] = True
    (drawn,) = inpaint(pretrained, [image], [mask], ["blue"], SamplingSettings(), seed=0)
    changed = np.argwhere((drawn != 90).any(-1))
    assert changed.tolist() == [[7, 0]]


def test_masks_that_do_not_fit_are_refused(pretrained: PretrainedModel) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    for mask, said in (
        (np.ones((4, 8), bool), "mask has 8x4 pixels and the picture 8x8"),
        (np.zeros((8, 8), bool), "mask is empty: paint white"),
    ):
        with pytest.raises(ImageError, match=said):
            inpaint(pretrained, [image], [mask], [None], SamplingSettings(), seed=0)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([Text("blue")], "no gap to be filled"),
        ([MissingText()] * 4, "sentinels for 3 spans"),
        ([Image(CODES)] * 20 + [MissingImage()], "than the context of 128"),
    ],
)
def test_documents_that_cannot_be_filled_are_refused(
    pretrained: PretrainedModel, document: list[GappedSegment], said: str
) -> None:
    with pytest.raises(TokenError, match=said):
        fill_documents(pretrained, [document], SamplingSettings(), seed=0)


def test_a_model_without_infilling_says_so() -> None:
    plain = tiny_pretrained(resolution=8)
    with pytest.raises(ConfigError, match=r"without infilling.*configs/train/infill.yaml"):
        fill_documents(plain, GAPPED[:1], SamplingSettings(), seed=0)


def test_guidance_without_condition_dropout_is_warned_of() -> None:
    plain = tiny_pretrained(
        resolution=8, condition_dropout=0.0, syntax=SyntaxConfig(num_gaps=1), context_length=40
    )
    with pytest.warns(GuidanceWarning):
        fill_documents(plain, GAPPED[:1], SamplingSettings(guidance_scale=2), seed=0)


def test_long_fillings_leave_room_for_those_behind_them() -> None:
    """A model that never ends a text: its gaps are closed so that all are filled."""
    wordy = tiny_pretrained(
        resolution=8, context_length=48, syntax=SyntaxConfig(num_gaps=3), initializer_std=0.0
    )
    document: list[GappedSegment] = [MissingText(), MissingImage(), MaskedImage(CODES, MASK)]
    for filled in fill_documents(wordy, [document] * 8, SamplingSettings(), seed=1):
        assert filled.ended
        assert len(filled.token_ids) <= 48
        assert [_kind(s) for s in filled.segments] == ["text", "image", "image"]
