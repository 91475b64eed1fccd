"""Rollout: a video is continued in token space, latent frame by latent frame.

What is drawn is read again as codes, never through pixels. While the video fits the context the
model goes on behind its cache; later each latent frame is drawn behind a window that keeps the
first latent frame and the latest ones (`genvlm.tokenization.windows`), read anew as a document of
its own. Scoring reads the same windows, so that what is drawn at temperature 1 has the probability
that scoring gives it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from genvlm.errors import ConfigError, TokenError
from genvlm.generation.guidance import companions
from genvlm.generation.interleaved import warn_if_unguided
from genvlm.generation.rows import Rows
from genvlm.generation.sampling import SamplingSettings, row_generators
from genvlm.models.pretrained import PretrainedModel
from genvlm.tokenization.document import Document, Segment, Text, Video, encode_document
from genvlm.tokenization.windows import frames_that_fit, window_frames

Latents = np.ndarray
"""Codes of a video, (latent frames, rows, columns)."""


@dataclass(frozen=True, eq=False)
class Rollout:
    """A context and the latent frames that were drawn behind it."""

    codes: Latents
    """Of both."""
    log_probs: Float64[np.ndarray, "drawn rows columns"]
    """Of the drawn codes in nats under the model, at temperature 1 and without guidance, whatever
    they were drawn with; among the codes of the codebook, as the length was asked for."""

    @property
    def num_context(self) -> int:
        """Latent frames that were given."""
        return len(self.codes) - len(self.log_probs)


@torch.inference_mode()
def roll_out(
    pretrained: PretrainedModel,
    contexts: Sequence[Latents],
    settings: SamplingSettings,
    *,
    num_latents: int,
    seed: int,
    texts: Sequence[str | None] | None = None,
    batch_size: int = 50,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Rollout]:
    """Continue each context by `num_latents` latent frames.

    A context is drawn alike whatever stands beside it: its random stream is that of its number.

    Args:
        contexts: at least one latent frame each; a picture is one, where both codebooks are one.
        texts: a caption in front of each video.
        progress: is called with latent frames drawn and to be drawn, of all contexts together.

    Raises:
        ConfigError: no latent frame to draw.
        TokenError: a model without video, codes of another grid or codebook, or a text that leaves
            no room for a window.
        GenerationError: the model gives NaN.
    """
    if num_latents < 1:
        raise ConfigError(f"num_latents is {num_latents}: ask for at least one latent frame")
    warn_if_unguided(pretrained, settings)
    texts = texts if texts is not None else [None] * len(contexts)
    videos = [
        _Video(pretrained, context, text, num_latents)
        for context, text in zip(contexts, texts, strict=True)
    ]
    generators = row_generators(seed, len(videos))
    total, done = num_latents * len(videos), 0
    for start in range(0, len(videos), batch_size):
        part = slice(start, start + batch_size)
        left = list(zip(videos[part], generators[part], strict=True))
        while left:
            done += _draw_window(pretrained, left, settings)
            left = [(video, generator) for video, generator in left if video.num_left]
            progress(done, total)
    return [video.result() for video in videos]


class _Video:
    """One context and what was drawn behind it so far."""

    def __init__(
        self, pretrained: PretrainedModel, context: Latents, text: str | None, num_latents: int
    ) -> None:
        self._pretrained = pretrained
        self._opening: list[Segment] = [Text(text)] if text is not None else []
        if len(context) == 0:
            raise TokenError("a context has no latent frame: give it at least one")
        self.codes = [np.asarray(latent, np.int64) for latent in context]
        self.log_probs: list[Float64[np.ndarray, "rows columns"]] = []
        self.num_left = num_latents
        num_opening = len(self.prefix([0])) - 2 - self.codes[0].size
        self._most = frames_that_fit(
            pretrained.model.config.context_length, num_opening, self.codes[0].size
        )
        window_frames(len(context) + num_latents - 1, self._most)  # refused before work is spent

    def window(self) -> tuple[Sequence[int], int]:
        """The latent frames that are read next, and how many are then drawn behind them."""
        at = len(self.codes)
        return window_frames(at, self._most), min(max(1, self._most - at), self.num_left)

    def prefix(self, frames: Sequence[int]) -> list[int]:
        """`BOS text BOV codes` of these latent frames."""
        p = self._pretrained
        video = Video(np.stack([self.codes[i] for i in frames]))
        document = Document(id="video", segments=[*self._opening, video])
        encoded = encode_document(document, p.vocabulary, p.text_tokenizer, grid=p.grammar.grid)
        return encoded.token_ids[:-2].tolist()  # without EOV EOS

    def add(self, token_ids: np.ndarray, log_probs: np.ndarray) -> None:
        """Take what was drawn: whole latent frames."""
        grid = self._pretrained.grammar.grid
        codes = self._pretrained.vocabulary.video_codes(token_ids).reshape(-1, *grid)
        self.codes += list(codes)
        self.log_probs += list(log_probs.reshape(-1, *grid))
        self.num_left -= len(codes)

    def result(self) -> Rollout:
        return Rollout(np.stack(self.codes), np.stack(self.log_probs))


def _draw_window(
    pretrained: PretrainedModel,
    videos: Sequence[tuple[_Video, torch.Generator]],
    settings: SamplingSettings,
) -> int:
    """Draw what each video can draw behind one window; returns how many latent frames."""
    windows = [video.window() for video, _ in videos]
    prefixes = [v.prefix(read) for (v, _), (read, _) in zip(videos, windows, strict=True)]
    size = pretrained.grammar.codes_per_image
    num_codes = [num * size for _, num in windows]
    rows = Rows(
        pretrained.model,
        pretrained.grammar,
        prefixes,
        settings,
        [generator for _, generator in videos],
        # EOV ends a row.
        max(len(p) + n + 1 for p, n in zip(prefixes, num_codes, strict=True)),
        kinds=companions(settings, infilling=False),
        num_latents=[len(read) + num for read, num in windows],
    )
    log_probs = []
    while not bool(rows.finished.all()):
        token_ids = rows.draw()
        log_probs.append(rows.drawn_log_probs)
        rows.advance(token_ids, stop_after_visual=True)
    columns = torch.stack(log_probs, 1).cpu().numpy()
    for row, ((video, _), n) in enumerate(zip(videos, num_codes, strict=True)):
        begin = len(prefixes[row])
        video.add(np.asarray(rows.sequences[row][begin : begin + n]), columns[row, :n])
    return sum(num for _, num in windows)
