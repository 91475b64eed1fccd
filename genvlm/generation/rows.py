"""A batch being sampled: cache, grammar states and ids so far, one token per row and step.

Rows of one batch may be in different modes. The companions of guidance stand behind the rows, one
block for each kind.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from genvlm.errors import GenerationError
from genvlm.generation.guidance import Companion, combine, companion_prefix
from genvlm.generation.sampling import SamplingSettings, draw, mask_logits, penalise_repetition
from genvlm.models.mixed_modal.transformer import KVCache, MixedModalTransformer
from genvlm.tokenization.grammar import Grammar, GrammarState, Mode, choose_states

TEXT_ONLY, ONE_IMAGE = 0, 1
"""What a span gap takes."""
_ANY_NUMBER = -1


class Rows:
    """Documents being continued, all at once.

    Args:
        prefixes: token ids of each row's prompt, beginning with BOS.
        limit: most tokens of a row, prompt included.
        kinds: of the companions of every row.
        gap_contents: per row what its span gaps take, in order; only with infilling.
        num_latents: per row of how many latent frames the video is that its prompt has begun:
            neither fewer nor more are drawn. None: the model ends videos as it likes.
    """

    def __init__(
        self,
        model: MixedModalTransformer,
        grammar: Grammar,
        prefixes: Sequence[Sequence[int]],
        settings: SamplingSettings,
        generators: Sequence[torch.Generator],
        limit: int,
        *,
        kinds: Sequence[Companion] = (),
        gap_contents: Sequence[Sequence[int]] | None = None,
        num_latents: Sequence[int] | None = None,
    ) -> None:
        self.model, self.grammar, self.settings, self.limit = model, grammar, settings, limit
        self.generators, self.kinds = generators, kinds
        self.sequences = [list(p) for p in prefixes]
        self.num_prompt_tokens = [len(p) for p in prefixes]
        self.num = len(prefixes)
        self.device = model.embedding.weight.device
        self.finished = torch.zeros(self.num, dtype=torch.bool, device=self.device)
        self._gap_contents = gap_contents
        self._num_latents = None
        if num_latents is not None:
            self._num_latents = torch.tensor(list(num_latents), device=self.device)
        self.drawn_log_probs = torch.zeros(self.num, dtype=torch.float64, device=self.device)
        """Of the ids drawn last: what the model gave them among the allowed ones, at temperature 1
        and without guidance."""
        v = grammar.vocabulary
        read = self.sequences + [
            companion_prefix(kind, s, v) for kind in kinds for s in self.sequences
        ]
        state, positions = read_prefixes(grammar, read, self.device)
        self.state = GrammarState(*(column[: self.num] for column in state))
        self._place = grammar.placement(self.state).positions
        dtype = torch.bfloat16 if settings.bfloat16_cache else model.embedding.weight.dtype
        self.cache = KVCache(model.config, len(read), limit, dtype=dtype, device=self.device)
        padded = pad_rows(read, v.pad).to(self.device)
        hidden = model(padded, positions=positions, cache=self.cache)
        self.cache.lengths = torch.tensor([len(s) for s in read], device=self.device)
        self.hidden = hidden[torch.arange(len(read)), self.cache.lengths - 1]
        self._finish(torch.zeros_like(self.finished))

    def draw(self) -> Int[Tensor, " batch"]:
        """The next token of every row.

        Raises:
            GenerationError: the model gives NaN; names the first layer that does, row and step.
        """
        own, log_probs, low = self._log_probs()
        visual = self._drawing()
        if self.settings.repetition_penalty != 1:
            log_probs = self._penalise(log_probs, low)
        # Finished rows take what is legal: their random streams stay where they are.
        drawn, active = log_probs.argmax(-1), ~self.finished
        of_text = self.settings.text or self.settings
        for settings, rows in ((self.settings, visual & active), (of_text, ~visual & active)):
            at = rows.nonzero()[:, 0]
            if len(at):
                drawn[at] = draw(log_probs[at], settings, [self.generators[i] for i in at.tolist()])
        self.drawn_log_probs = own.gather(1, drawn[:, None])[:, 0]
        return drawn + low

    def advance(self, token_ids: Int[Tensor, " batch"], *, stop_after_visual: bool = False) -> None:
        """Append one token to every unfinished row and run the model on it."""
        v, active, before, own = self.grammar.vocabulary, ~self.finished, self.state, self._place
        stepped = self.grammar.step(before, token_ids)
        self.state = stepped if bool(active.all()) else choose_states(active, stepped, before)
        self._place = self.grammar.placement(self.state).positions
        positions = torch.stack([own, self._place], 1)
        new = zip(self.sequences, active.tolist(), token_ids.tolist(), strict=True)
        for sequence, is_active, token_id in new:
            if is_active:
                sequence.append(token_id)
        ends = (token_ids == v.eoi) | (token_ids == v.eov)
        self._finish(active & ends if stop_after_visual else ~active)
        if self._num_latents is not None:
            closed = active & (token_ids == v.eov)
            self._num_latents = self._num_latents.masked_fill(closed, _ANY_NUMBER)
        if bool(self.finished.all()):
            return
        feeding = torch.cat([active, *(self._reads(k, active, token_ids) for k in self.kinds)])
        fed = torch.where(feeding, token_ids.repeat(1 + len(self.kinds)), v.pad)
        # A row that is full has finished; its slot is clamped because the write must go somewhere.
        lengths = self.cache.lengths
        full = lengths >= self.cache.capacity
        self.cache.lengths = lengths - full.long()
        positions = positions.repeat(1 + len(self.kinds), 1, 1)
        self.hidden = self.model(fed[:, None], positions=positions, cache=self.cache)[:, 0]
        self.cache.lengths = lengths + (feeding & ~full).long()

    def _log_probs(self) -> tuple[Float[Tensor, "batch ids"], Float[Tensor, "batch ids"], int]:
        """Log-probabilities of the ids from `low` on, and scores: guided where codes are drawn."""
        v = self.grammar.vocabulary
        room = self.limit - self.cache.lengths[: self.num] - self._promised()
        bounds = self.grammar.allowed(self.state, room)
        no_image, no_video = self.grammar.over_budget(self.state, room)
        if self._gap_contents is not None:
            bounds, no_image, no_video = self._within_gaps(bounds, no_image, no_video)
        if self._num_latents is not None:
            bounds = self._at_borders(bounds, self._num_latents)
        low, high = int(bounds[:, 0].min()), int(bounds[:, 1].max())
        logits = self.model.head(self.hidden, ids=range(low, high)).double()
        self._check_finite(logits)
        for begin, forbidden in ((v.boi, no_image), (v.bov, no_video)):
            if low <= begin < high:
                logits[: self.num, begin - low].masked_fill_(forbidden, -torch.inf)
        bounds = bounds - low
        blocks = [mask_logits(block, bounds) for block in logits.split(self.num)]
        if len(blocks) == 1:
            return blocks[0], blocks[0], low
        guided = combine(blocks, self.settings)
        return blocks[0], torch.where(self._drawing()[:, None], guided, blocks[0]), low

    def _drawing(self) -> Bool[Tensor, " batch"]:
        """Rows whose next token is a code of an image or video, or ends the video instead."""
        mode = self.state.mode
        image = (mode == Mode.CODES) | (mode == Mode.GAP_CODES)
        return image | (mode == Mode.FRAME) | (mode == Mode.FRAME_EDGE)

    def _at_borders(self, bounds: Tensor, num_latents: Tensor) -> Tensor:
        """Bounds where a video has its number of latent frames (EOV) or not yet (a code)."""
        v, state = self.grammar.vocabulary, self.state
        bounds, edge = bounds.clone(), state.mode == Mode.FRAME_EDGE
        more = edge & (state.frame < num_latents)
        whole = edge & (state.frame == num_latents)
        bounds[more] = torch.tensor([v.video_range.start, v.video_range.stop], device=bounds.device)
        bounds[whole] = torch.tensor([v.eov, v.eov + 1], device=bounds.device)
        return bounds

    def _penalise(self, log_probs: Tensor, low: int) -> Tensor:
        pieces = self.grammar.vocabulary.text_range
        seen = [
            [i - low for i in sequence if i in pieces and i - low < log_probs.shape[1]]
            if mode == Mode.TEXT
            else []
            for sequence, mode in zip(self.sequences, self.state.mode.tolist(), strict=True)
        ]
        return penalise_repetition(log_probs, seen, self.settings.repetition_penalty)

    def _reads(self, kind: Companion, active: Tensor, token_ids: Tensor) -> Bool[Tensor, " batch"]:
        """Rows whose companion reads this token; a blind one forgets all where a visual begins."""
        v = self.grammar.vocabulary
        if kind is Companion.IMAGES:
            return active & (token_ids < v.text_range.start)
        begins = active & ((token_ids == v.boi) | (token_ids == v.bov))
        block = self.kinds.index(kind) + 1
        mine = slice(block * self.num, (block + 1) * self.num)
        lengths = self.cache.lengths.clone()
        lengths[mine] = torch.where(begins, 1, lengths[mine])
        self.cache.lengths = lengths
        mode = self.state.mode
        sizing = (mode == Mode.HEIGHT) | (mode == Mode.WIDTH)
        video = (mode == Mode.FRAME) | (mode == Mode.FRAME_EDGE)
        return active & (begins | sizing | video | (mode == Mode.CODES))

    def _promised(self) -> Int[Tensor, " batch"]:
        """Tokens that gaps still to come need beyond what the grammar knows of."""
        promised = torch.zeros(self.num, dtype=torch.long, device=self.device)
        if self._gap_contents is None:
            return promised
        least = {TEXT_ONLY: 1, ONE_IMAGE: self.grammar.image_tokens}
        state = self.state
        spans = (state.gaps[:, :, 0] == 0).cumsum(1)
        begun = spans.gather(1, (state.filled - 1).clamp(0)[:, None])[:, 0] * (state.filled > 0)
        for row, (contents, n) in enumerate(zip(self._gap_contents, begun.tolist(), strict=True)):
            promised[row] = sum(least[c] for c in contents[n:])
        return promised

    def _within_gaps(
        self, bounds: Tensor, no_image: Tensor, no_video: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Bounds where a gap is filled whose content is known: text, or one image."""
        v = self.grammar.vocabulary
        bounds, no_image, no_video = bounds.clone(), no_image.clone(), no_video.clone()
        assert self._gap_contents is not None
        filling = (self.state.mode == Mode.TEXT) & (self.state.filled > 0)
        for row in filling.nonzero()[:, 0].tolist():
            last = self.sequences[row][-1]
            gap = self.state.gaps[row, self.state.filled[row] - 1, 1]
            content = self._gap_contents[row][int(gap)]
            empty = last in v.gap_range
            no_video[row] = True
            no_image[row] = content == TEXT_ONLY
            if content == TEXT_ONLY:
                if empty and bounds[row, 1] > v.text_range.start:
                    bounds[row, 0] = v.text_range.start
            else:
                only = v.boi if empty else v.eos
                bounds[row] = torch.tensor([only, only + 1], device=bounds.device)
        return bounds, no_image, no_video

    def _check_finite(self, logits: Tensor) -> None:
        if not bool(logits.isnan().any()):
            return
        block, row = divmod(int(logits.isnan().any(-1).nonzero()[0]), self.num)
        sequence = self.sequences[row]
        step = len(sequence) - self.num_prompt_tokens[row]
        if block:
            sequence = companion_prefix(self.kinds[block - 1], sequence, self.grammar.vocabulary)
        where = first_nan_layer(self.model, self.grammar, sequence)
        raise GenerationError(
            f"row {row}, step {step}: {where} gives NaN, so that nothing can be drawn: the weights "
            "are damaged, or overflow in this precision"
        )

    def _finish(self, also: Tensor) -> None:
        full = [len(s) >= self.limit for s in self.sequences]
        self.finished = self.finished | also | (self.state.mode == Mode.DONE)
        if any(full):
            self.finished |= torch.tensor(full, device=self.device)


