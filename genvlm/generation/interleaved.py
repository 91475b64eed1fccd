"""Sampling of whole documents under the grammar; rows of one batch may be in different modes.

With guidance every row has a twin behind the batch that has read nothing but BOS and the image
being drawn: the model without its condition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from genvlm.errors import ConfigError, TokenError
from genvlm.generation.sampling import (
    SamplingSettings,
    draw,
    guide,
    mask_logits,
    row_generators,
)
from genvlm.models.mixed_modal.transformer import KVCache, MixedModalTransformer
from genvlm.models.pretrained import PretrainedModel
from genvlm.tokenization.document import (
    Document,
    Image,
    Segment,
    Text,
    decode_document,
    encode_document,
)
from genvlm.tokenization.grammar import Grammar, GrammarState, Mode


@dataclass(frozen=True, eq=False)
class SampledDocument:
    """A document that was continued from its prompt."""

    token_ids: Int[np.ndarray, " tokens"]
    segments: Sequence[Segment]
    num_prompt_tokens: int
    ended: bool
    """False when it ran into the token limit before its EOS."""

    @property
    def images(self) -> list[Int[np.ndarray, "rows columns"]]:
        """Codes of all its images."""
        return [s.codes for s in self.segments if isinstance(s, Image)]


def sample_documents(
    pretrained: PretrainedModel,
    prompts: Sequence[Sequence[Segment]],
    settings: SamplingSettings,
    *,
    seed: int,
    max_tokens: int | None = None,
    image_next: bool = False,
    stop_after_image: bool = False,
    batch_size: int = 50,
    progress: Callable[[int], None] = lambda done: None,
) -> list[SampledDocument]:
    """Continue each prompt until EOS or `max_tokens`.

    Args:
        max_tokens: of prompt and continuation together; the model's context by default.
        image_next: begin with an image right behind the prompt.
        stop_after_image: end a row after its first image.

    Raises:
        TokenError: a prompt leaves no room.
        ConfigError: guidance with a model that was trained without condition dropout.
    """
    if settings.guidance_scale != 1 and pretrained.condition_dropout == 0:
        raise ConfigError(
            "this model was trained without condition dropout and knows no p(image) to guide "
            "against: set guidance_scale to 1"
        )
    context = pretrained.model.config.context_length
    limit = context if max_tokens is None else max_tokens
    prefixes = [_encode_prompt(pretrained, p, image_next, limit) for p in prompts]
    documents: list[SampledDocument] = []
    for start in range(0, len(prefixes), batch_size):
        part = prefixes[start : start + batch_size]
        rows = _sample_batch(
            pretrained.model,
            pretrained.grammar,
            part,
            settings,
            row_generators(seed, len(part), start),
            limit,
            stop_after_image,
        )
        documents += [
            _document(pretrained, row, len(prefix)) for row, prefix in zip(rows, part, strict=True)
        ]
        progress(len(documents))
    return documents


@torch.no_grad()
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
    generators = row_generators(seed, len(prefixes))
    return _sample_batch(model, grammar, prefixes, settings, generators, max_tokens, False)


@torch.no_grad()
def _sample_batch(
    model: MixedModalTransformer,
    grammar: Grammar,
    prefixes: Sequence[Sequence[int]],
    settings: SamplingSettings,
    generators: list[torch.Generator],
    limit: int,
    stop_after_image: bool,
) -> list[list[int]]:
    rows = _Rows(model, grammar, prefixes, limit, guided=settings.guidance_scale != 1)
    while not bool(rows.finished.all()):
        log_probs = rows.log_probs(settings.guidance_scale)
        token_ids = draw(log_probs, settings, generators)
        rows.advance(token_ids, stop_after_image)
    return rows.sequences


class _Rows:
    """A batch being sampled: cache, grammar states and the ids so far."""

    def __init__(
        self,
        model: MixedModalTransformer,
        grammar: Grammar,
        prefixes: Sequence[Sequence[int]],
        limit: int,
        *,
        guided: bool,
    ) -> None:
        self.model, self.grammar, self.limit = model, grammar, limit
        self.sequences = [list(p) for p in prefixes]
        self.num = len(prefixes)
        self.twins = self.num if guided else 0
        self.device = model.embedding.weight.device
        self.finished = torch.zeros(self.num, dtype=torch.bool, device=self.device)
        self.cache = KVCache(
            model.config, self.num + self.twins, limit,
            dtype=model.embedding.weight.dtype, device=self.device,
        )  # fmt: skip
        read = self.sequences
        if guided:
            # A twin has read BOS, and BOI when the prompt ends in the middle of an image's begin.
            read = read + [self._twin_prefix(s) for s in self.sequences]
        state, positions = _read(grammar, read, self.device)
        self.state = GrammarState(*(column[: self.num] for column in state))
        lengths = torch.tensor([len(s) for s in read], device=self.device)
        padded = _pad(read, grammar.vocabulary.pad).to(self.device)
        hidden = model(padded, positions=positions, cache=self.cache)
        self.cache.lengths = lengths
        self.hidden = hidden[torch.arange(len(read), device=self.device), lengths - 1]
        self._finish(torch.zeros_like(self.finished))

    def log_probs(self, guidance_scale: float) -> Tensor:
        """Log-probabilities of the next token of each row, over what its state allows."""
        bounds = self.grammar.allowed(self.state)
        logits = self.model.head(self.hidden).double()
        conditional = logits[: self.num]
        room = self.limit - self.cache.lengths[: self.num]
        v = self.grammar.vocabulary
        forbidden = self.grammar.over_budget(self.state, room)
        for begin in (v.boi, v.bov):
            conditional[:, begin].masked_fill_(forbidden, -torch.inf)
        ending = self.grammar.must_end_video(self.state, room)
        bounds = torch.where(
            ending[:, None], torch.tensor([v.eov, v.eov + 1], device=self.device), bounds
        )
        log_probs = mask_logits(conditional, bounds)
        if not self.twins:
            return log_probs
        unconditional = mask_logits(logits[self.num :], bounds)
        guided = guide(log_probs, unconditional, guidance_scale)
        drawing = self.state.mode == Mode.CODES
        return torch.where(drawing[:, None], guided, log_probs)

    def advance(self, token_ids: Tensor, stop_after_image: bool) -> None:
        """Append one token to every unfinished row and run the model on it."""
        pad = self.grammar.vocabulary.pad
        active = ~self.finished
        own = self.grammar.placement(self.state).positions
        stepped = self.grammar.step(self.state, token_ids)
        self.state = _choose(active, stepped, self.state)
        positions = torch.stack([own, self.grammar.placement(self.state).positions], 1)
        for row in active.nonzero()[:, 0].tolist():
            self.sequences[row].append(int(token_ids[row]))
        fed, advancing = torch.where(active, token_ids, pad), active
        if self.twins:
            begins = token_ids == self.grammar.vocabulary.boi
            in_image = active & (begins | (self.state.mode == Mode.CODES))
            lengths = self.cache.lengths.clone()
            lengths[self.num :] = torch.where(begins & active, 1, lengths[self.num :])
            self.cache.lengths = lengths
            fed = torch.cat([fed, torch.where(in_image, token_ids, pad)])
            advancing = torch.cat([active, in_image])
            positions = positions.repeat(2, 1, 1)
        ended_image = active & (token_ids == self.grammar.vocabulary.eoi)
        self._finish(ended_image if stop_after_image else torch.zeros_like(active))
        if bool(self.finished.all()):
            return
        # A row that is full has finished; its slot is clamped because the write must go somewhere.
        full = self.cache.lengths >= self.cache.capacity
        self.cache.lengths = self.cache.lengths - full.long()
        self.hidden = self.model(fed[:, None], positions=positions, cache=self.cache)[:, 0]
        self.cache.lengths = self.cache.lengths + (advancing & ~full).long() + full.long()

    def _finish(self, also: Tensor) -> None:
        lengths = torch.tensor([len(s) for s in self.sequences], device=self.device)
        self.finished |= also | (self.state.mode == Mode.DONE) | (lengths >= self.limit)

    def _twin_prefix(self, sequence: list[int]) -> list[int]:
        v = self.grammar.vocabulary
        if v.boi in sequence and v.eoi not in sequence[_last(sequence, v.boi) :]:
            return [v.bos, *sequence[_last(sequence, v.boi) :]]
        return [v.bos]


def _read(
    grammar: Grammar, sequences: Sequence[Sequence[int]], device: torch.device
) -> tuple[GrammarState, Int[Tensor, "batch longest+1 3"]]:
    """States behind the sequences; positions of their tokens and of the one that follows."""
    lengths = torch.tensor([len(s) for s in sequences], device=device)
    state = grammar.start(len(sequences), device)
    positions = []
    for t, column in enumerate(_pad(sequences, grammar.vocabulary.pad).to(device).T):
        positions.append(grammar.placement(state).positions)
        reading = t < lengths
        # A row that has been read to its end takes the step of a document that is done.
        done = GrammarState(torch.full_like(state.mode, Mode.DONE), state.frame, state.index)
        stepped = grammar.step(_choose(reading, state, done), column)
        state = _choose(reading, stepped, state)
    positions.append(grammar.placement(state).positions)
    return state, torch.stack(positions, 1)


def _choose(rows: Tensor, yes: GrammarState, no: GrammarState) -> GrammarState:
    return GrammarState(*(torch.where(rows, a, b) for a, b in zip(yes, no, strict=True)))


def _pad(sequences: Sequence[Sequence[int]], pad: int) -> Int[Tensor, "batch longest"]:
    longest = max(len(s) for s in sequences)
    return torch.tensor([[*s, *[pad] * (longest - len(s))] for s in sequences])


def _last(sequence: list[int], token_id: int) -> int:
    return len(sequence) - 1 - sequence[::-1].index(token_id)


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


def _document(pretrained: PretrainedModel, row: list[int], num_prompt: int) -> SampledDocument:
    token_ids = np.asarray(row)
    v = pretrained.vocabulary
    segments = decode_document(
        token_ids, v, pretrained.text_tokenizer, grid=pretrained.grammar.grid
    )
    return SampledDocument(token_ids, segments, num_prompt, ended=bool(row[-1] == v.eos))
