"""Likelihoods of the mixed-modal transformer, in nats, higher is better.

log p(image | text) adds up code tokens alone, given the forced BOI; EOI contributes 0.
log p(text | image) adds up text pieces and the ending EOS. p(text) is of the canonical
segmentation, p(image) of codes, not of pixels. Per-token values are float32 (float64 for a float64
model), totals float64.

Normalization `grammar` is the softmax over the ids that the state allows: what sampling draws from
at temperature 1, so that all images of one size sum to 1. `vocabulary` is the raw softmax.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import logsumexp
from torch import Tensor

from genvlm.data.images import RGBImage
from genvlm.errors import ConfigError, EvaluationError
from genvlm.models.pretrained import PretrainedModel
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.tokenization.document import Document, EncodedDocument, Image, Text, encode_document
from genvlm.tokenization.vocabulary import Modality

Normalization = Literal["grammar", "vocabulary"]
Direction = Literal["image_given_text", "text_given_image"]
Codes = np.ndarray
"""Codes of one picture, (rows, columns)."""

# Tokens of one forward pass: enough to keep two cores busy, small enough for a laptop.
_TOKENS_PER_BATCH = 8192
# Images over which a model averages that never learned p(text).
_UNRELATED = 8


class TokenScores(NamedTuple):
    """Log-probabilities of the scored tokens of one sequence."""

    log_probs: Float[np.ndarray, " tokens"]
    normalization: Normalization

    @property
    def total(self) -> float:
        """log p in nats, added in float64."""
        return float(self.log_probs.astype(np.float64).sum())


@dataclass(frozen=True)
class Likelihood:
    """Scores texts and images under one model."""

    pretrained: PretrainedModel
    normalization: Normalization = "grammar"
    tokens_per_batch: int = _TOKENS_PER_BATCH

    def score_image_given_text(
        self, pairs: Sequence[tuple[Codes, str | None]]
    ) -> list[TokenScores]:
        """log p(image | text) of each pair; text None gives log p(image)."""
        sequences = [
            self._encode([*([Text(text)] if text is not None else []), Image(codes)])
            for codes, text in pairs
        ]
        return self._score(sequences, [s.modality == Modality.IMAGE for s in sequences])

    def score_text_given_image(
        self, pairs: Sequence[tuple[Codes | None, str]]
    ) -> list[TokenScores]:
        """log p(text | image) of each pair; image None gives log p(text)."""
        sequences = [
            self._encode([*([Image(codes)] if codes is not None else []), Text(text)])
            for codes, text in pairs
        ]
        eos = self.pretrained.vocabulary.eos
        masks = [(s.modality == Modality.TEXT) | (s.token_ids == eos) for s in sequences]
        return self._score(sequences, masks)

    def _encode(self, segments: Sequence[Text | Image]) -> EncodedDocument:
        p = self.pretrained
        shown = next((s.text for s in segments if isinstance(s, Text)), "image")
        return encode_document(
            Document(id=shown[:60], segments=segments),
            p.vocabulary,
            p.text_tokenizer,
            grid=p.grammar.grid,
            max_tokens=p.model.config.context_length,
        )

    def _score(
        self, sequences: Sequence[EncodedDocument], masks: Sequence[np.ndarray]
    ) -> list[TokenScores]:
        results: list[TokenScores | None] = [None] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].token_ids))
        for part in _batches(order, [len(s.token_ids) for s in sequences], self.tokens_per_batch):
            scored = self._score_batch([sequences[i] for i in part], [masks[i] for i in part])
            for i, log_probs in zip(part, scored, strict=True):
                results[i] = TokenScores(log_probs, self.normalization)
        return [r for r in results if r is not None]

    @torch.no_grad()
    def _score_batch(
        self, sequences: Sequence[EncodedDocument], masks: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        model, vocabulary = self.pretrained.model, self.pretrained.vocabulary
        longest = max(len(s.token_ids) for s in sequences)
        token_ids = torch.full((len(sequences), longest), vocabulary.pad)
        positions = torch.full((len(sequences), longest, 3), -1)
        chosen = torch.zeros(len(sequences), longest, dtype=torch.bool)
        for row, (sequence, mask) in enumerate(zip(sequences, masks, strict=True)):
            token_ids[row, : len(mask)] = torch.from_numpy(sequence.token_ids)
            positions[row, : len(mask)] = torch.from_numpy(sequence.positions).long()
            chosen[row, : len(mask)] = torch.from_numpy(mask)
        # Padding stands on the right, behind everything that a causal model reads.
        hidden = model(token_ids[:, :-1], positions=positions)
        targets, wanted = token_ids[:, 1:], chosen[:, 1:]
        scored = model.head(hidden[wanted], targets[wanted], self._bounds(targets[wanted]))
        counts = [int(m.sum()) for m in masks]
        return [part.numpy() for part in scored.log_prob.split(counts)]

    def _bounds(self, targets: Tensor) -> Tensor | None:
        """Allowed ids by what is scored: codes compete with codes, text with the text state."""
        if self.normalization == "vocabulary":
            return None
        v = self.pretrained.vocabulary
        is_code = (targets < v.image_range.stop)[:, None]
        return torch.where(
            is_code,
            torch.tensor([v.image_range.start, v.image_range.stop]),
            torch.tensor([v.text_state_range.start, v.text_state_range.stop]),
        )


class LikelihoodScorer:
    """Scorer by one direction; with alpha, minus alpha times the unconditional log-probability.

    alpha 1 gives pointwise mutual information, up to a constant: a text without an image may go on
    with one, so log p(text) includes the chance that it ends. Fix alpha in advance or choose it on
    validation.

    Raises:
        ConfigError: alpha with a model that was trained without condition dropout.
    """

    def __init__(
        self,
        pretrained: PretrainedModel,
        direction: Direction,
        *,
        alpha: float = 0.0,
        normalization: Normalization = "grammar",
    ) -> None:
        if alpha and pretrained.condition_dropout == 0:
            raise ConfigError(
                f"alpha {alpha:g} subtracts a probability without condition, and this model was "
                "trained without condition dropout: set alpha to 0"
            )
        self._likelihood = Likelihood(pretrained, normalization)
        self._direction, self._alpha = direction, alpha
        self._codes = CodeCache(pretrained)
        self.info = ScorerInfo(
            name=f"log p({direction.replace('_given_', ' | ')})"
            + (f" - {alpha:g} log p({direction.split('_')[0]})" if alpha else ""),
            unit="nats",
            settings={
                "kind": "mixed_modal",
                "direction": direction,
                "alpha": alpha,
                "normalization": normalization,
                "reduction": "sum",
                "preprocessing": "fit to a white square",
                "dtype": str(pretrained.model.embedding.weight.dtype),
                "model": pretrained.fingerprint,
            },
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Exhaustive; all sequences of all grids share batches."""
        cells = [
            (image, text)
            for grid in grids
            for image in self._codes.encode(grid.images)
            for text in grid.texts
        ]
        if self._direction == "image_given_text":
            scored = self._likelihood.score_image_given_text(cells)
        else:
            scored = self._likelihood.score_text_given_image(cells)
        totals = np.array([s.total for s in scored])
        counts = np.array([len(s.log_probs) for s in scored])
        if self._alpha:
            totals = totals - self._alpha * self._unconditional(cells)
        return _as_grids(grids, totals, counts)

    def _unconditional(self, cells: Sequence[tuple[Codes, str]]) -> np.ndarray:
        if self._direction == "text_given_image":
            texts = sorted({text for _, text in cells})
            scored = self._likelihood.score_text_given_image([(None, t) for t in texts])
            by_text = {t: s.total for t, s in zip(texts, scored, strict=True)}
            return np.array([by_text[text] for _, text in cells])
        images = {codes.tobytes(): codes for codes, _ in cells}
        scored = self._likelihood.score_image_given_text([(c, None) for c in images.values()])
        by_image = {key: s.total for key, s in zip(images, scored, strict=True)}
        return np.array([by_image[codes.tobytes()] for codes, _ in cells])


