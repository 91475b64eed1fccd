import numpy as np
import pytest
import torch

from genvlm.errors import ConfigError, GenerationError
from genvlm.generation.interleaved import sample_documents, sample_tokens
from genvlm.generation.rows import first_nan_layer
from genvlm.generation.sampling import Draw, SamplingSettings, penalise_repetition
from genvlm.models.mixed_modal.transformer import KVCache
from genvlm.models.pretrained import PretrainedModel
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Image, Segment, Text

PICTURE = Image(np.array([[0, 5], [7, 15]]))
PROMPTS: list[list[Segment]] = [[Text("a red square")], [PICTURE, Text("blue")], [PICTURE]] * 2


@pytest.fixture(scope="module")
def pretrained() -> PretrainedModel:
    return tiny_pretrained(resolution=8, context_length=120, dtype=torch.float64)


def sampled(pretrained: PretrainedModel, settings: SamplingSettings, **options: bool) -> list:
    documents = sample_documents(pretrained, PROMPTS, settings, seed=4, **options)
    return [d.token_ids.tolist() for d in documents]


def test_text_and_images_are_drawn_by_their_own_settings(pretrained: PretrainedModel) -> None:
    """Images by the most likely code: equal prompts draw one image; texts still differ."""
    settings = SamplingSettings(temperature=0, text=Draw(temperature=5))
    rows = sampled(pretrained, settings, image_next=True)
    v = pretrained.vocabulary
    prompts = [
        len(r) for r in sampled(pretrained, settings, image_next=True, stop_after_visual=True)
    ]
    for first, second, at in zip(rows[:3], rows[3:], prompts, strict=False):
        assert first[:at] == second[:at]
    assert any(a != b for a, b in zip(rows[:3], rows[3:], strict=True))
    greedy = sampled(pretrained, SamplingSettings(temperature=5, text=Draw(temperature=0)))
    begins = [r.index(v.boi, 9) if v.boi in r[9:] else len(r) for r in greedy]
    for a, b, at in zip(greedy[:3], greedy[3:], begins, strict=False):
        assert a[:at] == b[:at]


@pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(temperature=5, guidance_scale=2.0, image_guidance_scale=1.5),
        SamplingSettings(temperature=5, contrastive_top_k=3),
        SamplingSettings(temperature=5, repetition_penalty=2.0),
    ],
    ids=["two scales", "contrastive", "penalty"],
)
def test_a_row_does_not_depend_on_its_neighbours(
    pretrained: PretrainedModel, settings: SamplingSettings
) -> None:
    alone = sample_documents(pretrained, PROMPTS, settings, seed=4, batch_size=1)
    assert sampled(pretrained, settings) == [d.token_ids.tolist() for d in alone]


def test_the_images_before_guide_by_their_own_scale(pretrained: PretrainedModel) -> None:
    """Without images before it, an image does not depend on image_guidance_scale."""
    drawn = {}
    for scale in (1.0, 8.0):
        settings = SamplingSettings(guidance_scale=2.0, image_guidance_scale=scale)
        drawn[scale] = sampled(pretrained, settings, image_next=True, stop_after_visual=True)
    assert drawn[1.0][0] == drawn[8.0][0]
    assert drawn[1.0][1] != drawn[8.0][1]
    plain = SamplingSettings(guidance_scale=1.0, image_guidance_scale=1.0)
    options = {"image_next": True, "stop_after_visual": True}
    assert sampled(pretrained, plain, **options) == sampled(
        pretrained, SamplingSettings(), **options
    )


def test_repetition_is_penalised_in_text_alone() -> None:
    log_probs = torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]).log()
    penalised = penalise_repetition(log_probs, [[0, 0], []], 2.0)
    torch.testing.assert_close(penalised[0].exp(), torch.tensor([0.25, 0.3, 0.2]))
    torch.testing.assert_close(penalised[1], log_probs[1])


def test_a_penalty_makes_greedy_text_say_new_things(pretrained: PretrainedModel) -> None:
    v = pretrained.vocabulary
    variety = []
    for penalty in (1.0, 4.0):
        settings = SamplingSettings(temperature=0, repetition_penalty=penalty)
        (row,) = sample_tokens(
            pretrained.model, pretrained.grammar, [[v.bos]], settings, seed=0, max_tokens=60
        )
        text = [i for i in row if i in v.text_range]
        variety.append(len(set(text)) / len(text))
    assert variety[1] > variety[0]


