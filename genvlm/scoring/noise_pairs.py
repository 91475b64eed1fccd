"""The (noise level, noise) pairs at which a diffusion model is asked: the same for every text.

What two texts differ by is small beside what one noise differs from another, so that only scores at
the same pairs can be compared. Pair i of a seed is the same however many there are, and the first n
pairs are spread over the levels for every n: nothing is lost when more are taken later.
T noise levels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from genvlm.errors import ConfigError

Spread = Literal["nested", "even"]
"""nested: uniform over levels, the same first pairs whatever their number. even: the evenly spaced
levels of the published classifier, whose grid depends on the number of pairs."""


@dataclass(frozen=True)
class NoisePairs:
    """Levels of all pairs, and the seed of their noises."""

    levels: Int64[np.ndarray, " pairs"]
    seed: int

    def __len__(self) -> int:
        return len(self.levels)

    def noise(
        self, pairs: Int[np.ndarray, " chosen"], shape: tuple[int, ...]
    ) -> Float[Tensor, "chosen ..."]:
        """Standard normal noise of these pairs: a function of seed, number and shape alone."""
        drawn = torch.empty(len(pairs), *shape)
        for row, pair in zip(drawn, pairs.tolist(), strict=True):
            entropy = np.random.SeedSequence([self.seed, pair]).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(entropy[0]) >> 1)  # 63 bits
            torch.randn(shape, generator=generator, out=row)
        return drawn


def draw_pairs(num_pairs: int, num_levels: int, seed: int, spread: Spread = "nested") -> NoisePairs:
    """Pairs of a seed.

    Raises:
        ConfigError: no pair, a negative seed, or more evenly spaced levels than there are.
    """
    if num_pairs < 1:
        raise ConfigError(f"an estimate takes at least 1 sample, got {num_pairs}")
    if seed < 0:
        raise ConfigError(f"a seed is 0 or more, got {seed}")
    if spread == "even":
        return NoisePairs(even_levels(num_pairs, num_levels), seed)
    return NoisePairs(nested_levels(num_pairs, num_levels, seed), seed)


def nested_levels(num_pairs: int, num_levels: int, seed: int) -> Int64[np.ndarray, " pairs"]:
    """Levels in van der Corput's order, all shifted by one random number.

    The shift makes every one of them uniform over the levels, and so the mean over any number of
    pairs unbiased (Cranley & Patterson 1976); the order spreads the first n over the levels.
    """
    shift = np.random.default_rng(seed).random()
    fractions = (_van_der_corput(num_pairs) + shift) % 1
    # A fraction next to 1 may be rounded up to the number of levels.
    levels: Int64[np.ndarray, " pairs"] = np.minimum(
        (fractions * num_levels).astype(np.int64), num_levels - 1
    )
    return levels


def even_levels(num_pairs: int, num_levels: int) -> Int64[np.ndarray, " pairs"]:
    """The published grid: every (T // n)-th level from T // n // 2 on, where n pairs are asked for.

    Li et al. 2023 (arXiv 2303.16203), their code. The order spreads every beginning, as above.

    Raises:
        ConfigError: more pairs than levels.
    """
    if num_pairs > num_levels:
        raise ConfigError(
            f"{num_pairs} evenly spaced levels do not fit into a schedule of {num_levels}: take "
            "fewer samples, or nested ones"
        )
    step = num_levels // num_pairs
    grid = np.arange(step // 2, num_levels, step, dtype=np.int64)[:num_pairs]
    return grid[_spread_order(num_pairs)]


def _spread_order(num: int) -> Int64[np.ndarray, " num"]:
    """0 .. num - 1 in an order whose every beginning is spread over them."""
    size = 1 << (num - 1).bit_length()
    order = (_van_der_corput(size) * size).astype(np.int64)
    return order[order < num]


def _van_der_corput(num: int) -> Float64[np.ndarray, " num"]:
    """0, 1/2, 1/4, 3/4, 1/8 ...: the bits of 0, 1, 2 ... mirrored at the point."""
    numbers, fractions, place = np.arange(num), np.zeros(num), 0.5
    while numbers.any():
        fractions += place * (numbers & 1)
        numbers, place = numbers >> 1, place / 2
    return fractions
