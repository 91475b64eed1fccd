"""Captioned pictures as noisy latents: batches that are a pure function of (seed, step).

B rows, C H W of a latent, T tokens. Nothing that is drawn depends on the number of processes or on
accumulation, so that resuming needs no state.
"""

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num, UInt8
from scipy.special import expit, ndtri
from torch import Tensor

from genvlm.config.captioned import CaptionedDataConfig
from genvlm.config.data import DrawnSource, FileSource, ShardsSource
from genvlm.data.distinct import CHUNK, DistinctVisuals
from genvlm.data.images import RGBImage
from genvlm.data.skipping import SkipBudget
from genvlm.data.sources import (
    Sample,
    count_visuals,
    hash_sources,
    read_source,
    samples_json,
)
from genvlm.data.step_rows import Entry, Steps, plain_steps
from genvlm.errors import DataError
from genvlm.nn.safetensors_folder import fingerprint_of
from genvlm.nn.whole_files import hold_folder, write_whole
from genvlm.tokenization.image import fit_squares

LevelSampling = Literal["uniform", "logit_normal"]
EncodeTexts = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
"""Texts to padded pieces and where they stand; "" is the text that says nothing."""

# What a batch's own numbers are drawn for.
_LEVELS, _NOISE = 1, 2


@dataclass(frozen=True)
class Pairs:
    """Captions and pictures; captions may share one."""

    samples: Sequence[Sample]
    """A text and the number of a latent."""
    latents: Num[Tensor, "pictures c h w"]
    """What pictures are encoded as: latents, or pixels as they are."""

    def __len__(self) -> int:
        return len(self.samples)

    def text(self, index: int) -> str:
        """The caption of a sample."""
        return next(s for s in self.samples[index].segments if isinstance(s, str))

    def picture(self, index: int) -> int:
        """The number of its latent."""
        return next(s for s in self.samples[index].segments if isinstance(s, int))

    def check_enough(self, global_batch_size: int) -> None:
        """Raises DataError: fewer pairs than one global batch, so that processes go without."""
        if len(self) < global_batch_size:
            raise DataError(
                f"the data sources hold {len(self)} pairs, fewer than global_batch_size "
                f"{global_batch_size}: lower it or add pairs"
            )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over captions and latents: what a run must find again to go on."""
        digest = hashlib.sha256(samples_json(self.samples))
        digest.update(self.latents.contiguous().numpy().tobytes())
        return digest.hexdigest()


def build_pairs(
    config: CaptionedDataConfig,
    encode: Callable[[Sequence[RGBImage]], Num[Tensor, "pictures c h w"]],
    key: str,
    cache: Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pairs:
    """Render or read every source and encode each picture once.

    Args:
        encode: latents of pictures of any size, on the CPU.
        key: fingerprint of what `encode` computes.
        cache: a folder for the result.

    Raises:
        DataError: the sources are empty, or a file of one does not fit.
        StorageError: the cache cannot be written.
    """
    if cache is not None:
        state = hash_sources(enumerate(_sources(config)), config.max_bad_share)
        path = cache / f"latents-{fingerprint_of([state, key])[:16]}.npz"
        # All processes of a run come here: the first one writes, the others wait and find it done.
        with hold_folder(cache, wait=True):
            if not path.is_file():
                _save(_encode_sources(config, encode, progress), path)
        return _load(path)
    return _encode_sources(config, encode, progress)


def _sources(config: CaptionedDataConfig) -> list[DrawnSource | FileSource]:
    return [source for source in config.sources if not isinstance(source, ShardsSource)]


def _encode_sources(
    config: CaptionedDataConfig,
    encode: Callable[[Sequence[RGBImage]], Num[Tensor, "pictures c h w"]],
    progress: Callable[[int, int], None],
) -> Pairs:
    total = sum(count_visuals(source) for source in _sources(config))
    samples: list[Sample] = []
    encoded: list[Tensor] = []

    def encode_some(pictures: Sequence[RGBImage]) -> None:
        if pictures:
            encoded.append(encode(pictures))
            progress(len(samples), max(total, len(samples)))

    distinct = DistinctVisuals()
    skips = SkipBudget(config.max_bad_share)
    for number, source in enumerate(_sources(config)):
        for sample, load in read_source(source, f"{number}-{source.kind}", skips):
            try:
                pictures = load()
            except DataError as error:
                skips.skip(sample.id, str(error))
                continue
            skips.keep()
            own = [distinct.number(picture) for picture in pictures]
            segments = tuple(own[s] if isinstance(s, int) else s for s in sample.segments)
            samples.append(replace(sample, segments=segments))
            encode_some(distinct.take(CHUNK))
    encode_some(distinct.take())
    skips.finish()
    if not samples:
        raise DataError("the data sources hold no documents")
    return Pairs(samples, torch.cat(encoded))


def _save(pairs: Pairs, path: Path) -> None:
    text, content = np.frombuffer(samples_json(pairs.samples), np.uint8), io.BytesIO()
    np.savez_compressed(content, encoded=pairs.latents.numpy(), samples=text)
    write_whole(path, content.getvalue())


def _load(path: Path) -> Pairs:
    try:
        # Opened here: numpy leaves a file open whose zip directory is damaged.
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            encoded, text = file["encoded"], file["samples"].tobytes()
        samples = [
            Sample(i, tuple(segments), kind, tuple(loss) if loss is not None else None)
            for i, segments, kind, loss in json.loads(text)
        ]
    except (
        OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile,
        zlib.error,
    ) as error:  # fmt: skip
        raise DataError(f"{path} is damaged ({error}): delete it, it is made again") from None
    return Pairs(samples, torch.from_numpy(encoded))


@dataclass(frozen=True)
class PairBatch:
    """Rows of one forward pass."""

    latents: Float[Tensor, "batch c h w"]
    pieces: Int[Tensor, "batch tokens"]
    """Of the captions, some of which are dropped."""
    mask: Bool[Tensor, "batch tokens"]
    levels: Int[Tensor, " batch"]
    noise: Float[Tensor, "batch c h w"]
    loss_denominator: float
    """Rows of the whole global batch, over all processes and accumulation steps."""


@dataclass(frozen=True, kw_only=True)
class PairSource:
    """Cuts pairs into global batches."""

    pairs: Pairs
    encode_texts: EncodeTexts
    condition_dropout: float
    num_levels: int
    level_sampling: LevelSampling
    global_batch_size: int
    seed: int

    @property
    def batches_per_epoch(self) -> int:
        """Every pair occurs once an epoch; some batches hold a few more than others."""
        return self._steps.steps_per_epoch

    def batch(
        self, step: int, *, rank: int = 0, num_ranks: int = 1, accum: int = 1
    ) -> list[PairBatch]:
        """The micro-batches of one process at one optimizer step."""
        entries = [entry for row in self._steps.rows(step) for entry in row]
        rows = np.arange(len(entries))
        levels, noise = self._levels(step, len(rows)), self._noise(step, len(rows))
        parts = np.array_split(rows, num_ranks * accum)
        return [
            self._rows([entries[i] for i in part], levels[part], noise[part], float(len(rows)))
            for part in parts[rank * accum : (rank + 1) * accum]
        ]

    def check(self) -> None:
        """Encode every caption once, so that one that is too long is named before training.

        Raises:
            DataError: fewer pairs than one global batch, of which processes would go without.
            TokenError: a caption that the text encoder does not take.
        """
        self.pairs.check_enough(self.global_batch_size)
        for text in sorted({self.pairs.text(i) for i in range(len(self.pairs))}):
            self.encode_texts([text])

    @cached_property
    def _steps(self) -> Steps:
        return plain_steps(len(self.pairs), self.global_batch_size, self.seed)

    def _levels(self, step: int, num: int) -> Int[Tensor, " batch"]:
        """Levels that cover the schedule evenly (Kingma et al. 2021, App. I.1: less variance)."""
        start = np.random.default_rng([self.seed, step, _LEVELS]).random()
        shares = (start + np.arange(num) / num) % 1
        if self.level_sampling == "logit_normal":
            shares = expit(ndtri(shares))
        levels = np.floor(shares * self.num_levels).astype(np.int64)
        return torch.from_numpy(np.minimum(levels, self.num_levels - 1))

    def _noise(self, step: int, num: int) -> Float[Tensor, "batch c h w"]:
        state = np.random.SeedSequence([self.seed, step, _NOISE]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        return torch.randn(num, *self.pairs.latents.shape[1:], generator=generator)

    def _rows(
        self, entries: Sequence[Entry], levels: Tensor, noise: Tensor, denominator: float
    ) -> PairBatch:
        texts = ["" if self._dropped(e) else self.pairs.text(e.sample) for e in entries]
        pieces, mask = self.encode_texts(texts)
        latents = self.pairs.latents[[self.pairs.picture(e.sample) for e in entries]]
        return PairBatch(latents, pieces, mask, levels, noise, denominator)

    def _dropped(self, entry: Entry) -> bool:
        name = zlib.crc32(self.pairs.samples[entry.sample].id.encode())
        drawn = np.random.default_rng([self.seed, entry.epoch, name]).random()
        return bool(drawn < self.condition_dropout)


def standardised(pairs: Pairs, mean: Float[Tensor, " c"], std: Float[Tensor, " c"]) -> Pairs:
    """The same pairs with latents of unit scale."""
    return replace(pairs, latents=(pairs.latents - mean[:, None, None]) / std[:, None, None])


def build_pixel_pairs(
    config: CaptionedDataConfig,
    side: int,
    cache: Path | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Pairs:
    """`build_pairs` of pixels as they are; models that read one size share what is kept."""
    encode = partial(fit_pixels, side=side)
    return build_pairs(config, encode, f"pixels {side}", cache, progress)


def fit_pixels(images: Sequence[RGBImage], side: int) -> UInt8[Tensor, "images 3 side side"]:
    """Pictures of any size scaled to fit and padded to a white square."""
    return torch.from_numpy(fit_squares(images, side)).permute(0, 3, 1, 2).contiguous()


def as_pixels(
    images: UInt8[Tensor, "batch 3 side side"], dtype: torch.dtype
) -> Float[Tensor, "batch 3 side side"]:
    """Pixels in [-1, 1] of `fit_pixels`, in the numbers of a model: bfloat16 under DeepSpeed."""
    return images.to(dtype) / 127.5 - 1
