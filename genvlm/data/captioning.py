"""Batches of captioned pictures for a language model: a pure function of (seed, step).

B rows, T tokens, S side in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from genvlm.data.pairs import Pairs
from genvlm.data.step_rows import Steps, plain_steps
from genvlm.tokenization.image_slots import Row


@dataclass(frozen=True)
class CaptioningBatch:
    """Rows of one forward pass, padded on the right."""

    images: UInt8[Tensor, "pictures 3 side side"]
    """In the order in which they stand in the rows."""
    token_ids: Int[Tensor, "batch tokens"]
    """0 where a picture stands, and for padding."""
    is_image: Bool[Tensor, "batch tokens"]
    loss_weights: Float[Tensor, "batch tokens"]
    """0 outside of captions."""
    loss_denominator: float
    """Total weight of the whole global batch, over all processes and accumulation steps."""


@dataclass(frozen=True, kw_only=True)
class CaptioningSource:
    """Cuts pairs into global batches."""

    pairs: Pairs
    """Of pixels as they are, uint8."""
    lay_out: Callable[[str], Row]
    """A caption behind its picture, whose patches are some of the row's tokens."""
    global_batch_size: int
    seed: int

    @property
    def batches_per_epoch(self) -> int:
        """Every pair occurs once an epoch; some batches hold a few more than others."""
        return self._steps.steps_per_epoch

    def batch(
        self, step: int, *, rank: int = 0, num_ranks: int = 1, accum: int = 1
    ) -> list[CaptioningBatch]:
        """The micro-batches of one process at one optimizer step."""
        samples = [entry.sample for row in self._steps.rows(step) for entry in row]
        rows = [self.lay_out(self.pairs.text(i)) for i in samples]
        denominator = float(sum(sum(row.learned) for row in rows))
        parts = np.array_split(np.arange(len(samples)), num_ranks * accum)
        return [
            collate_rows(
                [rows[i] for i in part],
                self.pairs.latents[[self.pairs.picture(samples[i]) for i in part]],
                denominator,
            )
            for part in parts[rank * accum : (rank + 1) * accum]
        ]

    def check(self) -> None:
        """Lay out every caption once, so that one that is too long is named before training.

        Raises:
            DataError: fewer pairs than one global batch, of which processes would go without.
            TokenError: a caption that the language model does not take.
        """
        self.pairs.check_enough(self.global_batch_size)
        for text in sorted({self.pairs.text(i) for i in range(len(self.pairs))}):
            self.lay_out(text)

    @cached_property
    def _steps(self) -> Steps:
        return plain_steps(len(self.pairs), self.global_batch_size, self.seed)


def collate_rows(
    rows: Sequence[Row], images: UInt8[Tensor, "pictures 3 side side"], denominator: float
) -> CaptioningBatch:
    """Rows of any lengths as one batch."""
    longest = max(len(row.token_ids) for row in rows)
    token_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    is_image = torch.zeros(len(rows), longest, dtype=torch.bool)
    weights = torch.zeros(len(rows), longest)
    for number, row in enumerate(rows):
        length = len(row.token_ids)
        token_ids[number, :length] = torch.tensor(row.token_ids)
        is_image[number, :length] = torch.tensor(row.is_image)
        weights[number, :length] = torch.tensor(row.learned, dtype=torch.float32)
    return CaptioningBatch(images, token_ids, is_image, weights, denominator)
