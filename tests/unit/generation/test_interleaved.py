from collections.abc import Sequence

import numpy as np
import pytest
import torch

from genvlm.errors import GuidanceWarning, TokenError
from genvlm.generation.guidance import guide
from genvlm.generation.interleaved import sample_documents, sample_tokens
from genvlm.generation.sampled import SampledDocument
from genvlm.generation.sampling import SamplingSettings, draw, mask_logits, row_generators
from genvlm.models.pretrained import PretrainedModel
from genvlm.testing.documents import image_positions, parse_image_text
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Image, Segment, Text

PICTURE = Image(np.array([[0, 5], [7, 15]]))
PROMPTS: list[list[Segment]] = [
    [],
    [Text("a red square")],
    [PICTURE],
    [PICTURE, Text("blue"), PICTURE],
    [Text("a yellow bar on a white page"), PICTURE],
]


@pytest.fixture(scope="module")
def pretrained() -> PretrainedModel:
    """2x2 codes; float64, so that batch shapes change no draw."""
    return tiny_pretrained(resolution=8, dtype=torch.float64)


def ids(documents: Sequence[SampledDocument]) -> list[list[int]]:
    return [d.token_ids.tolist() for d in documents]


def test_the_same_seed_gives_the_same_tokens(pretrained: PretrainedModel) -> None:
    first, second, other = (
        ids(sample_documents(pretrained, PROMPTS, SamplingSettings(), seed=s)) for s in (1, 1, 2)
    )
    assert first == second
    assert first != other


def test_equal_prompts_in_one_batch_draw_differently(pretrained: PretrainedModel) -> None:
    rows = ids(sample_documents(pretrained, [PROMPTS[1]] * 4, SamplingSettings(), seed=0))
    assert len({tuple(r) for r in rows}) == 4


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_a_row_does_not_depend_on_its_neighbours(
    pretrained: PretrainedModel, guidance_scale: float
) -> None:
    settings = SamplingSettings(temperature=5, guidance_scale=guidance_scale)
    together = ids(sample_documents(pretrained, PROMPTS * 2, settings, seed=4))
    alone = ids(sample_documents(pretrained, PROMPTS * 2, settings, seed=4, batch_size=1))
    assert together == alone
    others = [PROMPTS[0], *[[Text("green green green")]] * 5]
    assert ids(sample_documents(pretrained, others, settings, seed=4))[0] == together[0]


@torch.no_grad()
def slow_reference(
    pretrained: PretrainedModel, prefix: list[int], settings: SamplingSettings, row: int, limit: int
) -> list[int]:
    """No cache, no batch, no grammar class: the whole sequence is read again for every token."""
    v, model = pretrained.vocabulary, pretrained.model
    (generator,) = row_generators(7, 1, row)
    sequence = list(prefix)

    def predict(seen: list[int], low: int, high: int, room: int) -> torch.Tensor:
        at = image_positions(seen, v.boi, (2, 2))
        logits = model.head(model(torch.tensor([seen]), positions=at)[:, -1]).double()
        if low == v.eos and room < 6:
            logits[:, v.boi] = -torch.inf
        return mask_logits(logits, torch.tensor([[low, high]]))

    while len(sequence) < limit and sequence[-1] != v.eos:
        begins = [i for i, t in enumerate(sequence) if t == v.boi]
        drawn = len(sequence) - 1 - begins[-1] if begins else 99
        low, high = (v.eos, v.size) if drawn > 4 else (v.eoi, v.eoi + 1) if drawn == 4 else (0, 16)
        log_probs = predict(sequence, low, high, limit - len(sequence))
        if drawn < 4 and settings.guidance_scale != 1:
            blind = predict([v.bos, *sequence[begins[-1] :]], low, high, 99)
            log_probs = guide(log_probs, blind, settings.guidance_scale)
        sequence.append(int(draw(log_probs, settings, [generator])))
    return sequence


@pytest.mark.parametrize("guidance_scale", [1.0, 1.0 + 1e-12, 4.0])
def test_tokens_equal_those_of_a_slow_reference(
    guidance_scale: float,
) -> None:
    eager = with_eager_images()
    v, text = eager.vocabulary, eager.text_tokenizer
    picture = [v.boi, 0, 5, 7, 15, v.eoi]
    prefixes = [
        [v.bos],
        [v.bos, *v.text_tokens(text.encode("a red square")).tolist(), v.boi],
        [v.bos, *picture, v.boi, 3, 3],
        [v.bos, *picture, *picture],
        [v.bos, *v.text_tokens(text.encode("blue")).tolist(), v.boi, 1, 2, 3, 4],
    ] * 2
    settings = SamplingSettings(temperature=8, guidance_scale=guidance_scale)
    sampled = sample_tokens(
        eager.model, eager.grammar, prefixes, settings,
        seed=7, max_tokens=48,
    )  # fmt: skip
    expected = [slow_reference(eager, p, settings, row, 48) for row, p in enumerate(prefixes)]
    assert sampled == expected
    assert max(s.count(v.boi) for s in sampled) >= 3


def with_eager_images() -> PretrainedModel:
    """The model of the fixture, but it begins an image in about every fifth draw of text."""
    made = tiny_pretrained(resolution=8, dtype=torch.float64)
    bias = torch.zeros(made.vocabulary.size, dtype=torch.float64)
    bias[made.vocabulary.boi] = 32

    def add(_module: object, _inputs: object, named: dict, logits: torch.Tensor) -> torch.Tensor:
        ids = named.get("ids") or range(len(bias))
        return logits + bias[ids.start : ids.stop]

    made.model.head.register_forward_hook(add, with_kwargs=True)
    return made


