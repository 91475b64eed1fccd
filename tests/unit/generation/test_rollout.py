"""Rollout: what is drawn has the probability that scoring gives it, in one window and behind it."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from genvlm.errors import ConfigError, TokenError
from genvlm.generation.rollout import Rollout, roll_out
from genvlm.generation.sampling import Draw, SamplingSettings
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.video import score_video
from genvlm.testing.tiny import tiny_pretrained
from genvlm.tokenization.document import Document, Video, encode_document
from genvlm.tokenization.vocabulary import Vocabulary

TEXT = "a red square"
WIDE = SamplingSettings(temperature=3.0)


def contexts(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.integers(0, 16, (n, 2, 2)) for n in lengths]


@pytest.fixture(scope="module", params=[False, True], ids=["one codebook", "two codebooks"])
def pretrained(request: pytest.FixtureRequest) -> PretrainedModel:
    """With 2x2 codes a frame, 9 latent frames fit without a text."""
    return tiny_pretrained(
        resolution=8, context_length=40, video=True, own_video_codes=request.param,
        dtype=torch.float64,
    )  # fmt: skip


def test_what_is_drawn_has_the_probability_that_scoring_gives_it(
    pretrained: PretrainedModel,
) -> None:
    """The first context stays within one window, the second slides, the third begins behind it."""
    for length, num, text in ((2, 5, None), (2, 12, TEXT), (11, 2, None)):
        (rollout,) = roll_out(
            pretrained, contexts(length), WIDE, num_latents=num, seed=1, texts=[text]
        )
        score = score_video(pretrained, [rollout.codes], context=length, texts=[text])[0]
        assert rollout.log_probs.shape == (num, 2, 2)
        assert np.abs(rollout.log_probs - score.log_probs[length:]).max() < 1e-9
        assert rollout.log_probs.sum() == pytest.approx(score.total)


def test_a_context_comes_back_in_front_of_what_was_drawn(pretrained: PretrainedModel) -> None:
    given = contexts(1, 3)
    for rollout, context in zip(
        roll_out(pretrained, given, WIDE, num_latents=4, seed=0), given, strict=True
    ):
        assert np.array_equal(rollout.codes[: len(context)], context)
        assert (rollout.num_context, len(rollout.codes)) == (len(context), len(context) + 4)


def test_a_row_depends_neither_on_its_neighbours_nor_on_the_size_of_the_batch(
    pretrained: PretrainedModel,
) -> None:
    """The neighbours have texts and contexts of other lengths, so that they slide sooner."""
    given, texts = contexts(2, 9, 4, 1), [TEXT, None, "blue", None]
    options = {"num_latents": 9, "seed": 3, "texts": texts}
    together = roll_out(pretrained, given, WIDE, **options)
    alone = roll_out(pretrained, given, WIDE, batch_size=1, **options)
    assert [r.codes.tolist() for r in together] == [r.codes.tolist() for r in alone]
    for a, b in zip(together, alone, strict=True):
        assert np.allclose(a.log_probs, b.log_probs)


def test_equal_contexts_go_on_differently_and_a_seed_repeats_them(
    pretrained: PretrainedModel,
) -> None:
    def draw(seed: int) -> list[list]:
        rollouts = roll_out(pretrained, contexts(2) * 3, WIDE, num_latents=3, seed=seed)
        return [r.codes.tolist() for r in rollouts]

    first = draw(0)
    assert first == draw(0) != draw(1)
    assert first[0] != first[1] != first[2]


def test_a_video_never_ends_before_its_length_even_where_the_model_wants_it_to(
    pretrained: PretrainedModel,
) -> None:
    eager = _that_ends_videos(pretrained)
    (rollout,) = roll_out(eager, contexts(2), WIDE, num_latents=9, seed=0)
    assert len(rollout.codes) == 11
    assert np.isfinite(rollout.log_probs).all()


def test_probabilities_of_codes_sum_to_one_also_where_a_frame_begins(
    pretrained: PretrainedModel,
) -> None:
    """The most likely code of each place: its probability is that among codes alone."""
    eager = _that_ends_videos(pretrained)
    context = contexts(2)[0]
    (rollout,) = roll_out(eager, [context], SamplingSettings(temperature=0), num_latents=1, seed=0)
    v = eager.vocabulary
    encoded = encode_document(
        Document(id="c", segments=[Video(context)]), v, eager.text_tokenizer, grid=(2, 2)
    )
    with torch.no_grad():
        hidden = eager.model(
            torch.from_numpy(encoded.token_ids[None, :-2]),
            positions=torch.from_numpy(encoded.positions[None, :-1]).long(),
        )
        logits = eager.model.head(hidden[0, -1:], ids=range(v.size))[0]
    expected = _over_codes(logits, v).log_softmax(-1).amax()
    assert rollout.log_probs[0, 0, 0] == pytest.approx(float(expected))


def test_log_probs_are_of_the_model_whatever_the_codes_were_drawn_with(
    pretrained: PretrainedModel,
) -> None:
    settings = SamplingSettings(temperature=0.7, top_k=3, guidance_scale=2.0)
    (rollout,) = roll_out(pretrained, contexts(2), settings, num_latents=9, seed=1, texts=[TEXT])
    score = score_video(pretrained, [rollout.codes], context=2, texts=[TEXT])[0]
    assert np.abs(rollout.log_probs - score.log_probs[2:]).max() < 1e-9


def test_guidance_leads_away_from_what_would_be_drawn_without_the_text(
    pretrained: PretrainedModel,
) -> None:
    """At temperature 0 the codes drawn are those of largest u + s (c - u), found by scoring."""
    given, scale = contexts(2), 3.0
    greedy = SamplingSettings(temperature=0, guidance_scale=scale)
    (rollout,) = roll_out(pretrained, given, greedy, num_latents=1, seed=0, texts=[TEXT])
    best: dict[str, list[int]] = {"guided": [], "not": []}
    for place in np.ndindex(2, 2):
        codes = np.repeat(rollout.codes[None], 16, 0)
        codes[(slice(None), 2, *place)] = np.arange(16)
        with_text, without = (
            np.array([s.log_probs[(2, *place)] for s in score_video(
                pretrained, list(codes), context=2, texts=[text] * 16
            )])
            for text in (TEXT, None)
        )  # fmt: skip
        best["guided"].append(int(np.argmax(without + scale * (with_text - without))))
        best["not"].append(int(np.argmax(with_text)))
    assert best["guided"] == rollout.codes[2].ravel().tolist() != best["not"]


def test_codes_of_videos_are_drawn_by_the_settings_of_images(pretrained: PretrainedModel) -> None:
    settings = SamplingSettings(temperature=3, text=Draw(temperature=0))
    first, second = roll_out(pretrained, contexts(2) * 2, settings, num_latents=1, seed=0)
    assert (first.codes != second.codes).any()


def test_progress_counts_latent_frames_of_all_contexts(pretrained: PretrainedModel) -> None:
    told: list[tuple[int, int]] = []
    roll_out(
        pretrained, contexts(7, 7, 2), WIDE, num_latents=4, seed=0, batch_size=2,
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[-1] == (12, 12)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) > 2


@pytest.mark.parametrize(
    ("given", "options", "error", "said"),
    [
        (contexts(2), {"num_latents": 0}, ConfigError, "at least one latent frame"),
        (contexts(0), {}, TokenError, "no latent frame"),
        ([np.full((2, 2, 2), 99)], {}, TokenError, "expected video codes 0..15"),
        ([np.zeros((2, 3, 3), int)], {}, TokenError, "3x3 codes"),
        (contexts(2), {"texts": ["a red square on a white page " * 2]}, TokenError, "shorten"),
    ],
)
def test_what_cannot_be_continued_is_named(
    pretrained: PretrainedModel,
    given: Sequence[np.ndarray],
    options: dict,
    error: type[Exception],
    said: str,
) -> None:
    with pytest.raises(error, match=said):
        roll_out(pretrained, given, WIDE, **{"num_latents": 2, "seed": 0} | options)


def test_a_model_without_video_says_so() -> None:
    without = tiny_pretrained(resolution=8, context_length=40)
    with pytest.raises(TokenError, match="no video codebook"):
        roll_out(without, contexts(1), WIDE, num_latents=1, seed=0)


def _that_ends_videos(pretrained: PretrainedModel) -> PretrainedModel:
    """The model with a head that prefers EOV by far wherever the last norm has its sign."""
    changed = tiny_pretrained(
        resolution=8, context_length=40, video=True,
        own_video_codes=not pretrained.vocabulary.video_shares_image, dtype=torch.float64,
    )  # fmt: skip
    weight = changed.model.head.proj.weight
    weight[changed.vocabulary.eov] = 30 * weight[: changed.vocabulary.video_range.stop].mean(0)
    return changed


def _over_codes(logits: torch.Tensor, v: Vocabulary) -> torch.Tensor:
    return logits[v.video_range.start : v.video_range.stop]


def test_a_rollout_knows_how_much_was_given() -> None:
    rollout = Rollout(np.zeros((5, 2, 2), int), np.zeros((3, 2, 2)))
    assert rollout.num_context == 2
