"""The grammar of documents: a finite-state machine, one state per row of a batch.

START -BOS-> TEXT; TEXT -BOI-> CODES -(rows x columns codes)-> EOI -> TEXT; TEXT -BOV-> FRAMES,
where every whole frame may be followed by EOV or another frame; TEXT -EOS-> DONE (then PAD only).
It depends on syntax alone. In every state the allowed ids are one range, found by a lookup.
Rows of one batch may be in different modes.
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


class Mode(IntEnum):
    """What a row expects next."""

    START = 0
    TEXT = 1
    CODES = 2
    EOI = 3
    FRAME = 4
    FRAME_EDGE = 5
    DONE = 6


class GrammarState(NamedTuple):
    """State of every row."""

    mode: Int[Tensor, " batch"]
    frame: Int[Tensor, " batch"]
    index: Int[Tensor, " batch"]
    """Codes already seen of the current image or frame."""


class Placement(NamedTuple):
    """What the next token of each row is, if it is a code; positions are -1 otherwise."""

    modality: Int[Tensor, " batch"]
    """Modality of a code; CONTROL where control or text follows (the id decides)."""
    positions: Int[Tensor, "batch 3"]


@dataclass(frozen=True)
class Grammar:
    """Syntax of documents with images of `grid` rows and columns."""

    vocabulary: Vocabulary
    grid: tuple[int, int]

    @property
    def codes_per_image(self) -> int:
        """Codes of one image or frame."""
        return self.grid[0] * self.grid[1]

    @property
    def image_tokens(self) -> int:
        """Tokens of one image with BOI and EOI."""
        return self.codes_per_image + 2

    def start(self, batch_size: int, device: torch.device | str = "cpu") -> GrammarState:
        """Every row expects BOS."""
        zeros = torch.zeros(batch_size, dtype=torch.long, device=device)
        return GrammarState(zeros, zeros.clone(), zeros.clone())

    def allowed(self, state: GrammarState) -> Int[Tensor, "batch 2"]:
        """Per row, the first allowed id and the one behind the last."""
        return _range_table(self.vocabulary, state.mode.device)[state.mode]

    def placement(self, state: GrammarState) -> Placement:
        """Modality and (frame, row, column) of the next token."""
        coded = (state.mode == Mode.CODES) | _is_video(state.mode)
        at_edge = state.mode == Mode.FRAME_EDGE
        index = torch.where(at_edge, 0, state.index)
        positions = torch.stack([state.frame, index // self.grid[1], index % self.grid[1]], -1)
        modality = torch.full_like(state.mode, Modality.CONTROL)
        modality = torch.where(state.mode == Mode.CODES, int(Modality.IMAGE), modality)
        modality = torch.where(_is_video(state.mode), int(Modality.VIDEO), modality)
        return Placement(modality, torch.where(coded[:, None], positions, -1))

    def step(self, state: GrammarState, token_ids: Int[Tensor, " batch"]) -> GrammarState:
        """Read one token per row.

        Raises:
            TokenError: names the first row whose token its state does not allow.
        """
        v = self.vocabulary
        bounds = self.allowed(state)
        legal = (token_ids >= bounds[:, 0]) & (token_ids < bounds[:, 1])
        if not bool(legal.all()):
            row = int((~legal).nonzero()[0])
            low, high = bounds[row].tolist()
            raise TokenError(
                f"row {row}: token {int(token_ids[row])} where the grammar allows "
                f"{low}..{high - 1} (state {Mode(int(state.mode[row])).name})"
            )
        mode = state.mode
        n = self.codes_per_image
        ended_frame = (mode == Mode.FRAME_EDGE) & (token_ids == v.eov)
        is_code = (mode == Mode.CODES) | (_is_video(mode) & ~ended_frame)
        index = torch.where(is_code, torch.where(mode == Mode.FRAME_EDGE, 1, state.index + 1), 0)
        full = is_code & (index == n)
        new = torch.where(mode == Mode.START, int(Mode.TEXT), mode)
        new = torch.where(mode == Mode.EOI, int(Mode.TEXT), new)
        new = torch.where(ended_frame, int(Mode.TEXT), new)
        text = mode == Mode.TEXT
        new = torch.where(text & (token_ids == v.boi), int(Mode.CODES), new)
        new = torch.where(text & (token_ids == v.bov), int(Mode.FRAME), new)
        new = torch.where(text & (token_ids == v.eos), int(Mode.DONE), new)
        new = torch.where((mode == Mode.FRAME_EDGE) & is_code, int(Mode.FRAME), new)
        new = torch.where((mode == Mode.CODES) & full, int(Mode.EOI), new)
        new = torch.where(_is_video(mode) & full, int(Mode.FRAME_EDGE), new)
        frame = torch.where(_is_video(mode) & full, state.frame + 1, state.frame)
        frame = torch.where(_is_video(new), frame, 0)
        return GrammarState(new, frame, torch.where(full, 0, index))

    def over_budget(
        self, state: GrammarState, room: Int[Tensor, " batch"]
    ) -> Bool[Tensor, " batch"]:
        """Rows where BOI and BOV are forbidden: no whole image or frame fits into `room` tokens.

        A second mask beside `allowed`, for sampling only: likelihoods never depend on it.
        """
        return (state.mode == Mode.TEXT) & (room < self.image_tokens)

    def must_end_video(self, state: GrammarState, room: Int[Tensor, " batch"]) -> Tensor:
        """Rows at a frame's edge where another frame and its EOV no longer fit."""
        return (state.mode == Mode.FRAME_EDGE) & (room < self.codes_per_image + 1)


@lru_cache(maxsize=16)
def _range_table(v: Vocabulary, device: torch.device) -> Int[Tensor, "modes 2"]:
    text, video = v.text_state_range, v.video_range
    rows = {
        Mode.START: (v.bos, v.bos + 1),
        Mode.TEXT: (text.start, text.stop),
        Mode.CODES: (v.image_range.start, v.image_range.stop),
        Mode.EOI: (v.eoi, v.eoi + 1),
        Mode.FRAME: (video.start, video.stop),
        Mode.FRAME_EDGE: (video.start, v.eov + 1),
        Mode.DONE: (v.pad, v.pad + 1),
    }
    return torch.tensor([rows[mode] for mode in Mode], device=device)


def _is_video(mode: Tensor) -> Tensor:
    return (mode == Mode.FRAME) | (mode == Mode.FRAME_EDGE)