def test_guidance_one_equals_the_guided_path_at_one(pretrained: PretrainedModel) -> None:
    plain, guided = (
        ids(
            sample_documents(
                pretrained, PROMPTS, SamplingSettings(guidance_scale=s), seed=2,
                image_next=True, stop_after_visual=True,
            )
        )
        for s in (1.0, 1.0 + 1e-12)
    )  # fmt: skip
    strong = ids(
        sample_documents(
            pretrained, PROMPTS, SamplingSettings(guidance_scale=30.0), seed=2,
            image_next=True, stop_after_visual=True,
        )
    )  # fmt: skip
    assert plain == guided
    assert plain != strong
    assert plain[0] == strong[0]  # no condition: nothing to guide towards


def test_temperature_zero_needs_no_seed(pretrained: PretrainedModel) -> None:
    settings = SamplingSettings(temperature=0)
    first, second = (ids(sample_documents(pretrained, PROMPTS, settings, seed=s)) for s in (1, 9))
    assert first == second


def test_image_next_and_stop_after_visual_give_one_image_behind_the_prompt(
    pretrained: PretrainedModel,
) -> None:
    sampled = sample_documents(
        pretrained, PROMPTS, SamplingSettings(), seed=0, image_next=True, stop_after_visual=True
    )
    for prompt, document in zip(PROMPTS, sampled, strict=True):
        assert len(document.images) == sum(isinstance(s, Image) for s in prompt) + 1
        assert len(document.token_ids) == document.num_prompt_tokens + 5
        assert document.token_ids[-1] == pretrained.vocabulary.eoi
        assert not document.ended


def test_prompts_come_back_unchanged(pretrained: PretrainedModel) -> None:
    (document,) = sample_documents(
        pretrained, [PROMPTS[3]], SamplingSettings(), seed=0, max_tokens=30
    )
    assert len(document.token_ids) <= 30
    np.testing.assert_array_equal(document.segments[0].codes, PICTURE.codes)
    assert document.segments[1].text == "blue"


def test_a_prompt_without_room_is_refused(pretrained: PretrainedModel) -> None:
    with pytest.raises(TokenError, match="the image that should follow does not fit into 8"):
        sample_documents(
            pretrained, [[Text("a red square on")]], SamplingSettings(), seed=0, max_tokens=8,
            image_next=True,
        )  # fmt: skip
    with pytest.raises(TokenError, match="a continuation does not fit into 7"):
        sample_documents(pretrained, [[PICTURE]], SamplingSettings(), seed=0, max_tokens=7)


def test_guidance_without_condition_dropout_is_warned_of() -> None:
    plain = tiny_pretrained(resolution=8, condition_dropout=0.0)
    with pytest.warns(GuidanceWarning, match="trained without condition dropout"):
        sample_documents(plain, [[]], SamplingSettings(guidance_scale=2), seed=0, max_tokens=9)
    sample_documents(plain, [[]], SamplingSettings(), seed=0, max_tokens=9)


def test_progress_counts_documents(pretrained: PretrainedModel) -> None:
    seen: list[int] = []
    sample_documents(
        pretrained, PROMPTS, SamplingSettings(), seed=0, max_tokens=25, batch_size=2,
        progress=seen.append,
    )  # fmt: skip
    assert seen == [2, 4, 5]


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
def test_every_document_of_an_untrained_model_is_valid(guidance_scale: float) -> None:
    """scripts/check_grammar does the same with 10,000."""
    untrained = tiny_pretrained(resolution=8, context_length=200)
    sampled = sample_documents(
        untrained, [PROMPTS[i % len(PROMPTS)] for i in range(120)],
        SamplingSettings(temperature=5, guidance_scale=guidance_scale), seed=11, batch_size=120,
    )  # fmt: skip
    parsed = [
        parse_image_text(
            d.token_ids.tolist(), codebook_size=16, codes_per_image=4, text_size=288, limit=200
        )
        for d in sampled
    ]
    assert None not in parsed
    own = [len(d.images) for d in sampled]
    assert own == [p.num_images for p in parsed]
    assert [d.ended for d in sampled] == [p.ended for p in parsed]
    drawn = [n - sum(isinstance(s, Image) for s in PROMPTS[i % 5]) for i, n in enumerate(own)]
    assert sum(n >= 2 for n in drawn) >= 5
    assert sum(not p.ended for p in parsed) >= 5
    assert sum(p.ended for p in parsed) >= 5


def test_the_second_opinion_refuses_what_is_no_document() -> None:
    # K = 2: EOV 2, EOI 3, PAD 4, BOS 5, BOV 6, EOS 7, BOI 8, text 9..11; images of 2 codes.
    def valid(*token_ids: int) -> bool:
        parsed = parse_image_text(
            token_ids, codebook_size=2, codes_per_image=2, text_size=3, limit=9
        )
        return parsed is not None

    assert valid(5, 7)
    assert valid(5, 9, 8, 0, 1, 3, 11, 7)
    assert valid(5, 9, 8, 0, 1, 3, 9, 9, 9)
    assert not valid(5, 9, 8, 0, 1, 3, 9, 9)
    assert not valid(5, 8, 0, 3, 7)
    assert not valid(5, 8, 0, 1, 1, 3, 7)
    assert not valid(5, 0, 7)
    assert not valid(9, 7)
    assert not valid(5, 12, 7)
    assert not valid(5, 6, 7)
    assert not valid(5, 4, 7)
    assert not valid(5, 7, 4)
