"""The grammar of documents: a finite-state machine, one state per row of a batch.

START -BOS-> TEXT; TEXT -BOI-> CODES -(rows x columns codes)-> EOI -> TEXT (sized images tell rows
and columns first: HEIGHT, WIDTH); TEXT -BOV-> FRAMES, where every whole frame may be followed by
EOV or another frame; TEXT -EOS-> DONE (then PAD only).

Infilling (CM3) reads a document with gaps: sentinels of spans in text, numbers within the rows of
an image. INFILL ends it; then comes, in order, each gap's sentinel with what it stands for: a span
is text and images up to EOS, a run in a row that many codes. Sentinels of the first part and INFILL
are *given*: `step` reads them, `allowed` never offers them, so no likelihood loses mass to them.

It depends on syntax alone. In every state the allowed ids are one range, found by a lookup. Rows of
one batch may be in different modes.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from genvlm.errors import TokenError
from genvlm.tokenization.vocabulary import Modality, Vocabulary

MAX_GAPS = 256
"""Of one document, spans and runs together."""


class Mode(IntEnum):
    """What a row expects next."""

    START = 0
    TEXT = 1
    CODES = 2
    EOI = 3
    FRAME = 4
    FRAME_EDGE = 5
    DONE = 6
    HEIGHT = 7
    WIDTH = 8
    GAP = 9
    """The sentinel of the gap that is filled next."""
    GAP_CODES = 10
    END = 11
    """EOS behind the last filling, which was a run of codes."""


class GrammarState(NamedTuple):
    """State of every row."""

    mode: Int[Tensor, " batch"]
    frame: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]
    """Place of the next code in the current image or frame, row by row."""
    stop: Int[Tensor, " batch"]
    """Place behind the last code that is to come of the current image, frame or gap."""
    columns: Int[Tensor, " batch"]
    """Of the current image or frame."""
    filled: Int[Tensor, " batch"]
    """Gaps whose filling has begun; -1 before INFILL."""
    num_gaps: Int[Tensor, " batch"]
    gaps: Int[Tensor, "batch max_gaps 3"]
    """Codes missing (0: a span), place of the first one (of a span: which sentinel), columns."""


class Placement(NamedTuple):
    """What the next token of each row is, if it is a code; positions are -1 otherwise."""

    modality: Int[Tensor, " batch"]
    """Modality of a code; CONTROL where control or text follows (the id decides)."""
    positions: Int[Tensor, "batch 3"]


@dataclass(frozen=True)
class Grammar:
    """Syntax of documents with images (and frames) of `grid` rows and columns.

    With `vocabulary.sized_images` every image tells its own rows and columns.
    """

    vocabulary: Vocabulary
    grid: tuple[int, int]

    @property
    def codes_per_image(self) -> int:
        """Codes of one image or frame of the grid."""
        return self.grid[0] * self.grid[1]

    @property
    def image_tokens(self) -> int:
        """Tokens of one image with BOI and EOI; the fewest, where images are sized."""
        return 5 if self.vocabulary.sized_images else self.codes_per_image + 2

    def start(self, batch_size: int, device: torch.device | str = "cpu") -> GrammarState:
        """Every row expects BOS."""

        def full(value: int) -> Tensor:
            return torch.full((batch_size,), int(value), device=device)

        max_gaps = MAX_GAPS if self.vocabulary.num_gaps else 0
        gaps = torch.zeros(batch_size, max_gaps, 3, dtype=torch.long, device=device)
        return GrammarState(
            mode=full(Mode.START),
            frame=full(0),
            index=full(0),
            stop=full(0),
            columns=full(self.grid[1]),
            filled=full(-1),
            num_gaps=full(0),
            gaps=gaps,
        )

    def allowed(
        self, state: GrammarState, room: Int[Tensor, " batch"] | None = None
    ) -> Int[Tensor, "batch 2"]:
        """Per row, the first allowed id and the one behind the last.

        Args:
            room: tokens that still fit. For sampling only: likelihoods never depend on it. Then
                images are sized, videos ended and spans closed so that they fit.
        """
        bounds = _range_table(self.vocabulary, state.mode.device)[state.mode]
        if self.vocabulary.num_gaps:
            sentinel = self._sentinels(state)
            waiting = state.mode == Mode.GAP
            exact = torch.stack([sentinel, sentinel + 1], -1)
            bounds = torch.where(waiting[:, None], exact, bounds)
        return bounds if room is None else self._within(state, bounds, room)

    def placement(self, state: GrammarState) -> Placement:
        """Modality and (frame, row, column) of the next token."""
        mode = state.mode
        image = (mode == Mode.CODES) | (mode == Mode.GAP_CODES)
        video = _is_video(mode)
        index = torch.where(mode == Mode.FRAME_EDGE, 0, state.index)
        row = torch.div(index, state.columns, rounding_mode="floor")
        positions = torch.stack([state.frame, row, index - row * state.columns], -1)
        modality = torch.where(image, int(Modality.IMAGE), int(Modality.CONTROL))
        modality = torch.where(video, int(Modality.VIDEO), modality)
        return Placement(modality, torch.where((image | video)[:, None], positions, -1))

    def step(self, state: GrammarState, token_ids: Int[Tensor, " batch"]) -> GrammarState:
        """Read one token per row.

        Raises:
            TokenError: names the first row whose token its state does not allow.
        """
        bounds = self.allowed(state)
        legal = (token_ids >= bounds[:, 0]) & (token_ids < bounds[:, 1])
        given = self._given(state, token_ids)
        if given is not None:
            legal |= given
        if not bool(legal.all()):
            self._refuse(state, token_ids, bounds, legal)
        if given is not None and bool(given.any()):
            return choose_states(
                given, self._step_given(state, token_ids), self._step(state, token_ids)
            )
        return self._step(state, token_ids)

    def over_budget(
        self, state: GrammarState, room: Int[Tensor, " batch"]
    ) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Rows where BOI, and rows where BOV is forbidden: no whole image or frame would fit.

        A second mask beside `allowed`, for sampling only: likelihoods never depend on it.
        """
        text, free = state.mode == Mode.TEXT, self._free(state, room)
        return text & (free < self.image_tokens), text & (free < self.codes_per_image + 2)

    def _free(self, state: GrammarState, room: Tensor) -> Int[Tensor, " batch"]:
        """What is left of `room` without what fillings, the current one too, need at least."""
        return room - self._owed(state) - (state.filled >= 0).long()

    def _step(self, state: GrammarState, token_ids: Tensor) -> GrammarState:
        """One token that `allowed` offers."""
        v, mode = self.vocabulary, state.mode
        ended_frame = (mode == Mode.FRAME_EDGE) & (token_ids == v.eov)
        is_code = (mode == Mode.CODES) | (_is_video(mode) & ~ended_frame) | (mode == Mode.GAP_CODES)
        index = torch.where(is_code, torch.where(mode == Mode.FRAME_EDGE, 1, state.index + 1), 0)
        full = is_code & (index == state.stop)
        text = mode == Mode.TEXT
        begins, films = text & (token_ids == v.boi), text & (token_ids == v.bov)
        in_text = (mode == Mode.START) | (mode == Mode.EOI) | ended_frame
        new = torch.where(in_text, int(Mode.TEXT), mode)
        new = torch.where(begins, int(Mode.HEIGHT if v.sized_images else Mode.CODES), new)
        new = torch.where(films | ((mode == Mode.FRAME_EDGE) & is_code), int(Mode.FRAME), new)
        new = torch.where((text & (token_ids == v.eos)) | (mode == Mode.END), int(Mode.DONE), new)
        new = torch.where((mode == Mode.CODES) & full, int(Mode.EOI), new)
        new = torch.where(_is_video(mode) & full, int(Mode.FRAME_EDGE), new)
        frame = torch.where(_is_video(mode) & full, state.frame + 1, state.frame)
        frame = torch.where(_is_video(new), frame, 0)
        stop = torch.where(begins | films, self.codes_per_image, state.stop)
        columns = torch.where(begins | films, self.grid[1], state.columns)
        stepped = state._replace(
            mode=new, frame=frame, index=torch.where(full, 0, index), stop=stop, columns=columns
        )
        if v.sized_images:
            stepped = self._step_sizes(state, stepped, token_ids)
        return self._step_gaps(state, stepped, full) if v.num_gaps else stepped

    def _step_sizes(self, state: GrammarState, new: GrammarState, ids: Tensor) -> GrammarState:
        number = ids - self.vocabulary.number_range.start + 1
        height, width = state.mode == Mode.HEIGHT, state.mode == Mode.WIDTH
        mode = torch.where(height, int(Mode.WIDTH), new.mode)
        return new._replace(
            mode=torch.where(width, int(Mode.CODES), mode),
            stop=torch.where(height, number, torch.where(width, state.stop * number, new.stop)),
            columns=torch.where(width, number, new.columns),
        )

    def _step_gaps(self, state: GrammarState, new: GrammarState, full: Tensor) -> GrammarState:
        """Fillings: sentinels that are due, the end of one filling, the begin of the next."""
        announced = state.mode == Mode.GAP
        length, first, columns = self._due(state).unbind(-1)
        run = announced & (length > 0)
        mode = torch.where(
            announced, torch.where(run, int(Mode.GAP_CODES), int(Mode.TEXT)), new.mode
        )
        filled = state.filled + announced.long()
        more = filled < state.num_gaps
        closed = (state.filled >= 0) & (state.mode == Mode.TEXT) & (new.mode == Mode.DONE)
        run_over = (state.mode == Mode.GAP_CODES) & full
        mode = torch.where(run_over, int(Mode.END), mode)
        return new._replace(
            mode=torch.where((closed | run_over) & more, int(Mode.GAP), mode),
            filled=filled,
            index=torch.where(run, first, new.index),
            stop=torch.where(run, first + length, new.stop),
            columns=torch.where(run, columns, new.columns),
        )

    def _given(self, state: GrammarState, ids: Tensor) -> Bool[Tensor, " batch"] | None:
        """Rows whose token is no choice: a sentinel of the first part, or INFILL behind some."""
        v = self.vocabulary
        if not v.num_gaps:
            return None
        number = ids - v.number_range.start + 1
        left = state.columns - state.index % state.columns
        run = (state.mode == Mode.CODES) & (number >= 1) & (number <= v.num_numbers)
        run &= number <= left
        spans = (state.gaps[:, :, 0] == 0).sum(1) - (state.gaps.shape[1] - state.num_gaps)
        text = state.mode == Mode.TEXT
        span = text & (ids - v.gap_range.start == spans) & (spans < v.num_gaps)
        room = state.num_gaps < state.gaps.shape[1]
        return (state.filled < 0) & (
            ((run | span) & room) | (text & (ids == v.infill) & (state.num_gaps > 0))
        )

    def _step_given(self, state: GrammarState, ids: Tensor) -> GrammarState:
        v = self.vocabulary
        begun = ids == v.infill
        run = state.mode == Mode.CODES
        length = torch.where(run, ids - v.number_range.start + 1, 0)
        first = torch.where(run, state.index, ids - v.gap_range.start)
        gap = torch.stack([length, first, state.columns], -1)
        places = torch.arange(state.gaps.shape[1], device=ids.device)
        at = (places == state.num_gaps[:, None]) & ~begun[:, None]
        full = run & (state.index + length == state.stop)
        mode = torch.where(full, int(Mode.EOI), state.mode)
        return state._replace(
            mode=torch.where(begun, int(Mode.GAP), mode),
            index=torch.where(full, 0, state.index + length),
            filled=torch.where(begun, 0, state.filled),
            num_gaps=state.num_gaps + (~begun).long(),
            gaps=torch.where(at[:, :, None], gap[:, None], state.gaps),
        )

    def _due(self, state: GrammarState) -> Int[Tensor, "batch 3"]:
        """The gap that is filled next; meaningless where none is left."""
        at = state.filled.clamp(0, state.gaps.shape[1] - 1)
        return state.gaps[torch.arange(len(at), device=at.device), at]

    def _sentinels(self, state: GrammarState) -> Int[Tensor, " batch"]:
        v = self.vocabulary
        length, first, _ = self._due(state).unbind(-1)
        run = v.number_range.start + length - 1
        return torch.where(length > 0, run, v.gap_range.start + first)

    def _owed(self, state: GrammarState) -> Int[Tensor, " batch"]:
        """Tokens that the gaps behind the current one need at least, with the last EOS."""
        if not self.vocabulary.num_gaps:
            return torch.zeros_like(state.mode)
        places = torch.arange(state.gaps.shape[1], device=state.mode.device)
        left = (places >= state.filled[:, None]) & (places < state.num_gaps[:, None])
        length = state.gaps[:, :, 0]
        each = 1 + torch.where(length > 0, length, 1)
        owed = (each * left).sum(1)
        last = state.gaps[torch.arange(len(owed)), (state.num_gaps - 1).clamp(0)][:, 0]
        return torch.where(state.filled >= 0, owed + (last > 0), 0)

    def _within(self, state: GrammarState, bounds: Tensor, room: Tensor) -> Tensor:
        v = self.vocabulary

        def exactly(rows: Tensor, token_id: int, bounds: Tensor) -> Tensor:
            only = torch.tensor([token_id, token_id + 1], device=bounds.device)
            return torch.where(rows[:, None], only, bounds)

        free = self._free(state, room)
        no_frame = (state.mode == Mode.FRAME_EDGE) & (free < self.codes_per_image + 1)
        bounds = exactly(no_frame, v.eov, bounds)
        if v.num_gaps:
            closing = (state.mode == Mode.TEXT) & (state.filled >= 0)
            bounds = exactly(closing & (free <= 0), v.eos, bounds)
        if v.sized_images:
            most = torch.where(
                state.mode == Mode.HEIGHT, free - 3, (free - 2) // state.stop.clamp(min=1)
            )
            sizing = (state.mode == Mode.HEIGHT) | (state.mode == Mode.WIDTH)
            high = v.number_range.start + most.clamp(1, v.num_numbers)
            bounds = torch.stack([bounds[:, 0], torch.where(sizing, high, bounds[:, 1])], -1)
        return bounds

    def _refuse(self, state: GrammarState, ids: Tensor, bounds: Tensor, legal: Tensor) -> None:
        row = int((~legal).nonzero()[0])
        low, high = bounds[row].tolist()
        raise TokenError(
            f"row {row}: token {int(ids[row])} where the grammar allows "
            f"{low}..{high - 1} (state {Mode(int(state.mode[row])).name})"
        )


