"""Padded batches in one global order, a pure function of (seed, step): resuming needs no state.

B documents, T tokens of the longest one.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from genvlm.config.data import DataConfig
from genvlm.data.corpus import Corpus
from genvlm.data.infill import rotate_at_random
from genvlm.errors import DataError
from genvlm.tokenization.document import EncodedDocument, check_length, encode_document
from genvlm.tokenization.text import TextTokenizer
from genvlm.tokenization.vocabulary import Vocabulary

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

# Batches whose documents are sorted by length together: less padding, still a random order.
_POOL = 16


@dataclass(frozen=True)
class Batch:
    """Documents padded on the right."""

    token_ids: Int[Tensor, "batch tokens"]
    modality: Int[Tensor, "batch tokens"]
    positions: Int[Tensor, "batch tokens 3"]
    """(frame, row, column) of codes, -1 elsewhere."""
    loss_weights: Float[Tensor, "batch tokens"]
    """0 for padding."""
    loss_denominator: float
    """Total weight of the whole global batch, over all processes and accumulation steps."""


@dataclass(frozen=True, kw_only=True)
class BatchSource:
    """Cuts a corpus into global batches."""

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
        """Every sample occurs once an epoch; some batches hold a few more than others."""
        return max(1, len(self.corpus) // self.global_batch_size)

    def batch(self, step: int, *, rank: int = 0, num_ranks: int = 1, accum: int = 1) -> list[Batch]:
        """The micro-batches of one process at one optimizer step.

        Raises:
            TokenError: a document does not fit the context, or holds an image of another size.
        """
        epoch, number = divmod(step, self.batches_per_epoch)
        indices = self._order(epoch)[number]
        documents = [self._encode(i, epoch) for i in indices]
        denominator = sum(float(d.loss_weights.sum()) for d in documents)
        parts = np.array_split(np.arange(len(documents)), num_ranks * accum)
        mine = parts[rank * accum : (rank + 1) * accum]
        return [
            collate([documents[i] for i in part], self.vocabulary.pad, denominator) for part in mine
        ]

    def check(self) -> None:
        """Name a document that does not fit the context before training, in whatever epoch.

        Raises:
            DataError: fewer documents than one global batch, of which processes would go without.
            TokenError: as `batch`.
        """
        if len(self.corpus) < self.global_batch_size:
            raise DataError(
                f"the data sources hold {len(self.corpus)} documents, fewer than "
                f"global_batch_size {self.global_batch_size}: lower it or add documents"
            )
        lengths = self.corpus.token_lengths(sized=self.vocabulary.sized_images)
        too_long = np.flatnonzero(lengths > self.max_tokens)[:1]
        for index in too_long.tolist():
            check_length(self.corpus.id(index), int(lengths[index]), self.max_tokens)

    @cached_property
    def _order(self) -> Callable[[int], list[np.ndarray]]:
        return lru_cache(maxsize=1)(self._order_of)  # of the current epoch: every step asks for it

    def _order_of(self, epoch: int) -> list[np.ndarray]:
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.corpus))
        lengths = self.corpus.rough_lengths
        pool = self.global_batch_size * _POOL
        pools = [
            chunk[np.argsort(lengths[chunk], kind="stable")]
            for chunk in np.array_split(order, max(1, len(order) // pool))
        ]
        batches = np.array_split(np.concatenate(pools), self.batches_per_epoch)
        return [batches[i] for i in rng.permutation(len(batches))]

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
                self.corpus.document(int(index), config, self.seed, epoch),
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

    def padded(name: str, fill: int) -> np.ndarray:
        columns = [getattr(d, name) for d in documents]
        shape = (len(columns), longest, *columns[0].shape[1:])
        rows = np.full(shape, fill, columns[0].dtype)
        for row, column in zip(rows, columns, strict=True):
            row[: len(column)] = column
        return rows

    return Batch(
        torch.from_numpy(padded("token_ids", pad)),
        torch.from_numpy(padded("modality", 0)).long(),
        torch.from_numpy(padded("positions", -1)).long(),
        torch.from_numpy(padded("loss_weights", 0)),
        denominator,
    )


AnyBatch = TypeVar("AnyBatch", bound="DataclassInstance")


def to_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """A batch of any objective with all its tensors on another device."""
    found = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(batch, **{n: t.to(device) for n, t in found.items() if isinstance(t, Tensor)})