def test_a_bfloat16_cache_is_half_as_large_and_nearly_as_good() -> None:
    model = tiny_pretrained(resolution=8, context_length=120).model
    caches = [KVCache(model.config, 2, 100, dtype=d) for d in (torch.float32, torch.bfloat16)]
    sizes = [sum(t.nbytes for layer in c.layers for t in layer) for c in caches]
    assert sizes[0] == 2 * sizes[1]
    made = tiny_pretrained(resolution=8, context_length=120)
    hidden = []
    for cache in (
        KVCache(made.model.config, 1, 9, dtype=t) for t in (torch.float32, torch.bfloat16)
    ):
        positions = torch.full((1, 6, 3), -1)
        made.model(torch.tensor([[23, 40, 50, 60, 70]]), positions=positions, cache=cache)
        cache.lengths = torch.tensor([5])
        hidden.append(made.model(torch.tensor([[80]]), positions=positions[:, :2], cache=cache))
    difference = (hidden[0] - hidden[1]).abs().max().item()
    assert 0 < difference < 0.1
    settings = SamplingSettings(bfloat16_cache=True, temperature=0)
    documents = sample_documents(made, PROMPTS, settings, seed=0)
    assert all(len(d.token_ids) > d.num_prompt_tokens for d in documents)


@pytest.mark.parametrize(
    ("broken", "named"),
    [("embedding", "the embedding"), ("blocks.0.mlp.up_proj", "layer 0"),
     ("blocks.1.attention.o_proj", "layer 1"), ("norm", "the last norm"),
     ("head.proj", "the head")],
)  # fmt: skip
def test_nan_is_told_with_layer_row_and_step(broken: str, named: str) -> None:
    made = tiny_pretrained(resolution=8)
    made.model.get_submodule(broken).weight.data[...] = float("nan")
    with pytest.raises(GenerationError, match=f"row 0, step 0: {named} gives NaN"):
        sample_documents(made, PROMPTS, SamplingSettings(), seed=0)


def test_nan_later_on_is_told_with_its_step() -> None:
    """One embedding row is damaged: all is well until its token is read."""
    made = tiny_pretrained(resolution=8)
    v = made.vocabulary
    made.model.embedding.weight.data[v.image_range.start : v.image_range.stop] = float("nan")
    with pytest.raises(GenerationError, match="row 0, step 1: the embedding gives NaN"):
        sample_documents(
            made, [[Text("blue")], [Text("a red")]], SamplingSettings(guidance_scale=1.0), seed=0,
            image_next=True,
        )  # fmt: skip


def test_nan_of_a_companion_alone_is_told_with_its_layer() -> None:
    """Layer 1 fails for the companion, which has read two tokens, and not for its row."""
    made = tiny_pretrained(resolution=8)

    def fail(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        broken = output.clone()
        if len(output) == 2 or output.shape[1] == 2:
            broken[-1] = float("nan")
        return broken

    made.model.blocks[1].register_forward_hook(fail)
    settings, options = SamplingSettings(guidance_scale=2), {"seed": 0, "image_next": True}
    with pytest.raises(GenerationError, match="row 0, step 0: layer 1 gives NaN"):
        sample_documents(made, [[Text("blue")]], settings, **options)


def test_where_nothing_gives_nan_again_the_cache_is_named() -> None:
    made = tiny_pretrained(resolution=8)
    assert first_nan_layer(made.model, made.grammar, [made.vocabulary.bos]) == "the cache"


def test_the_lowest_temperature_takes_the_most_likely(pretrained: PretrainedModel) -> None:
    cold, zero = (sampled(pretrained, SamplingSettings(temperature=t)) for t in (1e-310, 0.0))
    assert cold == zero


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"guidance_scale": float("nan")}, "finite"),
        ({"image_guidance_scale": float("inf")}, "finite"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"contrastive_top_k": 0}, "contrastive_top_k is 0"),
        ({"contrastive_alpha": 0.0}, "contrastive_alpha is 0.0"),
        ({"contrastive_top_k": 3, "guidance_scale": 2.0}, "choose one of both"),
        ({"contrastive_top_k": 3, "image_guidance_scale": 2.0}, "choose one of both"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SamplingSettings(**changes)
