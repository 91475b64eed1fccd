"""Batches of captioned pictures for models that compare both: a pure function of (seed, step).

B pairs, T tokens, S side in pixels.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from genvlm.data.order import Mixture
from genvlm.data.pairs import EncodeTexts, Pairs
from genvlm.data.scenes import RELATIONS
from genvlm.data.step_rows import Steps
from genvlm.nn.safetensors_folder import fingerprint_of


@dataclass(frozen=True)
class CaptionBatch:
    """Pairs of one forward pass; the negatives of all of them stand behind all captions."""

    images: UInt8[Tensor, "batch 3 side side"]
    pieces: Int[Tensor, "texts tokens"]
    """Of B captions, and of B negatives where there are any."""
    mask: Bool[Tensor, "texts tokens"]
    allowed: Bool[Tensor, " texts"]
    """False where a caption has no negative."""
    codes: Int[Tensor, "batch cells"] | None
    """Of the pictures, row by row, where a model learns them."""
    loss_denominator: float
    """Pairs of the whole global batch, over all processes and accumulation steps."""


@dataclass(frozen=True, kw_only=True)
class CaptionSource:
    """Cuts pairs into global batches of one size, which may reach from one epoch into the next."""

    pairs: Pairs
    """Of pixels as they are, uint8."""
    encode_texts: EncodeTexts
    texts_fingerprint: str
    """Of what encodes texts."""
    codes: Int[Tensor, "pictures cells"] | None = None
    """Of an image tokenizer, where a model learns them."""
    negatives: bool
    """Whether captions that compare get a negative: what is compared, swapped."""
    global_batch_size: int
    seed: int

    @property
    def fingerprint(self) -> str:
        """sha256 over pairs and codes: what a run must find again to go on."""
        if self.codes is None:
            return self.pairs.fingerprint
        digest = hashlib.sha256(self.codes.numpy().tobytes())
        return fingerprint_of([self.pairs.fingerprint, digest.hexdigest()])

    @property
    def batches_per_epoch(self) -> int:
        """Whole ones."""
        return max(1, len(self.pairs) // self.global_batch_size)

    def batch(
        self, step: int, *, rank: int = 0, num_ranks: int = 1, accum: int = 1
    ) -> list[CaptionBatch]:
        """The micro-batches of one process at one optimizer step."""
        samples = [entry.sample for row in self._steps.rows(step) for entry in row]
        parts = np.array_split(samples, num_ranks * accum)
        return [
            self._rows(part.tolist(), float(len(samples)))
            for part in parts[rank * accum : (rank + 1) * accum]
        ]

    def check(self) -> None:
        """Encode every text once, so that one that is too long is named before training.

        Raises:
            DataError: fewer pairs than one global batch.
            TokenError: a text that the text encoder does not take.
        """
        self.pairs.check_enough(self.global_batch_size)
        captions = sorted({self.pairs.text(i) for i in range(len(self.pairs))})
        swapped = [swapped_caption(text) for text in captions] if self.negatives else []
        for text in (*captions, *(text for text in swapped if text is not None)):
            self.encode_texts([text])

    @cached_property
    def _steps(self) -> Steps:
        order = Mixture([range(len(self.pairs))], [1.0], self.global_batch_size, self.seed)
        return Steps(order, 1, lambda dealt, num: [np.arange(len(dealt.indices))[:, None]])

    def _rows(self, samples: Sequence[int], denominator: float) -> CaptionBatch:
        captions = [self.pairs.text(i) for i in samples]
        allowed = torch.ones(len(captions), dtype=torch.bool)
        if self.negatives:
            swapped = [swapped_caption(text) for text in captions]
            there = torch.tensor([text is not None for text in swapped], dtype=torch.bool)
            captions += [text or "" for text in swapped]
            allowed = torch.cat([allowed, there])
        pieces, mask = self.encode_texts(captions)
        pictures = [self.pairs.picture(i) for i in samples]
        codes = None if self.codes is None else self.codes[pictures]
        return CaptionBatch(self.pairs.latents[pictures], pieces, mask, allowed, codes, denominator)


def swapped_caption(text: str) -> str | None:
    """What is left of something, right of it instead: "b above a" of "a above b".

    None of texts that compare nothing, or that say the same when swapped.
    """
    for relation in RELATIONS:
        first, found, second = text.partition(f" {relation} ")
        if found:
            return f"{second} {relation} {first}" if first != second else None
    return None
