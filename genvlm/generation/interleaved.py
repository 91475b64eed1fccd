"""Sampling of whole documents: a prompt of text and images is continued under the grammar."""

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
from genvlm.models.pretrained import PretrainedModel
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
    stop_after_visual: bool = False,
    batch_size: int = 50,
    progress: Callable[[int], None] = lambda done: None,
) -> list[SampledDocument]:
    """Continue each prompt until EOS or `max_tokens`.

    Args:
        max_tokens: of prompt and continuation together; the model's context by default.
        image_next: begin with an image right behind the prompt.
        stop_after_visual: end a row after its first image.

    Raises:
        TokenError: a prompt leaves no room.
        GenerationError: the model gives NaN.
    """
    warn_if_unguided(pretrained, settings)
    prefixes, limit = _encode_prompts(pretrained, prompts, image_next, max_tokens)
    documents: list[SampledDocument] = []
    for start in range(0, len(prefixes), batch_size):
        part = prefixes[start : start + batch_size]
        rows = _rows(pretrained.model, pretrained.grammar, part, settings, seed, limit, start)
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
    stop_after_visual: bool = False,
) -> Iterator[Event]:
    """The same in one batch, as events while it is sampled.

    Raises:
        TokenError, GenerationError: as `sample_documents`.
    """
    warn_if_unguided(pretrained, settings)
    prefixes, limit = _encode_prompts(pretrained, prompts, image_next, max_tokens)
    with torch.no_grad():
        rows = _rows(pretrained.model, pretrained.grammar, prefixes, settings, seed, limit, 0)
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
) -> Rows:
    return Rows(
        model,
        grammar,
        prefixes,
        settings,
        row_generators(seed, len(prefixes), first_row),
        limit,
        kinds=companions(settings, infilling=False),
    )


def _encode_prompts(
    pretrained: PretrainedModel,
    prompts: Sequence[Sequence[Segment]],
    image_next: bool,
    max_tokens: int | None,
) -> tuple[list[list[int]], int]:
    """Token ids of the prompts, and the most tokens of a row."""
    limit = max_tokens or pretrained.model.config.context_length
    return [_encode_prompt(pretrained, p, image_next, limit) for p in prompts], limit


def _encode_prompt(
    pretrained: PretrainedModel, prompt: Sequence[Segment], image_next: bool, limit: int
) -> list[int]:
    v, grammar = pretrained.vocabulary, pretrained.grammar
    encoded = encode_document(
        Document(id="prompt", segments=prompt), v, pretrained.text_tokenizer, grid=grammar.grid
    )
    prefix = [*encoded.token_ids.tolist()[:-1], *([v.boi] if image_next else [])]
    needed = len(prefix) + (grammar.image_tokens - 1 if image_next else 1)
    if needed > limit:
        what = "the image that should follow" if image_next else "a continuation"
        texts = " ".join(s.text for s in prompt if isinstance(s, Text))
        raise TokenError(
            f"the prompt {texts[:40]!r} has {len(prefix)} tokens and {what} does not fit into "
            f"{limit}: shorten it"
        )
    return prefix