@lru_cache(maxsize=16)
def _range_table(v: Vocabulary, device: torch.device) -> Int[Tensor, "modes 2"]:
    text, video, numbers = v.text_state_range, v.video_range, v.number_range
    rows = {
        Mode.START: (v.bos, v.bos + 1),
        Mode.TEXT: (text.start, text.stop),
        Mode.CODES: (v.image_range.start, v.image_range.stop),
        Mode.EOI: (v.eoi, v.eoi + 1),
        Mode.FRAME: (video.start, video.stop),
        Mode.FRAME_EDGE: (video.start, v.eov + 1),
        Mode.DONE: (v.pad, v.pad + 1),
        Mode.HEIGHT: (numbers.start, numbers.stop),
        Mode.WIDTH: (numbers.start, numbers.stop),
        Mode.GAP: (v.pad, v.pad + 1),  # the row's own sentinel takes its place
        Mode.GAP_CODES: (v.image_range.start, v.image_range.stop),
        Mode.END: (v.eos, v.eos + 1),
    }
    return torch.tensor([rows[mode] for mode in Mode], device=device)


def choose_states(
    rows: Bool[Tensor, " batch"], yes: GrammarState, no: GrammarState
) -> GrammarState:
    """Per row, the state of `yes` where `rows` is true and that of `no` elsewhere."""
    return GrammarState(
        *(
            torch.where(rows.reshape(-1, *[1] * (a.dim() - 1)), a, b)
            for a, b in zip(yes, no, strict=True)
        )
    )


def _is_video(mode: Tensor) -> Tensor:
    return (mode == Mode.FRAME) | (mode == Mode.FRAME_EDGE)
