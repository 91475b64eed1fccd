"""Batches in one global order, a pure function of (seed, step): resuming needs no state.

B rows, T tokens: of the longest document, or of the context where documents are packed.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.config.data import DataConfig
from genvlm.data.corpus import Corpus
from genvlm.data.infill import rotate_at_random
from genvlm.data.order import Dealt, Epochs
from genvlm.data.packing import pack
from genvlm.data.step_rows import Entry, Steps, packed_steps, padded_steps
from genvlm.errors import DataError
from genvlm.tokenization.document import (
    EncodedDocument,
    check_length,
    count_learned,
    count_tokens,
    encode_document,
)
from genvlm.tokenization.text import TextTokenizer
from genvlm.tokenization.vocabulary import Vocabulary

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Batch:
    """Documents padded on the right, or packed into rows."""

    token_ids: Int[Tensor, "batch tokens"]
    modality: Int[Tensor, "batch tokens"]
    positions: Int[Tensor, "batch tokens 3"]
    """(frame, row, column) of codes, -1 elsewhere."""
    loss_weights: Float[Tensor, "batch tokens"]
    """0 for padding."""
    loss_denominator: float
    """Total weight of the whole global batch, over all processes and accumulation steps; 1 where
    nothing in it is learned, so that its loss is 0."""
    document_ids: Int[Tensor, "batch tokens"] | None = None
    """Of packed rows, the number of each token's document in its row; -1 for padding."""


@dataclass(frozen=True, kw_only=True)
class BatchSource:
    """Cuts a corpus into global batches of documents, or of rows packed with them."""

    corpus: Corpus
    config: DataConfig
    vocabulary: Vocabulary
    text_tokenizer: TextTokenizer
    grid: tuple[int, int]
    max_tokens: int
    global_batch_size: int
    seed: int
    modality_weights: Sequence[float]
    """Loss weight by `Modality`."""

    @property
    def batches_per_epoch(self) -> int:
        """Every sample occurs once an epoch; some batches hold a few more than others.

        Sources with weights have no common epoch: a section of the mixture then.
        """
        return self._steps.steps_per_epoch

    def batch(self, step: int, *, rank: int = 0, num_ranks: int = 1, accum: int = 1) -> list[Batch]:
        """The micro-batches of one process at one optimizer step.

        Raises:
            DataError: a shard is gone or cut short.
            TokenError: a document does not fit the context, or holds an image of another size.
        """
        rows = self._steps.rows(step)
        self.corpus.check_there([entry.sample for row in rows for entry in row])
        encode = cache(self._encode)
        weights = (self._loss_weight(entry, encode) for row in rows for entry in row)
        denominator = sum(weights) or 1.0  # where nothing is learned the loss is 0
        parts = np.array_split(np.arange(len(rows)), num_ranks * accum)
        mine = parts[rank * accum : (rank + 1) * accum]
        return [
            self._collate([[encode(*entry) for entry in rows[i]] for i in part], denominator)
            for part in mine
        ]

    def ids(self, step: int) -> list[str]:
        """The samples that a step reads, over all processes."""
        return [self.corpus.id(entry.sample) for row in self._steps.rows(step) for entry in row]

    def share_used(self, num_steps: int = 16) -> float:
        """Share of the positions of the first steps that hold a token of a document."""
        batches = [batch for step in range(num_steps) for batch in self.batch(step)]
        used = sum(int((b.token_ids != self.vocabulary.pad).sum()) for b in batches)
        return used / sum(b.token_ids.numel() for b in batches)

    def share_packed(self, row_length: int, num_documents: int = 10_000) -> float:
        """The same of rows of any length, packed with some documents of the first epoch."""
        dealt = Epochs(len(self.corpus), self.seed).section(0)
        some = dealt._replace(indices=dealt.indices[:num_documents])
        lengths = self._drawn_lengths(some._replace(epochs=dealt.epochs[:num_documents]))
        return float(lengths.sum()) / (len(pack(lengths, row_length)) * row_length)

    def check(self) -> None:
        """Name a document that does not fit the context before training, in whatever epoch.

        Raises:
            DataError: fewer documents than one global batch, of which processes would go without.
            TokenError: as `batch`.
        """
        lengths = self.corpus.token_lengths(sized=self.vocabulary.sized_images)
        too_long = np.flatnonzero(lengths > self.max_tokens)[:1]
        for index in too_long.tolist():
            check_length(self.corpus.id(index), int(lengths[index]), self.max_tokens)
        if self.config.weights is not None:
            return
        num, what = len(self.corpus), "documents"
        if self.config.packing:
            num, what = sum(map(bool, self._steps.rows(0))), f"rows of {self.max_tokens} tokens"
        if num < self.global_batch_size:
            raise DataError(
                f"the data sources hold {num} {what}, fewer than global_batch_size "
                f"{self.global_batch_size}: lower it or add documents"
            )

    @cached_property
    def _steps(self) -> Steps:
        sources, weights = self.corpus.sources, self.config.weights
        if not self.config.packing:
            return padded_steps(
                sources, weights, self.corpus.rough_lengths, self.global_batch_size, self.seed
            )
        lengths = self.corpus.token_lengths(sized=self.vocabulary.sized_images)
        return packed_steps(
            sources, weights, self._drawn_lengths, float(lengths.mean()),
            self.max_tokens, self.global_batch_size, self.seed,
        )  # fmt: skip

    def _drawn_lengths(self, dealt: Dealt) -> np.ndarray:
        """Tokens of documents as they are drawn."""
        drawn = zip(dealt.indices.tolist(), dealt.epochs.tolist(), strict=True)
        if self.config.infill is not None:  # what a rotation adds is known when it is made
            return np.array([len(self._encode(*entry).token_ids) for entry in drawn])
        sized = self.vocabulary.sized_images
        documents = (self.corpus.document(i, self.config, self.seed, epoch) for i, epoch in drawn)
        return np.array(
            [count_tokens(d, self.text_tokenizer, sized_images=sized) for d in documents]
        )

    def _loss_weight(self, entry: Entry, encode: Callable[[int, int], EncodedDocument]) -> float:
        """Total loss weight of a document, in every process by the same sum.

        Without encoding it where that can be: others may be to train on it.
        """
        if self.config.infill is not None or self.config.retrieval is not None:
            return float(encode(*entry).loss_weights.sum())
        counts = count_learned(
            self.corpus.document(entry.sample, self.config, self.seed, entry.epoch),
            self.text_tokenizer,
            sized_images=self.vocabulary.sized_images,
        )
        return float(counts @ np.asarray(self.modality_weights, np.float32))

    def _collate(self, rows: Sequence[Sequence[EncodedDocument]], denominator: float) -> Batch:
        if self.config.packing:
            return collate_rows(rows, self.vocabulary.pad, denominator, self.max_tokens)
        return collate([row[0] for row in rows], self.vocabulary.pad, denominator)

    def _encode(self, index: int, epoch: int) -> EncodedDocument:
        encoded = self._encode_whole(index, epoch)
        if self.config.infill is not None:
            name = self.corpus.id(index).encode()
            rng = np.random.default_rng([self.seed, epoch, zlib.crc32(name), 1])
            encoded = rotate_at_random(
                encoded, self.config.infill, self.vocabulary, rng, self.max_tokens
            )
        by_modality = np.asarray(self.modality_weights, np.float32)[encoded.modality]
        return encoded._replace(loss_weights=encoded.loss_weights * by_modality)

    def _encode_whole(self, index: int, epoch: int) -> EncodedDocument:
        """The document with as many retrieved ones in front of it as the context holds."""
        retrieval = self.config.retrieval
        for num in range(retrieval.num_documents if retrieval else 0, -1, -1):
            fewer = replace(retrieval, num_documents=num) if retrieval and num else None
            config = replace(self.config, retrieval=fewer)
            encoded = encode_document(
                self.corpus.document(index, config, self.seed, epoch),
                self.vocabulary,
                self.text_tokenizer,
                grid=self.grid,
                max_tokens=None if num else self.max_tokens,
            )
            if len(encoded.token_ids) <= self.max_tokens:
                break
        return encoded


