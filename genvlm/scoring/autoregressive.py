"""Likelihoods of the mixed-modal transformer, in nats, higher is better.

log p(image | text) adds up code tokens alone, given the forced BOI; EOI contributes 0.
log p(text | image) adds up text pieces and the ending EOS. p(text) is of the canonical
segmentation, p(image) of codes, not of pixels. Per-token values are float32 (float64 for a float64
model), totals float64.

Normalization `grammar` is the softmax over the ids that the state allows: what sampling draws from
at temperature 1, so that all images of one size sum to 1. `vocabulary` is the raw softmax.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from genvlm.data.images import RGBImage, image_digest
from genvlm.errors import ConfigError
from genvlm.models.mixed_modal.transformer import KVCache
from genvlm.models.pretrained import PretrainedModel
from genvlm.nn.layers import LayerCache
from genvlm.scoring.protocols import Grid, ScorerInfo, Scores
from genvlm.tokenization.document import (
    Document,
    EncodedDocument,
    Image,
    Segment,
    Text,
    encode_document,
)
from genvlm.tokenization.vocabulary import Modality

Normalization = Literal["grammar", "vocabulary"]
Direction = Literal["image_given_text", "text_given_image"]
Reduction = Literal["sum", "mean"]
Codes = np.ndarray
"""Codes of one picture, (rows, columns)."""

# Tokens of one forward pass: enough to keep two cores busy, small enough for a laptop.
_TOKENS_PER_BATCH = 8192
# Attention scores of texts over their image in one layer: 16 MB of float32.
_SCORES_PER_BATCH = 2**22


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
            self.encode([*([Text(text)] if text is not None else []), Image(codes)])
            for codes, text in pairs
        ]
        # EOI and EOS, behind the last code, are neither scored nor read.
        sequences = [EncodedDocument(*(column[:-2] for column in s)) for s in sequences]
        masks = [s.modality == Modality.IMAGE for s in sequences]
        scored = self.score_tokens(sequences, masks, self.pretrained.grammar.vocabulary.image_range)
        return [TokenScores(log_probs, self.normalization) for log_probs in scored]

    def score_text_given_image(
        self, pairs: Sequence[tuple[Codes | None, str]]
    ) -> list[TokenScores]:
        """log p(text | image) of each pair; image None gives log p(text).

        Every distinct image is read once: all its texts attend to the same keys and values.
        """
        sequences = [
            self.encode([*([Image(codes)] if codes is not None else []), Text(text)])
            for codes, text in pairs
        ]
        v = self.pretrained.grammar.vocabulary
        alone = [i for i, (codes, _) in enumerate(pairs) if codes is None]
        shared = [i for i, (codes, _) in enumerate(pairs) if codes is not None]
        texts = [sequences[i] for i in alone]
        masks = [(s.modality == Modality.TEXT) | (s.token_ids == v.eos) for s in texts]
        scored = dict(zip(alone, self.score_tokens(texts, masks, v.text_state_range), strict=True))
        behind = self._score_behind_images([sequences[i] for i in shared])
        scored |= dict(zip(shared, behind, strict=True))
        return [TokenScores(scored[i], self.normalization) for i in range(len(pairs))]

    def encode(self, segments: Sequence[Segment]) -> EncodedDocument:
        """A document of these segments. Raises TokenError: longer than the context."""
        p = self.pretrained
        shown = next((s.text for s in segments if isinstance(s, Text)), "image")
        return encode_document(
            Document(id=shown[:60], segments=segments),
            self.pretrained.grammar.vocabulary,
            p.text_tokenizer,
            grid=self.pretrained.grammar.grid,
            max_tokens=p.model.config.context_length,
        )

    @torch.no_grad()
    def score_tokens(
        self, sequences: Sequence[EncodedDocument], masks: Sequence[np.ndarray], allowed: range
    ) -> list[np.ndarray]:
        """Log-probabilities of the masked tokens of each sequence; all are in `allowed`."""
        results: dict[int, np.ndarray] = {}
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i].token_ids))
        for part in _batches(order, [len(s.token_ids) for s in sequences], self.tokens_per_batch):
            # Padding stands on the right, behind everything that a causal model reads.
            token_ids = self._padded([sequences[i].token_ids for i in part])
            positions = self._padded([sequences[i].positions for i in part])
            wanted = self._padded([masks[i] for i in part])[:, 1:]
            hidden = self.pretrained.model(token_ids[:, :-1], positions=positions)
            scored = self._log_probs(hidden, token_ids[:, 1:], wanted, allowed)
            results |= zip(part, scored, strict=True)
        return [results[i] for i in range(len(sequences))]

    @torch.no_grad()
    def _score_behind_images(self, sequences: Sequence[EncodedDocument]) -> list[np.ndarray]:
        """Log-probabilities of the text and EOS of `BOS BOI codes EOI text EOS`."""
        eoi = self.pretrained.vocabulary.eoi
        by_length: dict[int, dict[bytes, list[int]]] = {}
        for i in sorted(range(len(sequences)), key=lambda i: len(sequences[i].token_ids)):
            token_ids = sequences[i].token_ids
            length = 1 + int(np.argmax(token_ids == eoi))
            by_image = by_length.setdefault(length, {})
            by_image.setdefault(token_ids[:length].tobytes(), []).append(i)
        results: dict[int, np.ndarray] = {}
        for length, by_image in by_length.items():
            runs = sorted(by_image.values(), key=len)
            results |= self._score_runs(runs, sequences, length)
        return [results[i] for i in range(len(sequences))]

    def _score_runs(
        self, runs: Sequence[list[int]], sequences: Sequence[EncodedDocument], length: int
    ) -> dict[int, np.ndarray]:
        """The same of images of one length, each with the numbers of its texts."""
        images_per_batch = max(1, self.tokens_per_batch // length)
        results: dict[int, np.ndarray] = {}
        for start in range(0, len(runs), images_per_batch):
            part = runs[start : start + images_per_batch]
            first = [sequences[run[0]] for run in part]
            prefix, last = self._read_prefixes(first, length)
            for rows, num_left in self._rectangles(part, sequences, length):
                layers = [LayerCache(*(t[-num_left:] for t in layer)) for layer in prefix]
                texts = [sequences[i] for i in rows]
                scored = self._score_behind(layers, last[-num_left:], texts)
                results |= zip(rows, scored, strict=True)
        return results

    def _read_prefixes(
        self, sequences: Sequence[EncodedDocument], length: int
    ) -> tuple[Sequence[LayerCache], Float[Tensor, "images hidden"]]:
        """Keys and values of the first `length` tokens, and what follows from the last of them."""
        model = self.pretrained.model
        token_ids = self._padded([s.token_ids[:length] for s in sequences])
        positions = self._padded([s.positions[: length + 1] for s in sequences])
        weight = model.embedding.weight
        cache = KVCache(
            model.config, len(sequences), length, dtype=weight.dtype, device=weight.device
        )
        hidden = model(token_ids, positions=positions, cache=cache)
        return cache.layers, hidden[:, -1]

    def _rectangles(
        self, runs: Sequence[Sequence[int]], sequences: Sequence[EncodedDocument], length: int
    ) -> Iterator[tuple[list[int], int]]:
        """Equally many texts of each image that has some left, and of how many images.

        The runs come shortest first, so that the images left are always the last ones.
        """
        at, runs = 0, list(runs)
        while runs:
            tokens = max(len(sequences[run[-1]].token_ids) for run in runs) - length
            scores = self.pretrained.model.config.num_heads * (length + tokens)
            budget = min(self.tokens_per_batch, _SCORES_PER_BATCH // scores)
            stop = min(len(runs[0]), at + max(1, budget // (len(runs) * tokens)))
            yield [i for run in runs for i in run[at:stop]], len(runs)
            at, runs = stop, [run for run in runs if len(run) > stop]

    def _score_behind(
        self,
        prefix: Sequence[LayerCache],
        last: Float[Tensor, "images hidden"],
        sequences: Sequence[EncodedDocument],
    ) -> list[np.ndarray]:
        length = prefix[0].keys.shape[2]
        targets = self._padded([s.token_ids[length:] for s in sequences])
        positions = self._padded([s.positions[length:] for s in sequences])
        wanted = self._padded([np.ones(len(s.token_ids) - length, np.bool_) for s in sequences])
        # The first token of a text follows from its image alone.
        hidden = last.repeat_interleave(len(sequences) // len(last), 0)[:, None]
        if targets.shape[1] > 1:
            read = self.pretrained.model(targets[:, :-1], positions=positions, prefix=prefix)
            hidden = torch.cat([hidden, read], 1)
        allowed = self.pretrained.grammar.vocabulary.text_state_range
        return self._log_probs(hidden, targets, wanted, allowed)

    def _log_probs(
        self, hidden: Tensor, targets: Tensor, wanted: Tensor, allowed: range
    ) -> list[np.ndarray]:
        """Of the wanted targets of each row; with `grammar` they compete with `allowed` alone."""
        ids = allowed if self.normalization == "grammar" else None
        scored = self.pretrained.model.head(hidden[wanted], targets[wanted], ids=ids)
        return [part.numpy() for part in scored.log_prob.cpu().split(wanted.sum(1).tolist())]

    def _padded(self, columns: Sequence[np.ndarray]) -> Tensor:
        """Arrays of different lengths as rows, filled with zeros on the right."""
        tensors = [
            torch.from_numpy(np.asarray(c, c.dtype if c.dtype == bool else int)) for c in columns
        ]
        padded = pad_sequence(tensors, batch_first=True)
        return padded.to(self.pretrained.model.embedding.weight.device)


class LikelihoodScorer:
    """Scorer by one direction; with alpha, minus alpha times the unconditional log-probability.

    alpha 1 gives pointwise mutual information, up to a constant: a text without an image may go on
    with one, so log p(text) includes the chance that it ends. Fix alpha in advance or choose it on
    validation. Reduction `mean` divides the whole, both terms, by the number of scored tokens.

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
        reduction: Reduction = "sum",
    ) -> None:
        if alpha and pretrained.condition_dropout == 0:
            raise ConfigError(
                f"alpha {alpha:g} subtracts a probability without condition, and this model was "
                "trained without condition dropout: set alpha to 0"
            )
        self._likelihood = Likelihood(pretrained, normalization)
        self.pretrained, self.reduction = pretrained, reduction
        self._direction, self._alpha = direction, alpha
        self._codes = CodeCache(pretrained)
        self.info = ScorerInfo(
            name=f"log p({direction.replace('_given_', ' | ')})"
            + (f" - {alpha:g} log p({direction.split('_')[0]})" if alpha else "")
            + (" per token" if reduction == "mean" else ""),
            unit="nats",
            settings={
                "kind": "mixed_modal",
                "direction": direction,
                "alpha": alpha,
                "normalization": normalization,
                "reduction": reduction,
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
        if self.reduction == "mean":
            totals = totals / counts
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


class CodeCache:
    """Encodes pictures, each distinct one once."""

    def __init__(self, pretrained: PretrainedModel) -> None:
        self._pretrained = pretrained
        self._codes: dict[str, Codes] = {}

    def encode(self, images: Sequence[RGBImage]) -> list[Codes]:
        """Codes of pictures of any size."""
        keys = [image_digest(image) for image in images]
        new = {k: image for k, image in zip(keys, images, strict=True) if k not in self._codes}
        self._codes.update(
            zip(new, self._pretrained.encode_images(list(new.values())), strict=True)
        )
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