class BlindScorer:
    """Control: the same model on the texts alone; every image of a grid gets the same row.

    log p(text) where the model has learned it (condition dropout); otherwise the mean probability,
    log(mean(p(text | image))), over 8 images of other grids.
    """

    def __init__(self, pretrained: PretrainedModel) -> None:
        self._likelihood = Likelihood(pretrained)
        self._codes = CodeCache(pretrained)
        self._unconditional = pretrained.condition_dropout > 0
        given = "" if self._unconditional else f" over {_UNRELATED} other images"
        self.info = ScorerInfo(
            name=f"blind log p(text){given}",
            unit="nats",
            settings={"kind": "mixed_modal", "model": pretrained.fingerprint},
        )

    def score(self, grids: Sequence[Grid]) -> list[Scores]:
        """Rows are equal within a grid. Raises EvaluationError: no image of another grid."""
        if not self._unconditional:
            return [self._over_others(grid, grids) for grid in grids]
        texts = sorted({text for grid in grids for text in grid.texts})
        scored = self._likelihood.score_text_given_image([(None, text) for text in texts])
        by_text = {t: s.total for t, s in zip(texts, scored, strict=True)}
        return [Scores(np.array([[by_text[t] for t in g.texts]] * len(g.images))) for g in grids]

    def _over_others(self, grid: Grid, grids: Sequence[Grid]) -> Scores:
        own = self._codes.encode(grid.images)
        others = [g.images[0] for g in grids if g.item_id != grid.item_id and len(g.images)]
        codes = [c for c in self._codes.encode(others) if not any((c == o).all() for o in own)]
        if not codes:
            raise EvaluationError(
                f"item {grid.item_id!r}: the blind control of a model without condition dropout "
                "needs images of other items"
            )
        begin = int.from_bytes(hashlib.sha256(grid.item_id.encode()).digest()[:4], "big")
        drawn = [codes[(begin + k) % len(codes)] for k in range(min(_UNRELATED, len(codes)))]
        pairs = [(c, t) for t in grid.texts for c in drawn]
        scored = self._likelihood.score_text_given_image(pairs)
        totals = np.array([s.total for s in scored]).reshape(len(grid.texts), len(drawn))
        row = logsumexp(totals, axis=1) - np.log(len(drawn))
        return Scores(np.tile(row, (len(grid.images), 1)))


