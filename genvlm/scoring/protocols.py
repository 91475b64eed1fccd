"""The one definition of a Scorer: every classifier, judge and control of the project speaks it.

A scorer takes grids (every image against every text) and returns matrices; higher is better.
Decision rules, ties and statistics belong to `genvlm.evaluation`, never to a scorer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float32, Float64, Int64

from genvlm.data.images import RGBImage
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
    """What a scorer is, in enough detail that two scorers with equal fingerprints agree."""

    name: str
    unit: Unit
    settings: Mapping[str, object] = field(default_factory=dict)
    """Everything that changes a score: direction, normalization, alpha, dtype, model fingerprint.
    Never a path or a device."""

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
