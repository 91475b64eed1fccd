"""The one definition of Scorer, VideoScorer and Answerer: every judge and control speaks them.

A scorer takes grids (every image against every text) and returns matrices; higher is better. A
scorer of videos takes clips that are compared with each other. An answerer takes questions about
pictures and returns what it said, word for word. Decision rules, parsing, ties and statistics
belong to `genvlm.evaluation`, never to a scorer or an answerer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, Float64, Int64

from genvlm.data.images import RGBImage
from genvlm.data.videos import VideoFrames
from genvlm.nn.safetensors_folder import fingerprint_of

Unit = Literal["nats", "bound_nats", "reweighted_loss", "cosine", "probability", "arbitrary"]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every image against every text."""

    item_id: str
    """Stable id from the source, never a row number."""
    images: Sequence[RGBImage]
    texts: Sequence[str]


class Scores(NamedTuple):
    """Scores of one grid; higher is better."""

    values: Float64[np.ndarray, "images texts"]
    num_tokens: Int64[np.ndarray, "images texts"] | None = None
    """Tokens whose log-probabilities were added, for per-token scores."""
    samples: Float32[np.ndarray, "images texts samples"] | None = None
    """Monte Carlo draws, paired across texts: the standard error of a difference of two texts is
    std(sample differences) / sqrt(samples)."""


@dataclass(frozen=True, kw_only=True)
class ScorerInfo:
    """What a scorer or answerer is: two with equal fingerprints agree."""

    name: str
    unit: Unit
    settings: Mapping[str, object] = field(default_factory=dict)
    """Everything that changes a score: direction, normalization, alpha, dtype, model fingerprint.
    Never a path or a device."""
    label: str = ""
    """How it is shown, where the name does not tell enough; not part of the fingerprint."""

    @property
    def fingerprint(self) -> str:
        """sha256 of the canonical JSON of name, unit and settings."""
        return fingerprint_of({"name": self.name, "unit": self.unit, **self.settings})


class Scorer(Protocol):
    """Says how well each text fits each image."""

    @property
    def info(self) -> ScorerInfo: ...

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Score every grid, in order, exhaustively."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClipSet:
    """Clips that are compared with each other."""

    item_id: str
    """Stable id from the source, never a row number."""
    clips: Sequence[VideoFrames]


class Plausibility(NamedTuple):
    """How plausible each clip of a set is; higher is better."""

    values: Float64[np.ndarray, " clips"]
    latents: Float64[np.ndarray, "clips latents"] | None = None
    """What each latent frame behind the given ones adds, where scores are made of such."""


class VideoScorer(Protocol):
    """Says how plausible each clip is."""

    @property
    def info(self) -> ScorerInfo: ...

    def score(self, sets: Sequence[ClipSet]) -> list[Plausibility]:
        """Score every clip of every set, in order."""
        ...


@dataclass(frozen=True, kw_only=True)
class Question:
    """One prompt about some pictures, which an answerer continues."""

    item_id: str
    """Stable id from the source; unique among the questions of a benchmark."""
    images: Sequence[RGBImage]
    prompt: str
    """Everything that is asked, options included, as the benchmark words it."""
    max_new_tokens: int = 32


class Answer(NamedTuple):
    """What an answerer said."""

    raw_text: str
    """Word for word, without the prompt; parsing belongs to the benchmark."""
    status: Literal["ok", "refused", "failed"] = "ok"
    """failed: no text could be drawn (the prompt does not fit, the model gives NaN)."""


class Answerer(Protocol):
    """Answers questions about pictures in words."""

    @property
    def info(self) -> ScorerInfo: ...

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order."""
        ...