@torch.no_grad()
def first_nan_layer(model: MixedModalTransformer, grammar: Grammar, sequence: Sequence[int]) -> str:
    """Name of the first part of the model whose output holds NaN on this sequence."""
    found: list[str] = []
    parts: dict[str, nn.Module] = {"the embedding": model.embedding}
    parts |= {f"layer {i}": block for i, block in enumerate(model.blocks)}
    parts["the last norm"] = model.norm

    def watch(name: str):  # type: ignore[no-untyped-def]
        return lambda module, inputs, output: (
            found.append(name) if bool(output.isnan().any()) else None
        )

    hooks = [part.register_forward_hook(watch(name)) for name, part in parts.items()]
    try:
        _, positions = read_prefixes(grammar, [sequence], model.embedding.weight.device)
        token_ids = torch.tensor([list(sequence)], device=model.embedding.weight.device)
        if bool(model.head(model(token_ids, positions=positions)[:, -1]).isnan().any()):
            found.append("the head")
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else "the cache"


def read_prefixes(
    grammar: Grammar, sequences: Sequence[Sequence[int]], device: torch.device
) -> tuple[GrammarState, Int[Tensor, "batch longest+1 3"]]:
    """States behind the sequences; positions of their tokens and of the one that follows."""
    lengths = torch.tensor([len(s) for s in sequences], device=device)
    state = grammar.start(len(sequences), device)
    positions = []
    for t, column in enumerate(pad_rows(sequences, grammar.vocabulary.pad).to(device).T):
        positions.append(grammar.placement(state).positions)
        reading = t < lengths
        # A row that has been read to its end takes the step of a document that is done.
        done = state._replace(mode=torch.full_like(state.mode, Mode.DONE))
        stepped = grammar.step(choose_states(reading, state, done), column)
        state = choose_states(reading, stepped, state)
    positions.append(grammar.placement(state).positions)
    return state, torch.stack(positions, 1)


def pad_rows(sequences: Sequence[Sequence[int]], pad: int) -> Int[Tensor, "batch longest"]:
    """Sequences as one matrix, padded on the right."""
    longest = max(len(s) for s in sequences)
    return torch.tensor([[*s, *[pad] * (longest - len(s))] for s in sequences])
