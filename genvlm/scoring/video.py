"""How surprising a clip is: log-probabilities of the codes of its latent frames, in nats.

log p(later latent frames | text, first latent frames) adds up code tokens alone, given the forced
BOV. Where a latent frame could begin the grammar also allows EOV; as for pictures, whose size is
given, it is given that the video goes on. So with normalization `grammar` every code competes with
the codes of videos alone, and all clips of one length sum to 1. `vocabulary` is the raw softmax.
It is the probability of codes, not of pixels.

A video that is longer than the context is read through a window (`tokenization/windows.py`): each
latent frame follows from the first one and from the latest that fit.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from genvlm.errors import TokenError, VideoError
from genvlm.models.pretrained import PretrainedModel, find_video_tokenizer
from genvlm.scoring.autoregressive import Likelihood, Normalization
from genvlm.tokenization.document import EncodedDocument, Segment, Text, Video
from genvlm.tokenization.vocabulary import Modality
from genvlm.tokenization.windows import frames_that_fit, window_frames

VideoCodes = np.ndarray
"""Codes of one clip, (latent frames, rows, columns)."""


class VideoScore(NamedTuple):
    """Log-probabilities of the codes of one clip."""

    log_probs: Float[np.ndarray, "latents rows columns"]
    """NaN in the latent frames that were given, and wherever the model gives NaN."""
    normalization: Normalization
    context: int
    """Latent frames that were given."""

    @property
    def frames(self) -> Float64[np.ndarray, " latents"]:
        """Of whole latent frames, added in float64; NaN where given."""
        sums: Float64[np.ndarray, " latents"] = self.log_probs.astype(np.float64).sum((1, 2))
        return sums

    @property
    def total(self) -> float:
        """log p in nats; NaN where the model gives NaN."""
        return float(self.frames[self.context :].sum())


class _Reading(NamedTuple):
    """One document of a clip, and which of its latent frames it says the probability of."""

    document: EncodedDocument
    scored: Bool[np.ndarray, " tokens"]
    frames: slice


def score_video(
    pretrained: PretrainedModel,
    videos: Sequence[VideoCodes],
    *,
    context: int,
    texts: Sequence[str | None] | None = None,
    normalization: Normalization = "grammar",
    tokens_per_batch: int | None = None,
) -> list[VideoScore]:
    """log p of every code behind the first `context` latent frames of each clip.

    Args:
        context: latent frames that are given; 0 scores the first one as well.
        texts: what stands in front of each clip, such as a caption; None: nothing.

    Raises:
        VideoError: a clip has no latent frame behind the context.
        TokenError: a text leaves no room for frames, or codes of another tokenizer.
        ConfigError: the model has no video tokenizer.
    """
    find_video_tokenizer(pretrained)
    likelihood = Likelihood(pretrained, normalization)
    if tokens_per_batch is not None:
        likelihood = Likelihood(pretrained, normalization, tokens_per_batch)
    readings: list[_Reading] = []
    owners: list[int] = []
    for number, (codes, text) in enumerate(
        zip(videos, texts if texts is not None else [None] * len(videos), strict=True)
    ):
        if not 0 <= context < len(codes):
            raise VideoError(
                f"clip {number + 1} of {len(videos)} has {len(codes)} latent frames, and {context} "
                "are given: nothing is left to score; take a longer clip or give fewer"
            )
        found = list(_readings(likelihood, np.asarray(codes), context, text))
        readings += found
        owners += [number] * len(found)
    scored = likelihood.score_tokens(
        [r.document for r in readings],
        [r.scored for r in readings],
        pretrained.grammar.vocabulary.video_range,
    )
    results: list[np.ndarray | None] = [None] * len(videos)
    for owner, reading, log_probs in zip(owners, readings, scored, strict=True):
        shape = np.shape(videos[owner])
        whole = results[owner]
        if whole is None:
            whole = results[owner] = np.full(shape, np.nan, log_probs.dtype)
        whole[reading.frames] = log_probs.reshape(-1, *shape[1:])
    return [VideoScore(found, normalization, context) for found in results if found is not None]


def _readings(
    likelihood: Likelihood, codes: VideoCodes, context: int, text: str | None
) -> Iterator[_Reading]:
    """All that fits at once; behind that, one document a latent frame."""
    p = likelihood.pretrained
    before: list[Segment] = [] if text is None else [Text(text)]
    num_text = 0 if text is None else len(p.text_tokenizer.encode(text))
    most = frames_that_fit(p.model.config.context_length, num_text, p.grammar.codes_per_image)
    if most == 0:
        raise TokenError(
            f"the context of {p.model.config.context_length} tokens leaves no room for a latent "
            f"frame of {p.grammar.codes_per_image} codes behind {num_text} tokens of text: "
            "shorten the text"
        )
    if context < most:
        stop = min(most, len(codes))
        yield _read(likelihood, [*before, Video(codes[:stop])], context, slice(context, stop))
    for frame in range(max(most, context), len(codes)):
        read = [*window_frames(frame, most), frame]
        segments = [*before, Video(codes[read])]
        yield _read(likelihood, segments, len(read) - 1, slice(frame, frame + 1))


def _read(
    likelihood: Likelihood, segments: Sequence[Segment], given: int, frames: slice
) -> _Reading:
    # EOV and EOS, behind the last code, are neither scored nor read.
    document = EncodedDocument(*(column[:-2] for column in likelihood.encode(segments)))
    scored = (document.modality == Modality.VIDEO) & (document.positions[:, 0] >= given)
    return _Reading(document, scored, frames)