def collate(documents: Sequence[EncodedDocument], pad: int, denominator: float) -> Batch:
    """Pad documents on the right into one batch."""
    longest = max(len(d.token_ids) for d in documents)
    return _filled([[d] for d in documents], pad, denominator, longest)


def collate_rows(
    rows: Sequence[Sequence[EncodedDocument]], pad: int, denominator: float, length: int
) -> Batch:
    """Documents side by side in rows of `length` tokens; a row may hold none."""
    document_ids = np.full((len(rows), length), -1, np.int64)
    for of_row, documents in zip(document_ids, rows, strict=True):
        lengths = [len(d.token_ids) for d in documents]
        of_row[: sum(lengths)] = np.repeat(np.arange(len(documents)), lengths)
    batch = _filled(rows, pad, denominator, length)
    return replace(batch, document_ids=torch.from_numpy(document_ids))


def _filled(
    rows: Sequence[Sequence[EncodedDocument]], pad: int, denominator: float, length: int
) -> Batch:
    shape = (len(rows), length)
    token_ids = np.full(shape, pad, np.int64)
    modality, positions = np.zeros(shape, np.int64), np.full((*shape, 3), -1, np.int64)
    loss_weights = np.zeros(shape, np.float32)
    for number, documents in enumerate(rows):
        end = 0
        for document in documents:
            begin, end = end, end + len(document.token_ids)
            token_ids[number, begin:end] = document.token_ids
            modality[number, begin:end] = document.modality
            positions[number, begin:end] = document.positions
            loss_weights[number, begin:end] = document.loss_weights
    return Batch(
        torch.from_numpy(token_ids),
        torch.from_numpy(modality),
        torch.from_numpy(positions),
        torch.from_numpy(loss_weights),
        denominator,
    )


AnyBatch = TypeVar("AnyBatch", bound="DataclassInstance")


def to_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """A batch of any objective with all its tensors on another device."""
    found = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{n: t.to(device) for n, t in found.items() if isinstance(t, Tensor)})