class CodeCache:
    """Encodes pictures, each distinct one once."""

    def __init__(self, pretrained: PretrainedModel) -> None:
        self._tokenizer = pretrained.image_tokenizer
        self._codes: dict[str, Codes] = {}

    def encode(self, images: Sequence[RGBImage]) -> list[Codes]:
        """Codes of pictures of any size."""
        keys = [f"{i.shape}|{hashlib.sha256(i.tobytes()).hexdigest()}" for i in images]
        new = {k: image for k, image in zip(keys, images, strict=True) if k not in self._codes}
        self._codes.update(zip(new, self._tokenizer.encode(list(new.values())), strict=True))
        return [self._codes[key] for key in keys]


def _as_grids(grids: Sequence[Grid], totals: np.ndarray, counts: np.ndarray) -> list[Scores]:
    results, at = [], 0
    for grid in grids:
        shape = (len(grid.images), len(grid.texts))
        part = slice(at, at + shape[0] * shape[1])
        results.append(Scores(totals[part].reshape(shape), counts[part].reshape(shape)))
        at = part.stop
    return results


def _batches(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Runs of similar length whose padded size stays within the budget."""
    batches: list[list[int]] = []
    for i in order:
        if batches and (len(batches[-1]) + 1) * lengths[i] <= budget:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches
