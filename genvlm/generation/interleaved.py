"""Sampling of whole documents: text, images and videos are continued under the grammar."""

import warnings
from collections.abc import Callable, Iterator, Sequence

import torch

from genvlm.errors import GuidanceWarning, TokenError
from genvlm.generation.guidance import companions
from genvlm.generation.rows import Rows
from genvlm.generation.sampled import SampledDocument, sampled_document
from genvlm.generation.sampling import SamplingSettings, row_generators
from genvlm.generation.stream import Event, run, run_with_events
from genvlm.models.mixed_modal.transformer import MixedModalTransformer
from genvlm.models.pretrained import PretrainedModel, check_visual, find_video_tokenizer
from genvlm.tokenization.document import Document, Segment, Text, encode_document
from genvlm.tokenization.grammar import Grammar


@torch.inference_mode()
def sample_documents(
    pretrained: PretrainedModel,
    prompts: Sequence[Sequence[Segment]],
    settings: SamplingSettings,
    *,
    seed: int,
    max_tokens: int | None = None,
    image_next: bool = False,
    video_next: int | None = None,
    stop_after_visual: bool = False,
    batch_size: int = 50,
    progress: Callable[[int], None] = lambda done: None,
) -> list[SampledDocument]:
    """Continue each prompt until EOS or `max_tokens`.

    Args:
        max_tokens: of prompt and continuation together; the model's context by default.
        image_next: begin with an image right behind the prompt.
        video_next: begin with a video of so many latent frames instead.
        stop_after_visual: end a row after its first image or video.

    Raises:
        TokenError: a prompt leaves no room, or a model without video is to draw one.
        ConfigError: a model of text alone is to draw.
        GenerationError: the model gives NaN.
    """
    warn_if_unguided(pretrained, settings)
    prefixes, limit = _encode_prompts(pretrained, prompts, image_next, video_next, max_tokens)
    documents: list[SampledDocument] = []
    for start in range(0, len(prefixes), batch_size):
        part = prefixes[start : start + batch_size]
        rows = _rows(
            pretrained.model, pretrained.grammar, part, settings, seed, limit, start, video_next
        )
        sequences = run(rows, stop_after_visual=stop_after_visual)
        documents += [
            sampled_document(pretrained, sequence, len(prefix))
            for sequence, prefix in zip(sequences, part, strict=True)
        ]
        progress(len(documents))
    return documents


def stream_documents(
    pretrained: PretrainedModel,
    prompts: Sequence[Sequence[Segment]],
    settings: SamplingSettings,
    *,
    seed: int,
    max_tokens: int | None = None,
    image_next: bool = False,
    video_next: int | None = None,
    stop_after_visual: bool = False,
) -> Iterator[Event]:
    """The same in one batch, as events while it is sampled.

    Raises:
        TokenError, ConfigError, GenerationError: as `sample_documents`.
    """
    warn_if_unguided(pretrained, settings)
    prefixes, limit = _encode_prompts(pretrained, prompts, image_next, video_next, max_tokens)
    model, grammar = pretrained.model, pretrained.grammar
    with torch.no_grad():
        rows = _rows(model, grammar, prefixes, settings, seed, limit, 0, video_next)
    return run_with_events(rows, pretrained, stop_after_visual=stop_after_visual)


@torch.inference_mode()
def sample_tokens(
    model: MixedModalTransformer,
    grammar: Grammar,
    prefixes: Sequence[Sequence[int]],
    settings: SamplingSettings,
    *,
    seed: int,
    max_tokens: int,
) -> list[list[int]]:
    """Token ids of each prefix (which begins with BOS) and its continuation."""
    return run(_rows(model, grammar, prefixes, settings, seed, max_tokens, 0))


def warn_if_unguided(pretrained: PretrainedModel, settings: SamplingSettings) -> None:
    """A GuidanceWarning for guidance of a model that was trained without condition dropout."""
    if settings.guided and pretrained.condition_dropout == 0:
        warnings.warn(
            "this model was trained without condition dropout: it never learned images without "
            "their text, so that guidance steers away from something arbitrary; scale 1 is safe",
            GuidanceWarning,
            stacklevel=3,
        )


def _rows(
    model: MixedModalTransformer,
    grammar: Grammar,
    prefixes: Sequence[Sequence[int]],
    settings: SamplingSettings,
    seed: int,
    limit: int,
    first_row: int,
    num_latents: int | None = None,
) -> Rows:
    return Rows(
        model,
        grammar,
        prefixes,
        settings,
        row_generators(seed, len(prefixes), first_row),
        limit,
        kinds=companions(settings, infilling=False),
        num_latents=None if num_latents is None else [num_latents] * len(prefixes),
    )


def _encode_prompts(
    pretrained: PretrainedModel,
    prompts: Sequence[Sequence[Segment]],
    image_next: bool,
    video_next: int | None,
    max_tokens: int | None,
) -> tuple[list[list[int]], int]:
    """Token ids of the prompts, and the most tokens of a row."""
    limit = max_tokens or pretrained.model.config.context_length
    v, grammar = pretrained.vocabulary, pretrained.grammar
    if image_next or video_next is not None:
        check_visual(pretrained)
    begins, needed, what = list[int](), 1, "a continuation"
    if image_next:
        begins, needed, what = [v.boi], grammar.image_tokens - 1, "the image that should follow"
    elif video_next is not None:
        if v.video is None:
            raise TokenError("this model has no video codebook: it draws no videos")
        needed = video_next * grammar.codes_per_image + 1
        begins, what = [v.bov], f"the video of {video_next} latent frames that should follow"
    prefixes = []
    for prompt in prompts:
        encoded = encode_document(
            Document(id="prompt", segments=prompt), v, pretrained.text_tokenizer, grid=grammar.grid
        )
        prefix = [*encoded.token_ids.tolist()[:-1], *begins]
        if len(prefix) + needed > limit:
            texts = " ".join(s.text for s in prompt if isinstance(s, Text))
            mend = "shorten it"
            if video_next is not None:
                mend = _video_that_fits(pretrained, limit - len(prefix) - 1)
            raise TokenError(
                f"the prompt {texts[:40]!r} has {len(prefix)} tokens and {what} does not fit into "
                f"{limit}: {mend}"
            )
        prefixes.append(prefix)
    return prefixes, limit


def _video_that_fits(pretrained: PretrainedModel, num_codes: int) -> str:
    """What to do about a video that has no more room than this."""
    most = num_codes // pretrained.grammar.codes_per_image
    if most < 1:
        return "shorten it, not even one frame fits"
    frames = find_video_tokenizer(pretrained).config.num_frames(most)
    return f"ask for {frames} frames, or fewer, or shorten it"
