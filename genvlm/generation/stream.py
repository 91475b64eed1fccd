"""Events of documents while they are sampled: text, and visuals that begin, grow and end."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int

from genvlm.generation.rows import Rows
from genvlm.generation.sampled import SampledDocument, sampled_document
from genvlm.models.pretrained import PretrainedModel
from genvlm.tokenization.grammar import Mode

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class TextPiece:
    """Text that one row goes on with."""

    row: int
    text: str


@dataclass(frozen=True)
class ImageStarted:
    """A row begins an image."""

    row: int
    num_codes: int


@dataclass(frozen=True)
class ImageProgress:
    """Another code of the row's image."""

    row: int
    num_drawn: int
    num_codes: int


@dataclass(frozen=True, eq=False)
class ImageDone:
    """A row's image is whole."""

    row: int
    codes: Int[np.ndarray, "rows columns"]


@dataclass(frozen=True)
class VideoStarted:
    """A row begins a video."""

    row: int


@dataclass(frozen=True)
class VideoProgress:
    """Another latent frame of the row's video is whole."""

    row: int
    num_latents: int


@dataclass(frozen=True, eq=False)
class VideoDone:
    """A row's video is whole."""

    row: int
    codes: Int[np.ndarray, "latents rows columns"]


@dataclass(frozen=True, eq=False)
class DocumentDone:
    """A row has ended, by EOS or at its limit."""

    row: int
    document: SampledDocument


Event = (
    TextPiece | ImageStarted | ImageProgress | ImageDone
    | VideoStarted | VideoProgress | VideoDone | DocumentDone
)  # fmt: skip


@torch.inference_mode()
def run(rows: Rows, *, stop_after_visual: bool = False) -> list[list[int]]:
    """Sample every row to its end; token ids of prompts and continuations."""
    while not bool(rows.finished.all()):
        rows.advance(rows.draw(), stop_after_visual=stop_after_visual)
    return rows.sequences


@torch.no_grad()
def run_with_events(
    rows: Rows, pretrained: PretrainedModel, *, stop_after_visual: bool = False
) -> Iterator[Event]:
    """The same, telling what happens in every row; codes are told only when they are whole."""
    watchers = [_Watcher(row, pretrained, sequence) for row, sequence in enumerate(rows.sequences)]
    for row, watcher in enumerate(watchers):
        if int(rows.state.mode[row]) == Mode.CODES:  # the prompt ends within an image
            yield watcher.start(int(rows.state.stop[row] - rows.state.index[row]))
        elif int(rows.state.mode[row]) == Mode.FRAME:
            yield VideoStarted(row)
    while not bool(rows.finished.all()):
        active = (~rows.finished).nonzero()[:, 0].tolist()
        rows.advance(rows.draw(), stop_after_visual=stop_after_visual)
        modes, stops = rows.state.mode.tolist(), rows.state.stop.tolist()
        for row in active:
            yield from watchers[row].read(Mode(modes[row]), stops[row], rows.state.columns[row])
            if rows.finished[row]:
                yield from watchers[row].finish_text()
                num_prompt = rows.num_prompt_tokens[row]
                yield DocumentDone(
                    row, sampled_document(pretrained, rows.sequences[row], num_prompt)
                )


class _Watcher:
    """What one row has said and drawn since it was last asked."""

    def __init__(self, row: int, pretrained: PretrainedModel, sequence: list[int]) -> None:
        self._row, self._pretrained, self._sequence = row, pretrained, sequence
        self._pieces: list[int] = []
        self._told = ""
        self._num_drawn = self._num_codes = 0

    def read(self, mode: Mode, stop: int, columns: torch.Tensor) -> Iterator[Event]:
        """Events of the newest token; `mode` is what the row expects behind it."""
        v, token_id = self._pretrained.vocabulary, self._sequence[-1]
        if token_id in v.text_range:
            yield from self._tell_text(token_id)
            return
        yield from self.finish_text()
        if token_id == v.bov:
            yield VideoStarted(self._row)
        elif mode is Mode.FRAME_EDGE:
            yield VideoProgress(self._row, len(self._frames()))
        elif token_id == v.eov:
            yield VideoDone(self._row, self._frames())
        elif mode is Mode.FRAME:
            return
        elif mode is Mode.CODES and token_id not in v.image_range:
            yield self.start(stop)
        elif token_id in v.image_range:
            self._num_drawn += 1
            yield ImageProgress(self._row, self._num_drawn, self._num_codes)
        elif token_id == v.eoi:
            yield ImageDone(self._row, self._codes(int(columns)))

    def start(self, num_codes: int) -> ImageStarted:
        """An image of which so many codes are to come."""
        self._num_drawn, self._num_codes = 0, num_codes
        return ImageStarted(self._row, num_codes)

    def finish_text(self) -> Iterator[TextPiece]:
        """What was held back of a run of text that has ended."""
        if self._pieces:
            yield from self._tell(self._pretrained.text_tokenizer.decode(self._pieces))
        self._pieces, self._told = [], ""

    def _tell_text(self, token_id: int) -> Iterator[TextPiece]:
        self._pieces += self._pretrained.vocabulary.text_pieces(np.array([token_id]))
        text = self._pretrained.text_tokenizer.decode(self._pieces)
        if not text.endswith(_UNFINISHED):  # the first bytes of a character
            yield from self._tell(text)

    def _tell(self, text: str) -> Iterator[TextPiece]:
        piece, self._told = text[len(self._told) :], text
        if piece:
            yield TextPiece(self._row, piece)

    def _frames(self) -> np.ndarray:
        """Codes of the video that was begun last."""
        v, grid = self._pretrained.vocabulary, self._pretrained.grammar.grid
        begin = len(self._sequence) - self._sequence[::-1].index(v.bov)
        codes = [i for i in self._sequence[begin:] if i in v.video_range]
        return v.video_codes(np.asarray(codes)).reshape(-1, *grid)

    def _codes(self, columns: int) -> np.ndarray:
        v = self._pretrained.vocabulary
        begin = len(self._sequence) - 1 - self._sequence[::-1].index(v.boi)
        codes = [i for i in self._sequence[begin:] if i in v.image_range]
        return v.image_codes(np.asarray(codes)).reshape(-1, columns)
